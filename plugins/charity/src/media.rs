//! Media types. RFC 9110 section 8.3.1.

use weir_sdk::Response;

/// Does the response say that its body is JSON?
pub(crate) fn is_json(response: &Response) -> bool {
    response
        .header_text("content-type")
        .is_some_and(|value| says_json(&value))
}

fn says_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::says_json;

    #[test]
    fn json_is_told_from_what_looks_like_it() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/hal+json",
        ] {
            assert!(says_json(json), "{json}");
        }
        for other in [
            "text/html",
            "text/json",
            "application/jsonp",
            "application/json-seq",
            "",
        ] {
            assert!(!says_json(other), "{other}");
        }
    }
}
