//! "Did you mean": the nearest known name to a mistyped one.

/// The candidate nearest to `found`, if one is so near that it was probably
/// meant: at most a third of its letters differ, case and `-`/`_` aside.
pub(super) fn nearest<'c>(
    found: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // The distance takes time in the product of the lengths.
    if found.len() > 64 {
        return None;
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let found = plain(found);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&found, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `one`, `two` and `three`: names for a message, each in backquotes.
pub(super) fn listed<'c>(names: impl IntoIterator<Item = &'c str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        many if many.len() > SHOWN => {
            format!(
                "{} and {} more",
                many[..SHOWN].join(", "),
                many.len() - SHOWN
            )
        }
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_slip_is_recognised_and_a_different_word_is_not() {
        let keys = ["upstream", "policy", "path", "host"];
        assert_eq!(nearest("upstrem", keys), Some("upstream"));
        assert_eq!(nearest("Up-Stream", keys), Some("upstream"));
        assert_eq!(nearest("hots", keys), Some("host"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), keys), None);
    }

    #[test]
    fn names_are_listed_as_a_person_would() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
