//! Behaves as the request's path says: one path for each thing that a policy can do
//! right or wrong.

use std::cell::{Cell, RefCell};

wit_bindgen::generate!({ path: "../../../../wit", world: "policy" });

use exports::weir::policy::hooks::{Decision, Event, Guest, Request, Response, Selector};
use weir::policy::http::{Lookup, Part, Pass, PreparedLookup, Reply};

struct Policy;
export!(Policy);

thread_local! {
    static KEPT: RefCell<Option<Part>> = const { RefCell::new(None) };
    static HOARD: RefCell<Vec<Part>> = const { RefCell::new(Vec::new()) };
    static PREPARED: RefCell<Vec<PreparedLookup>> = const { RefCell::new(Vec::new()) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
}

fn text(text: &str) -> Part {
    Part::text(text)
}

fn pass(reason: &str) -> Result<Decision, String> {
    Ok(Decision::Pass(Pass::new(reason)))
}

fn lookup(build: impl FnOnce(&Lookup)) -> Result<Decision, String> {
    let lookup = Lookup::new("user");
    build(&lookup);
    Ok(Decision::Lookup(lookup))
}

fn prepared() -> Result<Decision, String> {
    PREPARED.with_borrow(|all| {
        let first = all.first().ok_or("nothing was prepared")?;
        Ok(Decision::Lookup(first.lookup()))
    })
}

fn reply(status: u16, build: impl FnOnce(&Reply)) -> Result<Decision, String> {
    let reply = Reply::new(status);
    build(&reply);
    Ok(Decision::Respond(reply))
}

/// Uses CPU in a way that no optimiser removes.
fn spin() -> ! {
    let mut x = 1_u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn one(values: Vec<Vec<u8>>) -> String {
    let text: Vec<_> = values.iter().map(|v| String::from_utf8_lossy(v)).collect();
    text.join(",")
}

impl Guest for Policy {
    fn configure(config: String) -> Result<(), String> {
        if config.contains("\"refuse\"") {
            return Err("default_ttl must be a duration such as \"5m\"".to_owned());
        }
        if config.contains("\"trap\"") {
            panic!("configure");
        }
        if config.contains("\"spin\"") {
            spin();
        }
        CONFIG.set(config);
        #[cfg(feature = "wasi")]
        wasi::configure();
        Ok(())
    }

    fn on_request(request: &Request) -> Result<Decision, String> {
        CALLS.set(CALLS.get() + 1);
        match request.path().as_str() {
            "/three-reads" => {
                let language = one(request.header("accept-language"));
                let id = request.param("id").unwrap_or_default();
                let session = request.cookie("session");
                if !session.is_empty() {
                    return pass("session");
                }
                lookup(|l| {
                    l.key(text(&language));
                    l.key(text(&String::from_utf8_lossy(&id)));
                    l.key(Part::path());
                })
            }
            "/all-reads" => {
                let parts = [
                    request.method(),
                    request.scheme(),
                    request.host(),
                    request.query_string().unwrap_or_default(),
                    one(request.query("q")),
                    request.query_names().join(","),
                    one(request.header("X-Plan")),
                    request.header_names().join(","),
                    one(request.cookie("s")),
                    one(request.param("id").into_iter().collect()),
                    request.client(),
                    request.path_matches("/all-*").to_string(),
                    format!(
                        "{:?}",
                        request.header_one_of("x-plan", &["free".into(), "gold".into()])
                    ),
                    request.language(&["en".into(), "de".into()]),
                    format!("{:?}", request.device()),
                ];
                lookup(|l| parts.iter().for_each(|part| l.key(text(part))))
            }
            "/everything" => lookup(|l| {
                l.key(text("profile"));
                l.key(Part::param("id"));
                l.key(Part::query(&["utm_*".into()]));
                l.key(Part::language(&["en".into(), "de".into()]));
                l.tag(vec![text("user-"), Part::param("id")]);
                l.note(b"note");
                l.origin_target(vec![text("/v2"), Part::path()]);
                l.origin_header("X-Lang", vec![Part::device()]);
                l.origin_without_header("Cookie");
            }),
            "/content" => lookup(|l| l.key(Part::body_digest())),
            "/pass" => pass("not mine"),
            "/calls" => pass(&CALLS.get().to_string()),
            "/config" => reply(200, |r| {
                r.body(CONFIG.with_borrow(|c| c.as_bytes().to_vec()).as_slice())
            }),
            "/reply" => reply(403, |r| {
                r.header("content-type", b"text/plain");
                r.header("x-two", b"1");
                r.header("x-two", b"2");
                r.body(b"no");
            }),
            "/error" => Err("no such tenant".to_owned()),
            "/trap" => panic!("on purpose"),
            "/spin" => spin(),
            "/grow" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(vec![1; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            "/namespace" => Ok(Decision::Lookup(Lookup::new("somebody-elses"))),
            "/keep" => {
                KEPT.set(Some(text("kept")));
                pass("kept a part")
            }
            "/use-kept" => lookup(|l| l.key(KEPT.take().expect("kept before"))),
            "/drop-kept" => {
                KEPT.set(None);
                pass("dropped a part")
            }
            "/prepare" => lookup(|l| {
                l.key(Part::path());
                l.tag(vec![text("prepared")]);
                PREPARED.with_borrow_mut(|all| all.extend(l.prepare()));
                l.note(b"after it was prepared");
            }),
            "/prepared" => prepared(),
            "/prepared-and-more" => prepared().inspect(|decision| {
                if let Decision::Lookup(lookup) = decision {
                    lookup.tag(vec![text("more"), Part::device()]);
                }
            }),
            "/prepare-all" => {
                let lookup = Lookup::new("user");
                let all: Vec<_> = std::iter::from_fn(|| lookup.prepare()).collect();
                let count = all.len();
                PREPARED.with_borrow_mut(|prepared| prepared.extend(all));
                pass(&count.to_string())
            }
            "/change-copies" => {
                let large = Lookup::new("user");
                (0..128).for_each(|_| large.tag(vec![text(&"x".repeat(1_024))]));
                let large = large.prepare().ok_or("no room")?;
                let copies: Vec<_> = (0..1_000).map(|_| large.lookup()).collect();
                copies.iter().for_each(|copy| copy.key(Part::path()));
                pass("unreachable")
            }
            "/let-go-of-prepared" => {
                PREPARED.with_borrow_mut(Vec::clear);
                pass("let go")
            }
            "/hoard" => {
                HOARD.with_borrow_mut(|hoard| (0..1000).for_each(|_| hoard.push(text("x"))));
                pass("hoarding")
            }
            "/many-resources" => {
                (0..10_000).for_each(|_| drop(text("x")));
                pass("many")
            }
            "/long-part" => lookup(|l| l.key(text(&"x".repeat(1_025)))),
            "/many-parts" => lookup(|l| (0..65).for_each(|_| l.key(text("x")))),
            "/many-tags" => lookup(|l| (0..129).for_each(|_| l.tag(vec![text("x")]))),
            "/long-tag" => lookup(|l| l.tag(vec![text(&"x".repeat(600)), text(&"x".repeat(600))])),
            "/long-note" => lookup(|l| l.note(&vec![0; 64 * 1024 + 1])),
            "/target" => lookup(|l| l.origin_target(vec![text("no-slash")])),
            "/host-header" => lookup(|l| l.origin_header("Host", vec![text("evil")])),
            "/framing" => reply(200, |r| r.header("transfer-encoding", b"chunked")),
            "/split" => reply(200, |r| r.header("x", b"a\r\nset-cookie: b")),
            "/status" => reply(101, |_| ()),
            "/body" => reply(200, |r| r.body(&vec![0; 1024 * 1024 + 1])),
            "/reason" => pass("line\nbreak"),
            "/glob" => {
                request.path_matches("[");
                pass("unreachable")
            }
            #[cfg(feature = "capabilities")]
            path if path.starts_with("/cap/") => capabilities::on_request(path),
            #[cfg(feature = "wasi")]
            path if path.starts_with("/wasi/") => pass(&wasi::asked(path)),
            _ => pass("other"),
        }
    }

    fn on_response(request: &Request, response: &Response) -> Result<(), String> {
        match request.path().as_str() {
            "/echo" => {
                let seen = format!(
                    "{}|{}|{}|{}|{:?}|{:?}",
                    response.status(),
                    one(response.header("X-Tag")),
                    response.header_names().join(","),
                    String::from_utf8_lossy(&response.note()),
                    response.suggested_lifetime(),
                    response.refusal(),
                );
                response.tag(&seen);
            }
            "/adjust" => {
                response.set_lifetime(60_000);
                response.set_stale_while_revalidate(1_000);
                response.set_stale_if_error(2_000);
                response.set_memory_lifetime(3_000);
                response.set_shared(false);
                response.tag("user-42");
                response.write_through();
                let key = Selector::key("user", vec![text("profile"), Part::param("id")]);
                key.host("API.example.org");
                key.soft();
                response.invalidate(vec![key, Selector::url("/users/42")]);
            }
            "/expire" => response.set_expiry(1_900_000_000),
            "/do-not-store" => {
                response.do_not_store(5_000);
                response.set_lifetime(60_000);
            }
            "/error" => return Err("unexpected".to_owned()),
            "/trap" => panic!("on purpose"),
            "/empty-tag" => response.tag(""),
            #[cfg(feature = "capabilities")]
            "/cap/clock" => response.tag(&weir::policy::clock::now().to_string()),
            #[cfg(feature = "wasi")]
            path if path.starts_with("/wasi/") => response.tag(&wasi::asked(path)),
            _ => (),
        }
        Ok(())
    }

    fn on_event(event: &Event) -> Result<Vec<Selector>, String> {
        Ok(match event.kind().as_str() {
            "user.updated" => vec![
                Selector::key("user", vec![text("profile"), text(&event.data())]),
                Selector::tag("user-42"),
                Selector::namespace("help"),
                Selector::prefix("user", "profile:"),
                Selector::all(),
            ],
            "input" => vec![Selector::key("user", vec![Part::path()])],
            "namespace" => vec![Selector::namespace("somebody-elses")],
            "url" => vec![Selector::url("ftp://x")],
            _ => Vec::new(),
        })
    }
}

#[cfg(feature = "capabilities")]
mod capabilities {
    use super::{Decision, pass};
    use crate::weir::policy::{clock, kv, log, rate_limit};

    pub(crate) fn on_request(path: &str) -> Result<Decision, String> {
        let text = match path {
            "/cap/kv" => {
                let count = kv::increment("user", "visits", 2, 1_000);
                let set = kv::set("user", "name", b"weir", 60_000);
                let get = kv::get("user", "name").map(|v| v.map(|v| v.len()));
                let swapped = kv::compare_and_set("user", "name", Some(b"weir"), b"dam", 1_000);
                format!("{count:?} {set:?} {get:?} {swapped:?}")
            }
            "/cap/kv-more" => {
                let add = kv::set_add("user", "set", b"a", 1_000);
                let has = kv::set_contains("user", "set", b"a");
                let gone = kv::set_remove("user", "set", b"a");
                let length = kv::queue_push("user", "queue", b"x", 10, 1_000);
                let popped = kv::queue_pop("user", "queue").map(|v| v.map(|v| v.len()));
                let deleted = kv::delete("user", "none");
                format!("{add:?} {has:?} {gone:?} {length:?} {popped:?} {deleted:?}")
            }
            "/cap/kv-refused" => format!(
                "{} {} {}",
                kv::get("somebody-elses", "x").is_err(),
                kv::get("user", "").is_err(),
                kv::set("user", "x", b"", 0).is_err(),
            ),
            "/cap/kv-slow" => format!("{:?}", kv::get("user", "slow")),
            "/cap/kv-slow-often" => {
                let answers: Vec<_> = (0..8).map(|_| kv::get("user", "slow")).collect();
                format!("{}", answers.iter().filter(|a| a.is_err()).count())
            }
            "/cap/spin-after-wait" => {
                let _ = kv::get("user", "slow");
                super::spin()
            }
            "/cap/rate" => {
                let verdict = rate_limit::check("login", "192.0.2.7", 10, 1_000);
                format!("{} {}", verdict.allowed, verdict.retry_after_milliseconds)
            }
            "/cap/rate-wrong" => format!("{}", rate_limit::check("login", "x", 0, 1).allowed),
            "/cap/clock" => format!("{} {}", clock::now(), clock::now()),
            "/cap/log" => {
                log::write(log::Level::Warn, &"x".repeat(5_000));
                for _ in 0..199 {
                    log::write(log::Level::Info, "line");
                }
                "logged".to_owned()
            }
            _ => "pure".to_owned(),
        };
        pass(&text.replace('"', "'"))
    }
}

/// What a runtime of another language imports; the target has no WASI of its own.
#[cfg(feature = "wasi")]
mod wasi {
    use std::cell::RefCell;

    wit_bindgen::generate!({
        world: "runtime",
        generate_all,
        inline: "
            package test:wasi;
            world runtime {
                import wasi:clocks/wall-clock@0.2.0;
                import wasi:clocks/monotonic-clock@0.2.0;
                import wasi:random/random@0.2.0;
                import wasi:random/insecure-seed@0.2.0;
            }
            package wasi:clocks@0.2.0 {
                interface wall-clock {
                    record datetime { seconds: u64, nanoseconds: u32 }
                    now: func() -> datetime;
                    resolution: func() -> datetime;
                }
                interface monotonic-clock {
                    now: func() -> u64;
                }
            }
            package wasi:random@0.2.0 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                    get-random-u64: func() -> u64;
                }
                interface insecure-seed {
                    insecure-seed: func() -> tuple<u64, u64>;
                }
            }
        ",
    });

    use self::wasi::clocks::{monotonic_clock, wall_clock};
    use self::wasi::random::{insecure_seed, random};

    thread_local! {
        static START: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// As a runtime seeds its hashes.
    pub(crate) fn configure() {
        let all = ["wall-clock", "monotonic-clock", "bytes", "number", "seed"];
        START.set(all.map(|what| asked(&format!("/wasi/{what}"))).join(" "));
    }

    pub(crate) fn asked(path: &str) -> String {
        match path {
            "/wasi/start" => START.with_borrow(Clone::clone),
            "/wasi/wall-clock" => {
                let now = wall_clock::now();
                format!("{}.{:09}", now.seconds, now.nanoseconds)
            }
            "/wasi/resolution" => wall_clock::resolution().nanoseconds.to_string(),
            "/wasi/monotonic-clock" => monotonic_clock::now().to_string(),
            "/wasi/bytes" => format!("{:x?}", random::get_random_bytes(6)),
            "/wasi/number" => format!("{:x}", random::get_random_u64()),
            "/wasi/seed" => {
                let (one, other) = insecure_seed::insecure_seed();
                format!("{one:x}.{other:x}")
            }
            _ => "nothing".to_owned(),
        }
    }
}
