//! Reading the Cookie field: RFC 6265 section 4.2.

/// The values of the cookie `name` in the order they were sent. Names are compared
/// byte by byte; quotes belong to the value. A pair without `=` is no cookie.
pub(crate) fn values<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .flat_map(|field| field.split(|&b| b == b';'))
        .filter_map(|pair| {
            let equals = pair.iter().position(|&b| b == b'=')?;
            let (left, right) = pair.split_at(equals);
            Some((left.trim_ascii(), right[1..].trim_ascii()))
        })
        .filter(move |(found, _)| *found == name.as_bytes())
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(fields: &'a [&'a str], name: &'a str) -> Vec<&'a str> {
        values(fields.iter().map(|f| f.as_bytes()), name)
            .map(|v| std::str::from_utf8(v).unwrap())
            .collect()
    }

    #[test]
    fn finds_all_values_in_order_over_all_lines() {
        assert_eq!(read(&["a=1; b=2;a=3", "a=4"], "a"), ["1", "3", "4"]);
    }

    #[test]
    fn absent_and_empty_differ() {
        assert!(read(&["a=1"], "b").is_empty());
        assert_eq!(read(&["a=; b"], "a"), [""]);
        assert!(read(&["a=; b"], "b").is_empty());
    }

    #[test]
    fn value_keeps_quotes_and_further_equals_signs() {
        assert_eq!(read(&["t=\"x=y==\""], "t"), ["\"x=y==\""]);
    }

    #[test]
    fn names_are_case_sensitive_and_whole() {
        assert!(read(&["Session=1; xsession=2"], "session").is_empty());
    }
}
