//! The keys of those whose components are taken.

use std::path::Path;

use super::super::errors::Findings;
use super::super::raw;
use super::super::read::At;
use crate::signing::PublicKey;

/// None when an error was found.
pub(super) fn resolve(
    raw: Option<At<raw::Deploy>>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Vec<PublicKey>> {
    let Some(listed) = raw?.value.trusted_keys else {
        return Some(Vec::new());
    };
    if listed.value.is_empty {
        findings.error(
            &listed.place,
            "the list is empty: no component could be deployed",
            "name a file with a public key; or remove the line, and signatures are not asked for",
        );
        return None;
    }
    let mut keys = Vec::new();
    for file in &listed.value.values {
        if !findings.check_files {
            continue;
        }
        match PublicKey::load(&folder.join(&file.value)) {
            Ok(key) => keys.push(key),
            Err(error) => findings.error(
                &file.place,
                format!("{error:#}"),
                "write the public key to it: openssl pkey -in KEY -pubout -out FILE",
            ),
        }
    }
    Some(keys)
}
