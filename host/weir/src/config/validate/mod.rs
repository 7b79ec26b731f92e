//! From the configuration as written to the configuration as resolved: bounds
//! that depend on other keys, references between tables, files.

mod compress;
mod deploy;
mod disk;
mod listen;
mod policies;
mod redis;
mod redis_url;
mod routes;
mod tls;
mod upstreams;

use std::path::Path;

use super::errors::Findings;
use super::model::{Admin, Cache, Config, Limits, Log, Memory};
use super::raw;
use super::read::At;
use super::units::Size;

/// The default of `cache.max_object` is at most this.
const MAX_OBJECT: u64 = 64 << 20;

/// Resolves a whole configuration. None when an error was found, here or while
/// it was read; all are in `findings`.
pub(super) fn config(root: raw::Root, file: &Path, findings: &mut Findings<'_>) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new(""));
    listen::check(&root, findings);
    let admin = root
        .admin
        .map(|admin| resolve_admin(admin.value, folder, findings));
    let tls = root
        .tls
        .map(|tls| tls::resolve(tls.value, folder, findings));
    let has_second = root.redis.is_some() || root.disk.is_some();
    let memory = root
        .memory
        .and_then(|memory| resolve_memory(&memory.value, has_second, findings));
    let cache = root
        .cache
        .and_then(|cache| resolve_cache(&cache.value, memory, findings));
    let trusted_keys = deploy::resolve(root.deploy, folder, findings);
    let disk = root.disk.map(|disk| {
        let around = disk::Around {
            folder,
            data_dir: root.data_dir.as_ref().map(|dir| dir.value.as_path()),
            cache: cache.as_ref(),
            redis: root.redis.as_ref().map(|redis| &redis.place),
        };
        disk::resolve(disk, &around, findings)
    });
    let redis = root
        .redis
        .map(|redis| redis::resolve(redis, folder, findings));
    routes::check_uses(
        root.routes.as_ref(),
        root.upstreams.as_ref(),
        root.policies.as_ref(),
        findings,
    );
    let routes = routes::resolve(
        root.routes,
        root.upstreams.as_ref(),
        root.policies.as_ref(),
        findings,
    );
    let upstreams = root
        .upstreams
        .map(|named| upstreams::resolve(named.value, folder, findings));
    let policies = root
        .policies
        .map(|named| policies::resolve(named.value, folder, findings));
    if findings.check_files
        && let Some(dir) = &root.data_dir
        && folder
            .join(&dir.value)
            .metadata()
            .is_ok_and(|found| !found.is_dir())
    {
        findings.error(
            &dir.place,
            format!("{} is not a folder", folder.join(&dir.value).display()),
            "name a folder; it is made if it does not exist",
        );
    }
    if findings.has_errors() {
        return None;
    }
    Some(Config {
        file: file.to_owned(),
        listen: root
            .listen?
            .value
            .0
            .values
            .into_iter()
            .map(|listen| listen.value)
            .collect(),
        // An inner None is an error; an outer one means that the table is absent.
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        data_dir: root.data_dir.map(|dir| folder.join(dir.value)),
        threads: root
            .threads
            .map_or_else(cores, |threads| to_usize(threads.value)),
        limits: resolve_limits(&root.limits?.value)?,
        admin: admin.map_or(Some(None), |admin| admin.map(Some))?,
        trusted_keys: trusted_keys?,
        log: resolve_log(&root.log?.value)?,
        memory: memory?,
        cache: cache?,
        redis: redis.map_or(Some(None), |redis| redis.map(Some))?,
        disk: disk.map_or(Some(None), |disk| disk.map(Some))?,
        upstreams: upstreams??,
        policies: policies??,
        routes: routes?,
        warnings: Vec::new(),
    })
}

/// The number of CPU cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn value<T: Copy>(at: &Option<At<T>>) -> Option<T> {
    at.as_ref().map(|at| at.value)
}

fn bytes(at: &Option<At<Size>>) -> Option<u64> {
    at.as_ref().map(|at| at.value.0)
}

fn resolve_limits(raw: &raw::Limits) -> Option<Limits> {
    Some(Limits {
        header_timeout: value(&raw.header_timeout)?,
        max_headers: to_usize(value(&raw.max_headers)?),
        max_header_size: to_usize(bytes(&raw.max_header_size)?),
        max_uri_size: to_usize(bytes(&raw.max_uri_size)?),
        body_timeout: value(&raw.body_timeout)?,
        write_timeout: value(&raw.write_timeout)?,
        drain_timeout: value(&raw.drain_timeout)?,
    })
}

fn resolve_log(raw: &raw::Log) -> Option<Log> {
    Some(Log {
        format: value(&raw.format)?,
        level: value(&raw.level)?,
        access: value(&raw.access)?,
    })
}

/// The least that is of use to a memory tier.
const MIN_MEMORY: u64 = 1 << 20;

fn resolve_memory(
    raw: &raw::Memory,
    has_second: bool,
    findings: &mut Findings<'_>,
) -> Option<Memory> {
    let capacity = raw.capacity.as_ref()?;
    match capacity.value.0 {
        0 if !has_second => findings.error(
            &capacity.place,
            "with the memory tier off there is no tier that could store anything",
            "write at least \"1MiB\", or add a [redis] or [disk] table",
        ),
        1..MIN_MEMORY => findings.error(
            &capacity.place,
            "the value is too small, the least is \"1MiB\"",
            "write at least \"1MiB\"; with [redis] or [disk], \"0\" turns the tier off",
        ),
        _ => {}
    }
    Some(Memory {
        capacity: capacity.value.0,
    })
}

fn resolve_cache(
    raw: &raw::Cache,
    memory: Option<Memory>,
    findings: &mut Findings<'_>,
) -> Option<Cache> {
    if let (Some(object), Some(memory)) = (&raw.max_object, memory)
        && memory.capacity > 0
        && object.value.0 > memory.capacity
    {
        findings.error(
            &object.place,
            format!(
                "an object of this size is larger than the {} bytes of memory.capacity",
                memory.capacity
            ),
            "write at most an eighth of memory.capacity, or leave the key out for just that",
        );
    }
    Some(Cache {
        longest_life: value(&raw.longest_life)?,
        max_object: match &raw.max_object {
            Some(size) => size.value.0,
            None => match memory?.capacity {
                0 => MAX_OBJECT,
                capacity => (capacity / 8).min(MAX_OBJECT),
            },
        },
        max_keyed_body: bytes(&raw.max_keyed_body)?,
        uncacheable_for: value(&raw.uncacheable_for)?,
        disconnected: value(&raw.disconnected)?,
        early_refresh: value(&raw.early_refresh)?,
        targeted: raw.targeted.as_ref().map_or_else(Vec::new, |list| {
            let names = list.value.values.iter();
            names.map(|name| name.value.0.clone()).collect()
        }),
    })
}

fn resolve_admin(raw: raw::Admin, folder: &Path, findings: &mut Findings<'_>) -> Option<Admin> {
    let listen = raw.listen?;
    let token_place = raw.token_file.as_ref().map(|file| file.place.clone());
    if token_place.is_none() && !listen.value.ip().is_loopback() {
        findings.error(
            &listen.place,
            format!("{} can be reached from other machines, and no token is asked for", listen.value.ip()),
            "add token_file = \"admin.token\", a file with a long random text, or listen on 127.0.0.1",
        );
    }
    let admin = Admin {
        listen: listen.value,
        token_file: raw.token_file.map(|file| folder.join(file.value)),
    };
    if findings.check_files
        && let (Some(place), Some(file), Err(error)) =
            (token_place, &admin.token_file, admin.token())
    {
        findings.error(
            &place,
            format!("no token can be taken from {}: {error}", file.display()),
            format!(
                "make one: head -c 32 /dev/urandom | base64 > {}",
                file.display()
            ),
        );
    }
    Some(admin)
}
