use http::Uri;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    header_size: 1024,
    headers: 8,
    target: 256,
};

/// What passes of a stream, and why it ends, when it comes in these pieces.
fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Stop>, u64) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut passed, mut kept) = (Vec::new(), Vec::new());
    let mut stop = None;
    for piece in pieces {
        kept.extend_from_slice(piece);
        let progress = scanner.feed(&kept);
        passed.extend(kept.drain(..progress.passed));
        stop = progress.stop;
    }
    (passed, stop, scanner.heads())
}

fn whole(bytes: &[u8]) -> (Vec<u8>, Option<Stop>, u64) {
    pieces([bytes])
}

fn refusal(bytes: &[u8]) -> Option<Refusal> {
    match whole(bytes).1 {
        Some(Stop::Head(refusal) | Stop::Body(refusal)) => Some(refusal),
        _ => None,
    }
}

#[test]
fn requests_pass_one_after_the_other() {
    let stream = b"\r\nGET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
        POST /b HTTP/1.1\r\nhost:h\r\nTransfer-Encoding: Chunked\r\n\r\n\
        3;a=\"b\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n\
        GET /c HTTP/1.0\r\n\r\n";
    assert_eq!(whole(stream), (stream.to_vec(), None, 3));
}

#[test]
fn a_refused_head_does_not_pass_and_those_before_it_do() {
    let good = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let bad = b"GET /b HTTP/1.1\nHost: h\r\n\r\n";
    let (passed, stop, heads) = whole(&[&good[..], bad].concat());
    assert_eq!(passed, good);
    assert_eq!(stop, Some(Stop::Head(Refusal::BareLineEnd)));
    assert_eq!(heads, 1);
}

#[test]
fn nothing_passes_behind_a_request_for_another_protocol_until_it_is_declined() {
    let asks = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let next = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut scanner = Scanner::new(LIMITS);
    let progress = scanner.feed(&[&asks[..], next].concat());
    assert_eq!(progress.passed, asks.len());
    assert_eq!(progress.stop, Some(Stop::Undecided));
    assert_eq!(scanner.feed(next).passed, 0);
    scanner.stays();
    assert_eq!(scanner.feed(next).passed, next.len());

    let tunnel = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03";
    assert_eq!(whole(tunnel).1, Some(Stop::Undecided));
    // HTTP/1.0 has no Upgrade.
    let old = b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(whole(old).1, None);
}

#[test]
fn limits_are_limits() {
    let head = |target: usize, value: usize| {
        let text = format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
            "t".repeat(target - 1),
            "v".repeat(value)
        );
        refusal(text.as_bytes())
    };
    assert_eq!(head(256, 1), None);
    assert_eq!(head(257, 1), Some(Refusal::TargetTooLong));
    assert_eq!(head(1000, 1), Some(Refusal::TargetTooLong));
    // Request line 16 bytes, Host 9, the field 5 without its value, the empty line 2.
    assert_eq!(head(1, 1024 - 32), None);
    assert_eq!(head(1, 1025 - 32), Some(Refusal::HeaderTooLarge));
    let many = |count: usize| {
        let text = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A: b\r\n".repeat(count - 1)
        );
        refusal(text.as_bytes())
    };
    assert_eq!(many(8), None);
    assert_eq!(many(9), Some(Refusal::TooManyFields));
    // Told before the end is there.
    assert_eq!(refusal(&[b'a'; 400]), Some(Refusal::TargetTooLong));
}

#[test]
fn lengths_are_plain_numbers() {
    let with = |value: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: {value}\r\n\r\n");
        refusal(text.as_bytes())
    };
    for good in ["0", "1", " 7 ", "9223372036854775807"] {
        assert_eq!(with(good), None, "{good:?}");
    }
    for bad in [
        "",
        "+1",
        "-1",
        "00",
        "01",
        "1,1",
        "1 1",
        "0x1",
        "1.0",
        "a",
        "1e1",
        "\u{b}1",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        assert_eq!(with(bad), Some(Refusal::BadLength), "{bad:?}");
    }
}

#[test]
fn a_chunk_is_what_the_grammar_says() {
    let with = |body: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        whole(&[&head[..], body].concat()).1
    };
    for good in [
        &b"0\r\n\r\n"[..],
        b"00\r\n\r\n",
        b"1;x\r\na\r\n0;y=z\r\n\r\n",
        b"aB\r\n",
        b"7fffffffffffffff\r\n",
    ] {
        assert_eq!(with(good), None, "{good:?}");
    }
    for (bad, refusal) in [
        (&b"\r\n"[..], Refusal::ChunkSize),
        (b"+1\r\na\r\n", Refusal::ChunkSize),
        (b"0x1\r\na\r\n", Refusal::ChunkSize),
        (b" 1\r\na\r\n", Refusal::ChunkSize),
        (b"1 \r\na\r\n", Refusal::ChunkSize),
        (b"1\t;a\r\na\r\n", Refusal::ChunkSize),
        (b"8000000000000000\r\n", Refusal::ChunkSize),
        (b"00000000000000001\r\n", Refusal::ChunkSize),
        (b"1\na\r\n", Refusal::BareLineEnd),
        (b"1;\x00\r\na\r\n", Refusal::ChunkExtension),
        (b"1;\r\r\na\r\n", Refusal::ChunkExtension),
        (b"1\r\nab\r\n", Refusal::ChunkEnd),
        (b"1\r\na\n", Refusal::ChunkEnd),
        (b"0\r\nA: b\n\r\n", Refusal::BareLineEnd),
        (b"0\r\nA : b\r\n\r\n", Refusal::FieldName),
        (b"0\r\n a: b\r\n\r\n", Refusal::FoldedLine),
        (b"0\r\nContent-Length: 1\r\n\r\n", Refusal::TrailerField),
        (b"0\r\nIF-match: x\r\n\r\n", Refusal::TrailerField),
        (b"0\r\nA: \x01\r\n\r\n", Refusal::ControlCharacter),
    ] {
        assert_eq!(with(bad), Some(Stop::Body(refusal)), "{bad:?}");
    }
    let extension = [b"1;".as_slice(), &[b'x'; 400], b"\r\na\r\n"].concat();
    assert_eq!(with(&extension), Some(Stop::Body(Refusal::ChunkExtension)));
    let trailers = [b"0\r\nA: ".as_slice(), &[b'x'; 9000], b"\r\n\r\n"].concat();
    assert_eq!(with(&trailers), Some(Stop::Body(Refusal::TrailersTooLarge)));
}

/// Bytes near those of requests: what is random alone is refused at its first byte.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "HEAD * HTTP/1.0\r\n",
            "CONNECT h:1 HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "GET http://h/ HTTP/1.1\r\n",
            "Host: h\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
            "Upgrade: x\r\n", "A: b\r\n", "\r\n", "abc", "3\r\nabc\r\n", "0\r\n\r\n", "0\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(
            prop_oneof![prop::sample::select(b"\r\n\t :;,\x00\x7f\xff0aA".to_vec()), any::<u8>()],
            0..4,
        ),
        1 => (0_usize..400).prop_map(|length| vec![b'x'; length]),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_answer_does_not_depend_on_how_the_bytes_come(
        bytes in stream(),
        cuts in prop::collection::vec(1_usize..64, 1..40),
    ) {
        let mut rest = &bytes[..];
        let mut cut = Vec::new();
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, left) = rest.split_at((*length).min(rest.len()));
            cut.push(piece);
            rest = left;
        }
        let at_once = whole(&bytes);
        prop_assert_eq!(&at_once, &pieces(cut));
        prop_assert_eq!(&at_once, &pieces(bytes.chunks(1)));
    }

    /// hyper's parser, which reads what passes, must find the same requests in it.
    #[test]
    fn a_head_ends_where_hyper_ends_it(bytes in stream()) {
        let mut scanner = Scanner::new(LIMITS);
        let (mut kept, mut head) = (Vec::new(), Vec::new());
        for byte in bytes {
            if scanner.at_head() {
                head.push(byte);
            }
            kept.push(byte);
            let heads = scanner.heads();
            let progress = scanner.feed(&kept);
            kept.drain(..progress.passed);
            if scanner.heads() > heads {
                let mut fields = [httparse::EMPTY_HEADER; 8];
                let parsed = httparse::Request::new(&mut fields).parse(&head);
                prop_assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
                head.clear();
            }
            if progress.stop.is_some() {
                break;
            }
        }
    }

    /// hyper must never be the one that refuses: its answer has no reason in it.
    #[test]
    fn what_passes_is_what_the_http_crate_takes(
        target in "/[!-~]{0,6}(\\?[!-~]{0,6})?|/[a-z^`|{}\"]{0,6}\\?[a-z^`|{}\"]{0,6}|http://[!-~]{1,8}/[!-~]{0,4}|\\*",
        method in "[!-~]{1,8}|GET|OPTIONS",
    ) {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        if refusal(text.as_bytes()).is_none() {
            let uri = Uri::try_from(target.as_str()).unwrap();
            prop_assert!(method.parse::<http::Method>().is_ok());
            if target.starts_with('/') {
                // Nothing was cut off or changed.
                prop_assert_eq!(uri.to_string(), target);
            }
        }
    }

    #[test]
    fn what_passes_has_its_lines_ended_by_both_and_no_other_control(bytes in stream()) {
        let (passed, _, heads) = whole(&bytes);
        if heads > 0 && !bytes.windows(2).any(|two| two.eq_ignore_ascii_case(b"tr")) {
            // No chunks: all but bodies of three bytes is heads.
            let text = String::from_utf8_lossy(&passed).replace("\r\n", "");
            prop_assert!(text.matches(['\r', '\n', '\0']).count() <= 3 * heads as usize);
        }
    }
}
