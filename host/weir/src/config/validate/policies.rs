//! Policies: component, namespaces, grants, limits.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::super::compound::Named;
use super::super::errors::{Findings, Place};
use super::super::model::{Component, Grant, Grants, Guard, Policy};
use super::super::raw;
use super::super::read::At;
use super::super::secret::open_file;
use super::{bytes, cores, to_u32, to_usize, value};
use crate::registry::{Image, SCHEME};

/// Instances by default, for each core.
const INSTANCES_PER_CORE: usize = 4;

pub(super) fn resolve(
    named: Named<raw::Policy>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<String, Policy>> {
    check_namespaces(&named, findings);
    // Not lazily: each is to report its errors.
    let resolved: Vec<_> = named
        .0
        .into_iter()
        .map(|(name, policy)| Some((name, resolve_one(policy.value?, folder, findings)?)))
        .collect();
    resolved.into_iter().collect()
}

fn resolve_component(
    component: &At<PathBuf>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Component> {
    let named = component.value.to_str().filter(|it| it.starts_with(SCHEME));
    if let Some(named) = named {
        return match Image::parse(named) {
            Ok(image) if image.digest().is_some() => Some(Component::Registry(image)),
            wrong => {
                findings.error(
                    &component.place,
                    match wrong {
                        Ok(_) => {
                            "a tag can be moved: two nodes could load two components".to_owned()
                        }
                        Err(error) => format!("{error:#}"),
                    },
                    "write oci://HOST/NAME@sha256:DIGEST, with the digest that the push printed",
                );
                None
            }
        };
    }
    let path = folder.join(&component.value);
    if findings.check_files
        && let Err(error) = open_file(&path)
    {
        findings.error(
            &component.place,
            format!("the component {} cannot be read: {error}", path.display()),
            format!("build it: weir plugin build DIR -o {}", path.display()),
        );
    }
    Some(Component::File(path))
}

fn resolve_cases(cases: &At<PathBuf>, folder: &Path, findings: &mut Findings<'_>) -> PathBuf {
    let path = folder.join(&cases.value);
    if findings.check_files
        && let Err(error) = open_file(&path)
    {
        findings.error(
            &cases.place,
            format!("the cases {} cannot be read: {error}", path.display()),
            "name a file of cases, or remove the key",
        );
    }
    path
}

fn resolve_one(raw: raw::Policy, folder: &Path, findings: &mut Findings<'_>) -> Option<Policy> {
    let line = raw
        .component
        .as_ref()
        .map(|component| findings.line(&component.place));
    let component = raw
        .component
        .map(|component| resolve_component(&component, folder, findings));
    let memory_limit = bytes(&raw.memory_limit)?;
    let max_instances = raw
        .max_instances
        .map_or_else(|| INSTANCES_PER_CORE * cores(), |at| to_usize(at.value));
    let total_memory = match &raw.total_memory {
        None => memory_limit.saturating_mul(max_instances as u64),
        Some(total) => {
            if total.value.0 < memory_limit {
                findings.error(
                    &total.place,
                    format!("no instance could use the {memory_limit} bytes of memory_limit"),
                    "write a larger total_memory, or a smaller memory_limit",
                );
            }
            total.value.0
        }
    };
    Some(Policy {
        component: component??,
        line: line?,
        cases: raw
            .cases
            .map(|cases| resolve_cases(&cases, folder, findings)),
        namespaces: raw
            .namespaces?
            .value
            .values
            .into_iter()
            .map(|at| at.value)
            .collect(),
        grants: grants(&raw.grants?.value.values),
        config: raw.config?.value.0,
        cpu_limit: value(&raw.cpu_limit)?,
        memory_limit,
        total_memory,
        max_instances,
        reuse: to_u32(value(&raw.reuse)?),
        memo: value(&raw.memo)?,
        guard: guard(&raw.guard?.value)?,
    })
}

fn guard(raw: &raw::Guard) -> Option<Guard> {
    Some(Guard {
        failures: value(&raw.failures)?,
        min_calls: value(&raw.min_calls)?,
        window: value(&raw.window)?,
        cpu: value(&raw.cpu),
        hit_ratio: value(&raw.hit_ratio),
        origin_errors: value(&raw.origin_errors),
        retry_after: value(&raw.retry_after)?,
    })
}

fn grants(listed: &[At<Grant>]) -> Grants {
    let has = |grant| listed.iter().any(|at| at.value == grant);
    Grants {
        kv: has(Grant::Kv),
        rate_limit: has(Grant::RateLimit),
        log: has(Grant::Log),
        clock: has(Grant::Clock),
    }
}

/// Checks the names, and that each belongs to one policy: what one stores
/// under it, another must not read or purge.
fn check_namespaces(policies: &Named<raw::Policy>, findings: &mut Findings<'_>) {
    let mut owners: HashMap<&str, &Place> = HashMap::new();
    let listed = policies.0.iter().filter_map(|(_, policy)| {
        policy
            .value
            .as_ref()
            .and_then(|policy| policy.namespaces.as_ref())
    });
    // In the order of the file, so that the later one is the duplicate.
    let mut listed: Vec<_> = listed.collect();
    listed.sort_by_key(|namespaces| namespaces.place.span.start);
    for namespaces in listed {
        if namespaces.value.is_empty {
            findings.error(
                &namespaces.place,
                "a policy needs at least one namespace for its keys",
                "write namespaces = [\"site\"]",
            );
        }
        for At { value, place } in &namespaces.value.values {
            if !is_namespace(value) {
                findings.error(
                    place,
                    format!("{value:?} is not a namespace"),
                    "use small letters, digits, `-` and `_`, beginning with a letter or digit, at most 64",
                );
            } else if let Some(owner) = owners.insert(value, place) {
                findings.error(
                    place,
                    format!(
                        "the namespace {value:?} is taken by {} on line {}",
                        owner.path,
                        findings.line(owner)
                    ),
                    "a namespace belongs to one policy; choose another name or remove one",
                );
            }
        }
    }
}

/// `[a-z0-9][a-z0-9_-]{0,63}`
fn is_namespace(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || b == b'_' || b == b'-')
}
