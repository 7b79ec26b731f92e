//! WASI preview 2, as far as the runtimes of Python and JavaScript need it to run: enough
//! to start and to print, and nothing of the machine.
//!
//! Needs no grant, since it gives nothing: no files, environment, arguments or sockets, and
//! no way to wait. What is not here is refused when it is called ([`deny`]).
//!
//! A remembered decision must be a function of what was read. So until `configure` has
//! returned, randomness is the same stream and the time the same instant for every instance:
//! all of them start alike, with the same hash seeds. Later both are real and mark the call
//! as impure; and an instance that drew randomness is not used again, because what it drew
//! may seed a generator of the guest's that later calls ask without the host seeing it.

use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, Val,
    WasmList,
};
use wasmtime::{Result, StoreContextMut};

use crate::capabilities::LogLevel;
use crate::error::{Fault, cut};
use crate::state::State;

/// The most handles that a guest can hold.
const MAX_HELD: u32 = 1_024;
/// The most random bytes of one call of the host.
const MAX_RANDOM: u64 = 64 * 1024;
/// What a write may bring, in bytes.
const MAX_WRITE: u64 = 4 * 1024;
/// The longest line that is logged, in bytes; longer ones become several.
const MAX_LINE: usize = 4 * 1024;
/// The end of the output that is told of a call which failed, in bytes.
const MAX_TAIL: usize = 1_024;
/// Seeds the randomness of all starts. Any number would do.
const START: u64 = 0x5745_4952;

/// All resources of WASI: they are told apart by their representation.
#[derive(Debug)]
pub(crate) struct Handle;

/// Every stream and pollable has this representation: input is always at its end, output
/// always taken, and so everything is ready.
const ANY: u32 = 1;

/// What a store keeps for WASI.
#[derive(Debug)]
pub(crate) struct Wasi {
    /// The randomness of the start, until it is over.
    starting: Option<fastrand::Rng>,
    drew: bool,
    held: u32,
    line: Vec<u8>,
    tail: Vec<u8>,
}

impl Default for Wasi {
    fn default() -> Self {
        Self {
            starting: Some(fastrand::Rng::with_seed(START)),
            drew: false,
            held: 0,
            line: Vec::new(),
            tail: Vec::new(),
        }
    }
}

impl Wasi {
    /// `configure` has returned.
    pub(crate) fn started(&mut self) {
        self.starting = None;
    }

    /// Real randomness has reached the guest.
    pub(crate) fn drew(&self) -> bool {
        self.drew
    }

    /// Forgets the output of the call before.
    pub(crate) fn begin(&mut self) {
        self.tail.clear();
    }

    /// The end of what the guest printed in this call.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<Handle>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Store<'a> = StoreContextMut<'a, State>;
type This = (Resource<Handle>,);

/// `random/random` of `wasi:random/random@0.2.9`.
pub(crate) fn interface(import: &str) -> Option<&str> {
    let (interface, version) = import.strip_prefix("wasi:")?.split_once('@')?;
    version.starts_with("0.2.").then_some(interface)
}

/// Defines what the component imports of WASI.
pub(crate) fn add_to_linker(
    linker: &mut Linker<State>,
    engine: &wasmtime::Engine,
    component: &Component,
) -> Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        let (Some(interface), ComponentItem::ComponentInstance(instance)) =
            (interface(name), import.ty)
        else {
            continue;
        };
        let mut to = linker.instance(name)?;
        for (member, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => {
                    let ty = ResourceType::host::<Handle>();
                    to.resource(member, ty, |mut store: Store<'_>, _| {
                        let wasi = &mut store.data_mut().wasi;
                        wasi.held = wasi.held.saturating_sub(1);
                        Ok(())
                    })?;
                }
                ComponentItem::ComponentFunc(_) => define(&mut to, interface, member)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn define(to: &mut LinkerInstance<'_, State>, interface: &str, member: &str) -> Result<()> {
    match interface {
        "random/random" | "random/insecure" | "random/insecure-seed" => randomness(to, member),
        "clocks/monotonic-clock" | "clocks/wall-clock" => clocks(to, interface, member),
        "io/poll" => polling(to, member),
        "io/streams" => streams(to, member),
        _ => surroundings(to, interface, member),
    }
    .and_then(|known| {
        if known {
            Ok(())
        } else {
            deny(to, interface, member)
        }
    })
}

fn randomness(to: &mut LinkerInstance<'_, State>, member: &str) -> Result<bool> {
    match member {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            to.func_wrap(member, |mut store: Store<'_>, (length,): (u64,)| {
                Ok((store.data_mut().random(length)?,))
            })?;
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            to.func_wrap(member, |mut store: Store<'_>, (): ()| {
                Ok((store.data_mut().random_u64()?,))
            })?;
        }
        "insecure-seed" => {
            to.func_wrap(member, |mut store: Store<'_>, (): ()| {
                let state = store.data_mut();
                Ok(((state.random_u64()?, state.random_u64()?),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn clocks(to: &mut LinkerInstance<'_, State>, interface: &str, member: &str) -> Result<bool> {
    let wall = interface == "clocks/wall-clock";
    match member {
        "now" if wall => to.func_wrap(member, |mut store: Store<'_>, (): ()| {
            let now = store.data_mut().time();
            Ok((Datetime {
                seconds: now / 1_000,
                nanoseconds: u32::try_from(now % 1_000).unwrap_or(0) * 1_000_000,
            },))
        })?,
        "resolution" if wall => to.func_wrap(member, |_: Store<'_>, (): ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds: 1_000_000,
            },))
        })?,
        "now" => to.func_wrap(member, |mut store: Store<'_>, (): ()| {
            Ok((store.data_mut().time().saturating_mul(1_000_000),))
        })?,
        "resolution" => {
            to.func_wrap(member, |_: Store<'_>, (): ()| Ok((1_000_000_u64,)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn polling(to: &mut LinkerInstance<'_, State>, member: &str) -> Result<bool> {
    match member {
        "[method]pollable.ready" => to.func_wrap(member, |_: Store<'_>, _: This| Ok((true,)))?,
        "[method]pollable.block" => to.func_wrap(member, |_: Store<'_>, _: This| Ok(()))?,
        "poll" => to.func_wrap(
            member,
            |_: Store<'_>, (all,): (WasmList<Resource<Handle>>,)| {
                let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
                if count == 0 || count > MAX_HELD {
                    return Err(denied(&format!("io/poll#poll with {count} pollables")));
                }
                Ok(((0..count).collect::<Vec<u32>>(),))
            },
        )?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn streams(to: &mut LinkerInstance<'_, State>, member: &str) -> Result<bool> {
    type Answer<T> = std::result::Result<T, StreamError>;
    match member {
        "[method]input-stream.subscribe" | "[method]output-stream.subscribe" => to
            .func_wrap(member, |mut store: Store<'_>, _: This| {
                Ok((store.data_mut().lend()?,))
            })?,
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            to.func_wrap(member, |_: Store<'_>, _: (Resource<Handle>, u64)| {
                Ok((Answer::<Vec<u8>>::Err(StreamError::Closed),))
            })?;
        }
        "[method]output-stream.check-write" => {
            to.func_wrap(member, |_: Store<'_>, _: This| Ok((Answer::Ok(MAX_WRITE),)))?;
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => to
            .func_wrap(
                member,
                |mut store: Store<'_>, (_, bytes): (Resource<Handle>, WasmList<u8>)| {
                    let bytes = bytes.as_le_slice(&store);
                    let end = bytes.len().min(MAX_LINE);
                    let bytes = bytes[..end].to_vec();
                    store.data_mut().print(&bytes);
                    Ok((Answer::Ok(()),))
                },
            )?,
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            to.func_wrap(member, |_: Store<'_>, _: This| Ok((Answer::Ok(()),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What a program asks about where it runs.
fn surroundings(to: &mut LinkerInstance<'_, State>, interface: &str, member: &str) -> Result<bool> {
    match (interface, member) {
        ("cli/stdin", "get-stdin")
        | ("cli/stdout", "get-stdout")
        | ("cli/stderr", "get-stderr") => to
            .func_wrap(member, |mut store: Store<'_>, (): ()| {
                Ok((store.data_mut().lend()?,))
            })?,
        (
            "cli/terminal-stdin" | "cli/terminal-stdout" | "cli/terminal-stderr",
            "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr",
        ) => to.func_wrap(member, |_: Store<'_>, (): ()| {
            Ok((None::<Resource<Handle>>,))
        })?,
        ("cli/environment", "get-environment") => {
            to.func_wrap(member, |_: Store<'_>, (): ()| {
                Ok((Vec::<(String, String)>::new(),))
            })?;
        }
        ("cli/environment", "get-arguments") => {
            to.func_wrap(member, |_: Store<'_>, (): ()| Ok((Vec::<String>::new(),)))?;
        }
        ("cli/environment", "initial-cwd") => {
            to.func_wrap(member, |_: Store<'_>, (): ()| Ok((None::<String>,)))?;
        }
        ("filesystem/preopens", "get-directories") => {
            to.func_wrap(member, |_: Store<'_>, (): ()| {
                Ok((Vec::<(Resource<Handle>, String)>::new(),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Answers the error `access-denied` where the function has one, and else ends the call.
fn deny(to: &mut LinkerInstance<'_, State>, interface: &str, member: &str) -> Result<()> {
    let name = format!("{interface}#{member}");
    to.func_new(member, move |_, ty, _, results| {
        let refusal = ty.results().next().and_then(|result| match result {
            Type::Result(result) => match result.err() {
                Some(Type::Enum(error)) => error
                    .names()
                    .find(|name| matches!(*name, "access-denied" | "access"))
                    .map(|name| Val::Enum(name.to_owned())),
                _ => None,
            },
            _ => None,
        });
        match (refusal, results.first_mut()) {
            (Some(refusal), Some(result)) => {
                *result = Val::Result(Err(Some(Box::new(refusal))));
                Ok(())
            }
            _ => Err(denied(&name)),
        }
    })
}

#[cold]
fn denied(what: &str) -> wasmtime::Error {
    wasmtime::Error::new(Fault::Denied(format!(
        "it called wasi:{what}, which policies do not have: they have no files, no network and no \
         environment, and cannot wait"
    )))
}

impl State {
    /// A stream or pollable that the guest now holds.
    fn lend(&mut self) -> Result<Resource<Handle>> {
        if self.wasi.held >= MAX_HELD {
            return Err(Fault::bad(format!(
                "the policy holds {MAX_HELD} handles of WASI and asked for another"
            )));
        }
        self.wasi.held += 1;
        Ok(Resource::new_own(ANY))
    }

    fn random(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > MAX_RANDOM {
            return Err(Fault::bad(format!(
                "the policy asked for {length} random bytes at once, and at most {MAX_RANDOM} are given"
            )));
        }
        let mut bytes = vec![0; usize::try_from(length)?];
        match &mut self.wasi.starting {
            Some(same) => same.fill(&mut bytes),
            None => {
                self.recorder.impure();
                self.wasi.drew = true;
                getrandom::fill(&mut bytes).map_err(|error| {
                    wasmtime::Error::new(Fault::Denied(format!("no randomness: {error}")))
                })?;
            }
        }
        Ok(bytes)
    }

    fn random_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.random(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Milliseconds since the Unix epoch; 0 until `configure` has returned.
    fn time(&mut self) -> u64 {
        if self.wasi.starting.is_some() {
            return 0;
        }
        self.recorder.impure();
        self.call.now_ms
    }

    /// Logs whole lines. Not impure: a decision does not depend on what was printed, and
    /// that a remembered one prints nothing is right for what is only there to debug.
    fn print(&mut self, bytes: &[u8]) {
        let tail = &mut self.wasi.tail;
        tail.extend_from_slice(bytes);
        let over = tail.len().saturating_sub(MAX_TAIL);
        tail.drain(..over);
        for byte in bytes {
            let end = *byte == b'\n';
            if !end {
                self.wasi.line.push(*byte);
            }
            if end || self.wasi.line.len() >= MAX_LINE {
                let line = std::mem::take(&mut self.wasi.line);
                let shared = &self.shared;
                if shared.log_budget.take(self.call.now_ms) {
                    let line = String::from_utf8_lossy(&line);
                    shared.services.log.write(
                        &shared.name,
                        shared.version(),
                        LogLevel::Debug,
                        cut(&line, MAX_LINE),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
