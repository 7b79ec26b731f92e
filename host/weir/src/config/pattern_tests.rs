use super::*;
use proptest::prelude::*;

fn wrong(text: &str) -> (String, String) {
    let error = PathPattern::parse(text).unwrap_err();
    (text[error.part].to_owned(), error.message)
}

#[test]
fn a_shape_has_no_names() {
    let pattern = PathPattern::parse("/a/{user_id}/img-{n}.png/{*rest}").unwrap();
    assert_eq!(pattern.as_str(), "/a/{user_id}/img-{n}.png/{*rest}");
    assert_eq!(pattern.shape(), "/a/{}/img-{}.png/{*}");
}

#[test]
fn errors_mark_the_wrong_part() {
    for (text, part, message) in [
        ("users", "users", "the path does not begin with `/`"),
        ("", "", "the path does not begin with `/`"),
        ("/a?b=c", "?b=c", "`?` ends the path of a URL"),
        ("/a b", " ", "' ' cannot stand in the path of a request"),
        ("/ü", "ü", "'ü' cannot stand in the path of a request"),
        (
            "/100%",
            "%",
            "`%` is not followed by two hexadecimal digits",
        ),
        (
            "/a/../b",
            "..",
            "no request has the segment `..` in its path",
        ),
        ("/a}", "}", "`}` has no `{` before it"),
        ("/}{a}", "}", "`}` has no `{` before it"),
        ("/{a/b}", "{a", "`{` has no `}` after it in its segment"),
        ("/{a}{b}", "{b}", "a segment has more than one parameter"),
        ("/{{a}}", "}", "a segment has more than one parameter"),
        (
            "/{*rest}/x",
            "{*rest}",
            "`{*rest}` is not at the end of the path",
        ),
        (
            "/x{*rest}",
            "{*rest}",
            "`{*rest}` is not a segment of its own",
        ),
        (
            "/{*rest}x",
            "{*rest}",
            "`{*rest}` is not a segment of its own",
        ),
        ("/{}", "{}", "`` is not a name for a parameter"),
        ("/{Id}", "{Id}", "`Id` is not a name for a parameter"),
        ("/{1a}", "{1a}", "`1a` is not a name for a parameter"),
        ("/{a}/{a}", "{a}", "the parameter `a` is there twice"),
    ] {
        assert_eq!(wrong(text), (part.to_owned(), message.to_owned()), "{text}");
    }
}

proptest! {
    #[test]
    fn what_parses_is_a_pattern_of_matchit(text in "/([a.%{}*?/é]|\\{[a-c]\\}|\\{\\*r\\}){0,8}") {
        if let Ok(pattern) = PathPattern::parse(&text) {
            let mut router = matchit::Router::new();
            prop_assert_eq!(router.insert(pattern.as_str(), ()), Ok(()));
            let example = pattern.example();
            prop_assert!(router.at(&example).is_ok(), "{} for {}", example, text);
        }
    }
}
