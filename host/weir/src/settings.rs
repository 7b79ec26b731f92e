//! From the configuration to what the parts below take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use weir_policy::{Grants, Limits, PolicySpec};
use weir_proxy::{
    CacheSettings, Certificate, CompressSettings, OnPolicyError, Overrides, RedisDown,
    RouteSettings, ServerSettings, UpstreamSettings, UpstreamTls, client_tls, read_authorities,
};
use weir_store::disk::DiskConfig;
use weir_store::log::Limits as LogLimits;
use weir_store::redis::{Login, Protocol, RedisConfig, SentinelConfig, Servers, Tls};

use crate::config::{self, Config, RedisProtocol, RedisServers};

/// How long memory is trusted without Redis's word where no Redis is configured: it is
/// never asked.
const NO_WINDOW: Duration = Duration::ZERO;

pub(crate) fn server(config: &Config) -> ServerSettings {
    ServerSettings {
        listen: config.listen.clone(),
        header_timeout: config.limits.header_timeout,
        max_headers: config.limits.max_headers,
        max_header_size: config.limits.max_header_size,
        max_uri_size: config.limits.max_uri_size,
        body_timeout: config.limits.body_timeout,
        write_timeout: config.limits.write_timeout,
        drain_timeout: config.limits.drain_timeout,
    }
}

pub(crate) fn cache(config: &Config) -> CacheSettings {
    CacheSettings {
        longest_life: config.cache.longest_life,
        max_object: config.cache.max_object,
        max_keyed_body: config.cache.max_keyed_body,
        uncacheable_for: config.cache.uncacheable_for,
        disconnected: config.cache.disconnected,
        early_refresh: config.cache.early_refresh,
        targeted: config.cache.targeted.clone(),
        access_log: config.log.access,
    }
}

pub(crate) fn log(config: &Config) -> LogLimits {
    LogLimits {
        longest_life: config.cache.longest_life,
        coherence_window: config
            .redis
            .as_ref()
            .map_or(NO_WINDOW, |redis| redis.coherence_window),
        ..LogLimits::default()
    }
}

/// How long the number of upgraded connections stands in Redis; zero: it does not.
pub(crate) fn connections_ttl(config: &Config) -> Duration {
    let redis = config.redis.as_ref();
    redis.map_or(Duration::ZERO, |redis| redis.connections_ttl)
}

/// # Errors
/// When a file cannot be used; names its key.
pub(crate) fn redis(redis: &config::Redis) -> anyhow::Result<RedisConfig> {
    let tls = redis.tls.as_ref().map(redis_tls).transpose()?;
    let password = redis
        .password()
        .with_context(|| of_file("redis.password_file", redis.password_file.as_deref()))?;
    let servers = match &redis.servers {
        RedisServers::Single(endpoint) => Servers::Single(endpoint.clone()),
        RedisServers::Cluster(seeds) => Servers::Cluster(seeds.clone()),
        RedisServers::Sentinel(sentinel) => {
            let file = sentinel.password_file.as_deref();
            let password = sentinel
                .password()
                .with_context(|| of_file("redis.sentinel.password_file", file))?;
            Servers::Sentinel(SentinelConfig {
                servers: sentinel.servers.clone(),
                service: sentinel.service.clone(),
                login: Login {
                    username: sentinel.username.clone(),
                    password: password.map(|password| password.expose().to_owned()),
                },
                tls: tls.clone().filter(|_| sentinel.tls),
            })
        }
    };
    let secured = match &redis.servers {
        RedisServers::Sentinel(sentinel) => sentinel.master_tls,
        RedisServers::Single(_) | RedisServers::Cluster(_) => true,
    };
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Ok(RedisConfig {
        login: Login {
            username: redis.username.clone(),
            password: password.map(|password| password.expose().to_owned()),
        },
        database: redis.database,
        tls: tls.filter(|_| secured),
        protocol: match redis.protocol {
            RedisProtocol::Resp2 => Protocol::Resp2,
            RedisProtocol::Resp3 => Protocol::Resp3,
        },
        prefix: redis.prefix.clone(),
        pool_size: redis.pool_size,
        min_idle: redis.min_idle,
        deadline: redis.deadline,
        max_object: bytes(redis.max_object),
        compress_above: redis.compress_above.map(bytes),
        lease: redis.lease,
        queue_bytes: bytes(redis.queue),
        ..RedisConfig::new(servers)
    })
}

fn of_file(key: &str, file: Option<&Path>) -> String {
    file.map_or_else(
        || key.to_owned(),
        |file| format!("{key} {}", file.display()),
    )
}

fn redis_tls(tls: &config::RedisTls) -> anyhow::Result<Tls> {
    let shown = tls.certificate.as_ref();
    let shown = shown.map(|files| Certificate::load(&files.chain, &files.key));
    let shown = shown.transpose().context("redis.tls.cert_file")?;
    let config = client_tls(tls.ca_file.as_deref(), shown.as_ref());
    let config = config.map_err(|reason| anyhow::anyhow!("redis.tls.ca_file: {reason}"))?;
    Ok(Tls {
        config: Arc::new(config),
        server_name: tls.server_name.clone(),
    })
}

pub(crate) fn disk(disk: &config::Disk) -> DiskConfig {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    DiskConfig {
        capacity: disk.capacity,
        min_free: disk.min_free,
        max_object: bytes(disk.max_object),
        deadline: disk.deadline,
        queue_bytes: bytes(disk.queue),
        ..DiskConfig::new(&disk.path)
    }
}

/// # Errors
/// When the file of the authorities cannot be used.
pub(crate) fn upstream(
    name: &str,
    upstream: &config::Upstream,
) -> Result<UpstreamSettings, String> {
    let tls = |tls: &config::UpstreamTls| {
        Ok::<_, String>(UpstreamTls {
            authorities: tls.ca_file.as_deref().map(read_authorities).transpose()?,
            server_name: tls.server_name.clone(),
            verify: tls.verify,
        })
    };
    Ok(UpstreamSettings {
        name: name.to_owned(),
        servers: upstream
            .servers
            .iter()
            .map(config::Server::authority)
            .collect(),
        tls: upstream.tls.as_ref().map(tls).transpose()?,
        connect_timeout: upstream.connect_timeout,
        response_timeout: upstream.response_timeout,
        body_timeout: upstream.body_timeout,
        idle_timeout: upstream.idle_timeout,
        max_idle: upstream.max_idle,
        retries: upstream.retries,
    })
}

pub(crate) fn route(route: &config::Route) -> RouteSettings {
    RouteSettings {
        host: route.host.clone(),
        path: route.path.to_string(),
        upstream: route.upstream.clone(),
        policy: route.policy.clone(),
        on_policy_error: match route.on_policy_error {
            config::OnPolicyError::Pass => OnPolicyError::Pass,
            config::OnPolicyError::Rfc9111 => OnPolicyError::Rfc9111,
            config::OnPolicyError::LastGood => OnPolicyError::LastGood,
            config::OnPolicyError::Unavailable503 => OnPolicyError::Unavailable,
        },
        redis_down: match route.redis_down {
            config::RedisDown::MemoryOnly => RedisDown::MemoryOnly,
            config::RedisDown::Stale => RedisDown::Stale,
            config::RedisDown::Bypass => RedisDown::Bypass,
            config::RedisDown::Shed => RedisDown::Shed,
        },
        shed_above: route.shed_above,
        shared: route.shared,
        sealed: route.sealed,
        store_set_cookie: route.store_set_cookie,
        upgrades: route.upgrades.clone(),
        upgrade_idle_timeout: route.upgrade_idle_timeout,
        negative: route.negative.clone(),
        may_override: overrides(&route.may_override),
        compress: route.compress.as_ref().map(|compress| CompressSettings {
            codings: compress.codings.clone(),
            min: compress.min,
            types: compress.types.clone(),
        }),
    }
}

fn overrides(granted: &[config::Protection]) -> Overrides {
    let has = |protection| granted.contains(&protection);
    Overrides {
        private: has(config::Protection::Private),
        authorization: has(config::Protection::Authorization),
        set_cookie: has(config::Protection::SetCookie),
    }
}

pub(crate) fn policy(name: &str, policy: &config::Policy) -> PolicySpec {
    PolicySpec {
        name: name.to_owned(),
        namespaces: policy.namespaces.clone(),
        grants: Grants {
            kv: policy.grants.kv,
            rate_limit: policy.grants.rate_limit,
            log: policy.grants.log,
            clock: policy.grants.clock,
        },
        config: policy.config.clone(),
        limits: Limits {
            cpu: policy.cpu_limit,
            memory: usize::try_from(policy.memory_limit).unwrap_or(usize::MAX),
            total_memory: usize::try_from(policy.total_memory).unwrap_or(usize::MAX),
            instances: policy.max_instances,
            reuse: policy.reuse,
            ..Limits::default()
        },
        memo: policy.memo,
    }
}

/// Whether a component loaded under one configuration may go on under the other. The
/// file's place does not matter.
pub(crate) fn same_policy(old: &config::Policy, new: &config::Policy) -> bool {
    let what_counts = |policy: &config::Policy| {
        (
            policy.namespaces.clone(),
            policy.grants,
            policy.config.clone(),
            policy.cpu_limit,
            policy.memory_limit,
            policy.total_memory,
            policy.max_instances,
            policy.reuse,
            policy.memo,
        )
    };
    what_counts(old) == what_counts(new)
}

/// The names of granted capabilities.
pub(crate) fn grant_names(grants: config::Grants) -> Vec<String> {
    [
        ("kv", grants.kv),
        ("rate-limit", grants.rate_limit),
        ("log", grants.log),
        ("clock", grants.clock),
    ]
    .into_iter()
    .filter(|(_, granted)| *granted)
    .map(|(name, _)| name.to_owned())
    .collect()
}
