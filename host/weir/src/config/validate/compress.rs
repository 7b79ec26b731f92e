//! What a route compresses.

use super::super::errors::Findings;
use super::super::model::{Compress, MediaTypes};
use super::super::raw;
use super::super::read::At;
use super::bytes;

/// What `compress_types` is when nothing is said.
const COMPRESSED_TYPES: [&str; 12] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "image/svg+xml",
    "font/otf",
    "font/ttf",
];

/// What the route compresses; `None` where that cannot be read.
pub(super) fn compress(raw: &raw::Route, findings: &mut Findings<'_>) -> Option<Option<Compress>> {
    let listed = raw.compress.as_ref()?;
    let mut codings = Vec::new();
    for At { value, place } in &listed.value.values {
        if codings.contains(value) {
            findings.error(place, "the coding is listed twice", "remove one of them");
        }
        codings.push(*value);
    }
    let types = raw.compress_types.as_ref();
    let patterns = types.map_or(&[][..], |types| &types.value.values);
    for At { value, place } in patterns {
        if MediaTypes::parse([value.as_str()]).is_err() {
            findings.error(
                place,
                format!("{value:?} is not a media type"),
                "write a type and a subtype, with at most one star: \"text/*\" or \"application/json\"",
            );
        }
    }
    if codings.is_empty() {
        let others = [
            raw.compress_min.as_ref().map(|at| &at.place),
            types.map(|at| &at.place),
        ];
        for place in others.into_iter().flatten().filter(|place| place.given) {
            let hint = "add compress = [\"zstd\", \"br\", \"gzip\"], or remove the line";
            findings.warning(place, "it has no effect without compress", hint);
        }
        return Some(None);
    }
    let types = match types {
        Some(_) => MediaTypes::parse(patterns.iter().map(|at| at.value.as_str())),
        None => MediaTypes::parse(COMPRESSED_TYPES),
    };
    Some(Some(Compress {
        codings,
        min: bytes(&raw.compress_min)?,
        types: types.ok()?,
    }))
}
