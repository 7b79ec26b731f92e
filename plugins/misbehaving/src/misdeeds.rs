//! The misdeeds.

use std::hint::black_box;

use weir_sdk::bindings::weir::policy::http::{
    Decision, Event, Lookup, Part, Pass, Reply, Request, Response, Selector,
};

use crate::settings::{Misdeed, Settings};
use crate::{State, good_lookup};

const MIB: usize = 1024 * 1024;
const MANY: usize = 100_000;

pub(crate) fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("a trap");
}

pub(crate) fn endless_loop() -> ! {
    let mut turns: u64 = 0;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn deep_recursion(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    // Through a pointer, so that no compiler makes a loop of it.
    let deeper: fn(u64) -> u64 = black_box(deep_recursion);
    deeper(depth + 1).wrapping_add(frame[63])
}

fn memory_growth() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(black_box(vec![1; MIB]));
    }
}

pub(crate) fn on_request(
    settings: &Settings,
    state: &State,
    request: &Request,
) -> Result<Decision, String> {
    let calls = state.calls.get();
    state.calls.set(calls + 1);
    let lookup = || good_lookup(&settings.namespace);
    let found = |lookup: Lookup| Ok(Decision::Lookup(lookup));
    match settings.misbehave {
        Misdeed::ForgetsQuery => {
            let lookup = Lookup::new(&settings.namespace);
            lookup.key(Part::path());
            lookup.tag(vec![Part::text("test")]);
            found(lookup)
        }
        Misdeed::Answers => respond(200, |reply| reply.body(b"one")),
        Misdeed::AnswersOtherwise => respond(200, |reply| reply.body(b"two")),
        Misdeed::TrapOnRequest => trap(),
        Misdeed::ErrorOnRequest => Err("misbehaving: no decision".to_owned()),
        Misdeed::EndlessLoop => endless_loop(),
        Misdeed::EndlessHostCalls => loop {
            black_box(request.header("accept"));
        },
        Misdeed::DeepRecursion => Err(deep_recursion(0).to_string()),
        Misdeed::MemoryGrowth => memory_growth(),
        Misdeed::HugeKey => {
            let lookup = lookup();
            lookup.key(Part::text(&"k".repeat(MIB)));
            found(lookup)
        }
        Misdeed::ManyKeyParts => {
            let lookup = lookup();
            (0..MANY).for_each(|_| lookup.key(Part::path()));
            found(lookup)
        }
        Misdeed::ManyTags => {
            let lookup = lookup();
            (0..MANY).for_each(|n| lookup.tag(vec![Part::text(&n.to_string())]));
            found(lookup)
        }
        Misdeed::HugeNote => {
            let lookup = lookup();
            lookup.note(&vec![b'n'; MIB]);
            found(lookup)
        }
        Misdeed::HugeReply => respond(200, |reply| reply.body(&vec![b'b'; 16 * MIB])),
        Misdeed::HugeError => Err("e".repeat(16 * MIB)),
        Misdeed::HugeReason => Ok(Decision::Pass(Pass::new(&"r".repeat(MIB)))),
        Misdeed::InvalidHeaderName => respond(200, |reply| reply.header("x bad\r\nname", b"v")),
        Misdeed::InvalidHeaderValue => respond(200, |reply| {
            reply.header("x-value", b"a\r\nset-cookie: b=c");
        }),
        Misdeed::InvalidStatus => respond(99, |_| ()),
        Misdeed::FramingHeader => respond(200, |reply| {
            reply.header("content-length", b"3");
            reply.header("transfer-encoding", b"chunked");
        }),
        Misdeed::OriginFramingHeader => {
            let lookup = lookup();
            lookup.origin_header("transfer-encoding", vec![Part::text("chunked")]);
            found(lookup)
        }
        Misdeed::OriginTarget => {
            let lookup = lookup();
            lookup.origin_target(vec![Part::text("http://elsewhere.example/")]);
            found(lookup)
        }
        Misdeed::ForeignNamespace => found(good_lookup("foreign")),
        Misdeed::InvalidNamespace => found(good_lookup("No:Name{}|")),
        Misdeed::KeepPart => {
            let lookup = lookup();
            let kept = state.kept.take();
            match kept {
                Some(kept) => lookup.key(kept),
                None => {
                    state.kept.replace(Some(Part::text("kept")));
                }
            }
            found(lookup)
        }
        Misdeed::StaleHandle => {
            // SAFETY: the handle is not valid, which is the point: the host must trap.
            let stale = unsafe { Request::from_handle(0xffff) };
            black_box(stale.path());
            found(lookup())
        }
        Misdeed::LeakHandles => {
            (0..10 * MANY).for_each(|_| std::mem::forget(Part::text("leaked")));
            found(lookup())
        }
        Misdeed::Nondeterminism => {
            let lookup = lookup();
            lookup.key(Part::text(if calls.is_multiple_of(2) {
                "even"
            } else {
                "odd"
            }));
            found(lookup)
        }
        Misdeed::RareNondeterminism => {
            let lookup = lookup();
            if calls % 100 == 99 {
                lookup.key(Part::text("rare"));
            }
            found(lookup)
        }
        Misdeed::StateBetweenCalls => {
            let lookup = lookup();
            let previous = state.last_path.replace(request.path());
            lookup.key(Part::text(&previous));
            found(lookup)
        }
        _ => found(lookup()),
    }
}

fn respond(status: u16, fill: impl FnOnce(&Reply)) -> Result<Decision, String> {
    let reply = Reply::new(status);
    fill(&reply);
    Ok(Decision::Respond(reply))
}

pub(crate) fn on_response(settings: &Settings, response: &Response) -> Result<(), String> {
    match settings.misbehave {
        Misdeed::TrapOnResponse => trap(),
        Misdeed::ErrorOnResponse => return Err("misbehaving: no adjustment".to_owned()),
        Misdeed::EndlessLoopOnResponse => endless_loop(),
        Misdeed::ManyTagsOnResponse => (0..MANY).for_each(|n| response.tag(&n.to_string())),
        Misdeed::ManySelectorsOnResponse => response.invalidate(many_selectors()),
        Misdeed::ForeignSelectorOnResponse => {
            response.invalidate(vec![Selector::namespace("foreign")]);
        }
        Misdeed::EndlessLifetime => response.set_lifetime(u64::MAX),
        Misdeed::ForgetsQuery => {
            response.set_lifetime(7_000);
            response.tag("forgetful");
        }
        _ => {}
    }
    Ok(())
}

pub(crate) fn on_event(settings: &Settings, event: &Event) -> Result<Vec<Selector>, String> {
    match settings.misbehave {
        Misdeed::TrapOnEvent => trap(),
        Misdeed::ErrorOnEvent => Err("misbehaving: no selectors".to_owned()),
        Misdeed::EndlessLoopOnEvent => endless_loop(),
        Misdeed::ManySelectorsOnEvent => Ok(many_selectors()),
        Misdeed::ForeignSelectorOnEvent => Ok(vec![Selector::namespace("foreign")]),
        Misdeed::ForgetsQuery if event.kind() == "test.changed" => {
            Ok(vec![Selector::tag("test"), Selector::tag("forgetful")])
        }
        _ if event.kind() == "test.changed" => Ok(vec![Selector::tag("test")]),
        _ => Ok(Vec::new()),
    }
}

fn many_selectors() -> Vec<Selector> {
    (0..MANY).map(|n| Selector::tag(&n.to_string())).collect()
}
