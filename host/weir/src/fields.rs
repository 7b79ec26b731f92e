//! Header fields as they are given on the command line.

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads lines of `name: value`.
pub(crate) fn header_map(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("{line:?} is not a header field; write -H 'name: value'"))?;
        let name: HeaderName = name
            .trim()
            .parse()
            .with_context(|| format!("{name:?} is not a field name"))?;
        let value = HeaderValue::from_str(value.trim())
            .with_context(|| format!("{value:?} is not a field value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}
