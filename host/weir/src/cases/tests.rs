use super::*;

/// A case that is good, from its second line on.
const GOOD: &str = r#"[[case]]
name = "a page"
request = { url = "https://example.org/a" }
decision = "lookup"
"#;

fn refused(text: &str) -> String {
    Suite::parse("x.toml", text).expect_err(text).to_string()
}

#[test]
fn what_is_wrong_is_said_with_line_key_and_what_to_write() {
    let with = |line: &str| format!("{GOOD}{line}\n");
    let instead = |request: &str| GOOD.replace(r#"{ url = "https://example.org/a" }"#, request);
    let mut missing = Vec::new();
    for (text, told) in [
        (
            with("desicion = \"pass\""),
            &[
                "x.toml:5:1: case[0].desicion: unknown field `desicion`",
                "`decision`",
            ][..],
        ),
        (
            format!("nmae = 1\n{GOOD}"),
            &["x.toml:1:1: nmae: unknown field"],
        ),
        (
            GOOD.replace("lookup", "look-up"),
            &[
                "x.toml:4:12: case[0].decision: unknown variant `look-up`",
                "`lookup`",
                "`refused`",
            ],
        ),
        (
            with("status = \"200\""),
            &["x.toml:5:10: case[0].status: invalid type", "200"],
        ),
        (
            with("status = 99"),
            &["x.toml:5:10: case[0].status: 99 is not a status code; write e.g. 200"],
        ),
        (
            with("lifetime = \"5\""),
            &["x.toml:5:12: case[0].lifetime: \"5\" is not a duration; write a unit"],
        ),
        (
            with("now = \"today\""),
            &[
                "x.toml:5:7: case[0].now: \"today\" is not a time; write e.g. \"2026-01-01T00:00:00Z\"",
            ],
        ),
        (
            with("stored = 1"),
            &["x.toml:5:10: case[0].stored: invalid type: integer `1`, expected a boolean"],
        ),
        (
            with("response = {}\ninvalidates = [\"tag:a\", \"pages\"]"),
            &[
                "x.toml:6:15: case[0].invalidates[1]: \"pages\" is no selector",
                "tag:NAME",
            ],
        ),
        (
            with("headers = { \"a b\" = \"1\" }"),
            &["x.toml:5:11: case[0].headers: \"a b\" is not the name of a header field"],
        ),
        (
            with("headers = { a = 1 }"),
            &["x.toml:5:17: case[0].headers.a: a field's value is a string or a list of strings"],
        ),
        (
            with("config = { a = nan }"),
            &["x.toml:5:10: case[0].config: NaN has no form in JSON"],
        ),
        (
            instead(r#"{ url = "/a" }"#),
            &["x.toml:3:19: case[0].request.url: \"/a\" is not absolute; write http://HOST/PATH"],
        ),
        (
            instead(r#"{ url = "http://h/ a" }"#),
            &["case[0].request.url: \"http://h/ a\" is not a URL"],
        ),
        (
            instead(r#"{ method = "GET" }"#),
            &["x.toml:3:11: case[0].request: missing field `url`"],
        ),
        (
            instead(r#"{ url = "http://h/", method = "G T" }"#),
            &["case[0].request.method: \"G T\" is not a method; write e.g. \"GET\""],
        ),
        (
            instead(r#"{ url = "http://h/", content = "x" }"#),
            &["case[0].request.content: unknown field `content`", "`body`"],
        ),
        (
            instead(r#"{ url = "http://h/", headers = { a = "b\nc" } }"#),
            &["is not a value that the field a can have"],
        ),
        (
            GOOD.replace("name = \"a page\"\n", ""),
            &["x.toml:1:1: case[0]: missing field `name`"],
        ),
        (
            GOOD.replace("decision = \"lookup\"\n", ""),
            &["x.toml:2:8: case[0]: the case expects nothing"],
        ),
        (
            GOOD.replace("request = { url = \"https://example.org/a\" }\n", ""),
            &["x.toml:2:8: case[0]: there is nothing to ask"],
        ),
        (
            with("stored = true"),
            &["x.toml:2:8: case[0].stored: it says what becomes of a response; give the case one"],
        ),
        (
            with("invalidates = [\"all\"]"),
            &["case[0].invalidates: it says what becomes of a response"],
        ),
        (
            with("event = { type = \"x\" }"),
            &["case[0].decision: of an event only \"refused\" can be expected"],
        ),
        (
            with("event = { type = \"x\" }").replace("lookup", "refused"),
            &["case[0].event: a case is about a request or about an event, not both"],
        ),
        (
            with("before = [{ times = 0, event = { type = \"x\" } }]"),
            &["x.toml:5:11: case[0].before[0].times: write a number from 1 to 10000"],
        ),
        (
            with("before = [{ times = 2 }]"),
            &["case[0].before[0]: there is nothing to ask"],
        ),
        (
            with("before = [{ event = { type = \"x\", data = 1, at = 2 } }]"),
            &["case[0].before[0].event.at: unknown field `at`"],
        ),
        (
            "[[case]]\nname = \"e\"\nevent = { type = \"x\" }\nkey = \"a:b\"\n".to_owned(),
            &["case[0].key: an event has no such thing"],
        ),
        (
            "[[case]]\nname = \"e\"\nevent = { type = \"x\" }\nresponse = {}\ninvalidates = []\n"
                .to_owned(),
            &["case[0].response: an event has no response"],
        ),
        (
            format!("{GOOD}\n[[case]]\nname = \"b\"\n"),
            &["x.toml:7:8: case[1]: the case expects nothing"],
        ),
        (format!("{GOOD}[[case]\n"), &["x.toml:5:"]),
        (String::new(), &["x.toml:1:1: there is no case"]),
        (
            GOOD.repeat(MAX_CASES + 1),
            &["x.toml:1:1: more than 1,000 cases"],
        ),
    ] {
        let error = refused(&text);
        for told in told.iter().chain(&["\n   "]) {
            if !error.contains(told) {
                missing.push(format!("{told}\nis not in:\n{error}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n\n"));
}

#[test]
fn more_fields_than_a_message_can_have_are_refused() {
    let fields: Vec<String> = (0..40_000)
        .map(|number| format!("{number:x}=\"\""))
        .collect();
    let text = format!("{GOOD}headers = {{{}}}\n", fields.join(","));
    let error = refused(&text);
    assert!(
        error.contains("more header fields than a message can have"),
        "{error}"
    );
}

#[test]
fn what_is_not_said_is_the_file_s_and_then_the_default() {
    let other = GOOD.replace(
        "decision",
        "now = \"2027-01-01T00:00:00Z\"\nroute = \"/a\"\ndecision",
    );
    let text = format!("now = \"2026-06-01T00:00:00Z\"\n{GOOD}{other}");
    let suite = Suite::parse("x.toml", &text).expect("good");
    let of = |index: usize| {
        let case = &suite.cases[index];
        (case.line, case.now, case.route.as_str())
    };
    assert_eq!(of(0), (3, 1_780_272_000_000, "/{*rest}"));
    assert_eq!(of(1), (7, 1_798_761_600_000, "/a"));
    assert!(suite.config.is_none() && suite.namespaces.is_none());
    let suite = Suite::parse("x.toml", GOOD).expect("good");
    assert_eq!(suite.cases[0].now, 1_767_225_600_000, "2026-01-01");
    let text = format!("config = {{ at = 2026-01-01, n = [1, 1.5, true] }}\n{GOOD}");
    let suite = Suite::parse("x.toml", &text).expect("good");
    let config = suite.config.expect("the settings").to_string();
    assert_eq!(config, r#"{"at":"2026-01-01","n":[1,1.5,true]}"#);
}

/// A component of nothing but custom sections.
fn component(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for (name, data) in sections {
        crate::plugin::write_section(name, data, &mut component);
    }
    component
}

#[test]
fn cases_are_found_in_their_section_and_no_other() {
    let found = Suite::inside(&component(&[("a", b"x"), (SECTION, GOOD.as_bytes())]));
    let found = found.expect("good").expect("there");
    assert_eq!(found.text, GOOD);
    assert_eq!(found.file, "cases.toml in the component");
    let none = Suite::inside(&component(&[("weir:case", GOOD.as_bytes())]));
    assert!(none.expect("good").is_none());
    assert!(Suite::inside(b"no component").expect("good").is_none());
}

#[test]
fn cases_that_cannot_be_read_are_not_left_out() {
    let long = vec![b'#'; MAX_BYTES + 1];
    let good = GOOD.as_bytes();
    for (sections, told) in [
        (
            &[(SECTION, good), (SECTION, good)][..],
            "in two sections weir:cases",
        ),
        (
            &[(SECTION, &long)],
            "cases.toml in the component: more than 256 KiB",
        ),
        (
            &[(SECTION, b"# \n#\xff")],
            "cases.toml in the component:2: not UTF-8",
        ),
        (
            &[(SECTION, b"[[case]]\n")],
            "cases.toml in the component:1:1: case[0]: missing field `name`",
        ),
        (&[(SECTION, b"")], "there is no case"),
    ] {
        let error = Suite::inside(&component(sections)).expect_err(told);
        let error = error.to_string();
        assert!(error.contains(told), "{told}\nis not in:\n{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    let error = Suite::read(&file).expect_err("absent").to_string();
    assert!(error.contains("c.toml cannot be read"), "{error}");
    std::fs::write(&file, &long).expect("written");
    let error = Suite::read(&file).expect_err("long").to_string();
    assert!(error.contains("c.toml: more than 256 KiB"), "{error}");
}

#[test]
fn the_cases_on_the_page_are_cases() {
    let page = include_str!("../../../../docs/policies.md");
    let blocks = page.split("```toml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    let cases: Vec<&str> = blocks.filter(|block| block.contains("[[case]]")).collect();
    assert_eq!(cases.len(), 1);
    let suite = Suite::parse("docs/policies.md", cases[0]).expect("good");
    assert_eq!(suite.cases.len(), 3);
}
