//! The Redis tier: its servers, who this node is to them, its pool.

use std::path::Path;

use url::Host;
use weir_proxy::{Certificate, CertificatePart, read_authorities, system_authorities};

use super::super::errors::{Findings, Place};
use super::super::model::{CertificateFiles, Redis, RedisSentinel, RedisServers, RedisTls};
use super::super::raw;
use super::super::read::At;
use super::super::secret::{Secret, read_secret};
use super::redis_url::{self, Target};
use super::{bytes, to_u32, value};

/// The port of sentinels.
const SENTINEL_PORT: u16 = 26379;
/// The default of `min_idle`, if the pool is that large.
const MIN_IDLE: u64 = 5;

/// What the servers' keys say together.
struct Reach {
    servers: RedisServers,
    database: Option<u32>,
    username: Option<String>,
    password: Option<Secret>,
    tls: Option<RedisTls>,
}

pub(super) fn resolve(
    redis: At<raw::Redis>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Redis> {
    let place = redis.place;
    let mut raw = redis.value;
    let reach = reach(&mut raw, &place, folder, findings);
    check_pool(&raw, findings);
    check_prefix(raw.prefix.as_ref()?, findings);
    if let (Some(object), Some(queue)) = (&raw.max_object, &raw.queue)
        && object.value > queue.value
    {
        let (place, hint) = if object.place.given {
            (
                &object.place,
                "write a smaller max_object, or a larger queue",
            )
        } else {
            (
                &queue.place,
                "write a larger queue, or a smaller max_object (\"8MiB\" by default)",
            )
        };
        findings.error(
            place,
            "an object of max_object bytes would never fit into the queue",
            hint,
        );
    }
    let reach = reach?;
    let in_url = reach.password.as_ref().map(|_| "the URL");
    check_password(&raw, in_url, folder, findings);
    let database = database(&raw, &reach, findings);
    Some(Redis {
        servers: reach.servers,
        database,
        username: raw.username.map(|at| at.value).or(reach.username),
        given_password: raw
            .password
            .map(|at| Secret::new(at.value))
            .or(reach.password),
        password_file: raw.password_file.map(|file| folder.join(file.value)),
        tls: reach.tls,
        protocol: value(&raw.protocol)?,
        prefix: raw.prefix?.value,
        pool_size: to_u32(value(&raw.pool_size)?),
        min_idle: to_u32(value(&raw.min_idle).unwrap_or(MIN_IDLE.min(value(&raw.pool_size)?))),
        deadline: value(&raw.deadline)?,
        coherence_window: value(&raw.coherence_window)?,
        max_object: bytes(&raw.max_object)?,
        queue: bytes(&raw.queue)?,
        compress_above: bytes(&raw.compress_above),
        lease: value(&raw.lease)?,
        connections_ttl: value(&raw.connections_ttl)?,
    })
}

/// Where the servers are: of `url`, `urls` and `sentinel` there must be one.
fn reach(
    raw: &mut raw::Redis,
    place: &Place,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Reach> {
    let mut given: Vec<Place> = Vec::new();
    given.extend(raw.url.as_ref().map(|at| at.place.clone()));
    given.extend(raw.urls.as_ref().map(|at| at.place.clone()));
    given.extend(raw.sentinel.as_ref().map(|at| at.place.clone()));
    if let [_, second, ..] = &given[..] {
        let hint = "keep one of `url`, `urls` and `sentinel`";
        findings.error(second, "where Redis is, is said already", hint);
        return None;
    }
    let tls = raw.tls.take();
    let tls_place = tls.as_ref().map(|at| at.place.clone());
    let tls = tls.map(|tls| resolve_tls(tls.value, folder, findings));
    let cluster = raw.cluster.as_ref()?;
    if let Some(sentinel) = raw.sentinel.take() {
        if cluster.value {
            let hint = "remove the line; a cluster has no sentinels";
            findings.error(&cluster.place, "sentinels know no clusters", hint);
        }
        let sentinel = resolve_sentinel(sentinel.value, tls.is_some(), folder, findings)?;
        check_system(sentinel.tls && tls.is_none(), place, findings);
        return Some(Reach {
            tls: tls.or_else(|| sentinel.tls.then(RedisTls::default)),
            servers: RedisServers::Sentinel(sentinel),
            database: None,
            username: None,
            password: None,
        });
    }
    let urls: Vec<&At<String>> = match (&raw.url, &raw.urls) {
        (Some(url), _) => vec![url],
        (_, Some(urls)) => urls.value.values.iter().collect(),
        (None, None) => {
            let hint = "write url = \"redis://127.0.0.1:6379/0\", or urls with cluster = true, or [redis.sentinel]";
            findings.error(&place.absent("url"), "the key is missing", hint);
            return None;
        }
    };
    if let Some(list) = &raw.urls {
        if list.value.is_empty {
            let hint = "write urls = [\"redis://HOST:7000\"]";
            findings.error(&list.place, "the list is empty", hint);
        }
        if !cluster.value {
            let hint = "write cluster = true beside it; a single server is named by `url`, and one with replicas by its sentinels";
            findings.error(&list.place, "several servers are a cluster", hint);
        }
    }
    // Not lazily: each is to report its errors.
    let targets: Vec<_> = urls
        .iter()
        .map(|url| redis_url::parse(url, findings))
        .collect();
    let targets: Vec<Target> = targets.into_iter().collect::<Option<_>>()?;
    let secured = targets.first()?.tls;
    let first = urls.first()?;
    for (url, target) in urls.iter().zip(&targets).skip(1) {
        let credentials = (&target.username, &target.password);
        let expected = (&targets.first()?.username, &targets.first()?.password);
        if target.tls != secured || credentials != expected {
            let hint = "give all of them the same scheme, user and password";
            findings.error(&url.place, "the nodes of a cluster are reached alike", hint);
        }
    }
    if let (false, Some(place)) = (secured, &tls_place) {
        let hint = "write rediss:// in the URL, or remove the table";
        findings.error(place, "Redis is reached without TLS", hint);
    }
    check_system(secured && tls.is_none(), &first.place, findings);
    let endpoints: Vec<_> = targets
        .iter()
        .map(|target| target.endpoint.clone())
        .collect();
    let database = targets.iter().find_map(|target| target.database);
    let target = targets.into_iter().next()?;
    Some(Reach {
        servers: match cluster.value {
            true => RedisServers::Cluster(endpoints),
            false => RedisServers::Single(target.endpoint),
        },
        database,
        username: target.username,
        password: target.password,
        tls: secured.then(|| tls.unwrap_or_default()),
    })
}

/// The number of the database, said once.
fn database(raw: &raw::Redis, reach: &Reach, findings: &mut Findings<'_>) -> u32 {
    if let (Some(key), Some(number)) = (&raw.database, reach.database)
        && key.value != u64::from(number)
    {
        let hint = "keep one of them";
        let message = format!("the URL gives another database, {number}");
        findings.error(&key.place, message, hint);
    }
    let number = value(&raw.database).map(to_u32).or(reach.database);
    let number = number.unwrap_or(0);
    let place = raw.database.as_ref().map(|at| &at.place);
    let place = place.or(raw.urls.as_ref().map(|at| &at.place));
    let place = place.or(raw.url.as_ref().map(|at| &at.place));
    if let (RedisServers::Cluster(_), 1.., Some(place)) = (&reach.servers, number, place) {
        let message = format!("a cluster has database 0 alone, not {number}");
        let hint = "leave the number out, and tell fleets apart by `prefix`";
        findings.error(place, message, hint);
    }
    number
}

fn resolve_sentinel(
    raw: raw::RedisSentinel,
    master_tls: bool,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<RedisSentinel> {
    let listed = raw.servers?;
    if listed.value.is_empty {
        let hint = "write servers = [\"HOST:26379\"]";
        findings.error(&listed.place, "the list is empty", hint);
    }
    let mut servers = Vec::new();
    let mut secured = None;
    for server in &listed.value.values {
        if let Some((endpoint, tls)) = redis_url::sentinel(server, SENTINEL_PORT, findings) {
            if *secured.get_or_insert(tls) != tls {
                let hint = "write rediss:// before all of them, or before none";
                let message = "sentinels are reached by TLS or without it, not by both";
                findings.error(&server.place, message, hint);
            }
            servers.push(endpoint);
        }
    }
    check_secret(raw.password_file.as_ref(), folder, findings);
    Some(RedisSentinel {
        servers,
        service: raw.service?.value,
        username: raw.username.map(|at| at.value),
        password_file: raw.password_file.map(|file| folder.join(file.value)),
        tls: secured.unwrap_or(false),
        master_tls,
    })
}

fn resolve_tls(raw: raw::RedisTls, folder: &Path, findings: &mut Findings<'_>) -> RedisTls {
    let ca_file = raw.ca_file.map(|at| (at.place, folder.join(at.value)));
    if let Some((place, file)) = ca_file.as_ref().filter(|_| findings.check_files)
        && let Err(reason) = read_authorities(file)
    {
        let hint = "name a PEM file with the certificates of the authorities";
        findings.error(place, reason, hint);
    }
    let certificate = match (raw.cert_file, raw.key_file) {
        (Some(chain), Some(key)) => {
            let files = CertificateFiles {
                chain: folder.join(&chain.value),
                key: folder.join(&key.value),
            };
            if findings.check_files
                && let Err(error) = Certificate::load(&files.chain, &files.key)
            {
                let place = match error.part {
                    CertificatePart::Chain => &chain.place,
                    CertificatePart::Key => &key.place,
                };
                let hint = "name PEM files with a certificate and its private key";
                findings.error(place, error.to_string(), hint);
            }
            Some(files)
        }
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            let hint = "name both cert_file and key_file";
            findings.error(&one.place, "a certificate goes with its key", hint);
            None
        }
    };
    if let Some(name) = &raw.server_name
        && !matches!(
            Host::parse(&name.value),
            Ok(Host::Domain(_) | Host::Ipv4(_))
        )
    {
        let hint = "write a host without a port, as it stands in the certificate";
        findings.error(&name.place, "this is not the name of a server", hint);
    }
    RedisTls {
        ca_file: ca_file.map(|(_, file)| file),
        certificate,
        server_name: raw.server_name.map(|name| name.value),
    }
}

/// Whether the system can verify anyone, where nothing else is said.
fn check_system(needed: bool, place: &Place, findings: &mut Findings<'_>) {
    if needed
        && findings.check_files
        && let Err(reason) = system_authorities()
    {
        let hint = "install them (Debian: apt-get install ca-certificates), or name some with redis.tls.ca_file";
        findings.error(place, reason, hint);
    }
}

fn check_pool(raw: &raw::Redis, findings: &mut Findings<'_>) {
    if let (Some(idle), Some(size)) = (&raw.min_idle, &raw.pool_size)
        && idle.value > size.value
    {
        findings.error(
            &idle.place,
            format!(
                "{} idle connections do not fit into a pool of {}",
                idle.value, size.value
            ),
            format!(
                "write at most min_idle = {}, or a larger pool_size",
                size.value
            ),
        );
    }
}

fn check_prefix(prefix: &At<String>, findings: &mut Findings<'_>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if prefix.value.len() > 64 || !prefix.value.bytes().all(allowed) {
        findings.error(
            &prefix.place,
            format!("{:?} cannot begin the names of keys", prefix.value),
            "use ASCII letters, digits, `-`, `_`, `.` and `:`, at most 64; braces would move keys to other slots of a cluster",
        );
    }
}

/// There must be one password at most, and its file must be of use.
fn check_password(
    raw: &raw::Redis,
    in_url: Option<&str>,
    folder: &Path,
    findings: &mut Findings<'_>,
) {
    let earlier = raw.password.as_ref().map(|_| "`password`").or(in_url);
    let later = raw.password_file.as_ref().map(|file| &file.place);
    let second = later.or(raw
        .password
        .as_ref()
        .filter(|_| in_url.is_some())
        .map(|at| &at.place));
    let first = if later.is_some() { earlier } else { in_url };
    if let (Some(first), Some(place)) = (first, second) {
        let hint = "keep one of them, best password_file";
        findings.error(place, format!("{first} gives a password already"), hint);
    }
    check_secret(raw.password_file.as_ref(), folder, findings);
}

/// The file with a password must be of use.
fn check_secret(file: Option<&At<std::path::PathBuf>>, folder: &Path, findings: &mut Findings<'_>) {
    let Some(file) = file.filter(|_| findings.check_files) else {
        return;
    };
    let path = folder.join(&file.value);
    if let Err(error) = read_secret(&path) {
        findings.error(
            &file.place,
            format!("no password can be taken from {}: {error}", path.display()),
            "write the password into that file, or remove the key if Redis asks for none",
        );
    }
}
