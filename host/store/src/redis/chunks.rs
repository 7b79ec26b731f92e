//! Long bodies in Redis: pieces beside the record, written before it.

use std::sync::LazyLock;

use ::redis::{Script, cmd, pipe};
use bytes::Bytes;

use super::client::{Client, Patience};
use super::error::CallError;
use super::keys::Keys;
use crate::record::{CHUNK_BYTES, Chunks, PEEK_BYTES, Packed, RecordError};

/// How many chunks go into one step: so many bytes must pass within a deadline.
const TOGETHER: u64 = 4;

/// How much longer than their record chunks are kept: a reader that has the record may
/// still be reading them.
const LONGER_MILLIS: u64 = 10_000;

/// Renewed ends for the chunks of a record that was replaced.
static LET_GO: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/let_go.lua")));

/// What became of the chunks of a body.
#[derive(Debug)]
pub(super) enum Gathered {
    Body(Bytes),
    /// Some are not there any more: another writing replaced this one, or Redis evicted
    /// them.
    Gone,
    Damaged(RecordError),
}

/// Reads all chunks of a body, each step within a request's deadline.
pub(super) async fn gather(
    client: &Client,
    keys: &Keys,
    key: &str,
    chunks: Chunks,
) -> Result<Gathered, CallError> {
    let mut gathered: Vec<Bytes> = Vec::new();
    let mut number = 0;
    while number < chunks.count() {
        let end = chunks.count().min(number + TOGETHER);
        let mut call = cmd("MGET");
        for number in number..end {
            call.arg(keys.chunk(key, chunks.fill, number));
        }
        let found: Vec<Option<Bytes>> = client.command(&call, Patience::Request).await?;
        for chunk in found {
            match chunk {
                Some(chunk) if chunk.len() <= CHUNK_BYTES => gathered.push(chunk),
                Some(_) => return Ok(Gathered::Damaged(RecordError::Length)),
                None => return Ok(Gathered::Gone),
            }
        }
        number = end;
    }
    let assembled = tokio::task::spawn_blocking(move || chunks.assemble(&gathered)).await;
    Ok(match assembled {
        Ok(Ok(body)) => Gathered::Body(body),
        Ok(Err(error)) => Gathered::Damaged(error),
        // The runtime ends.
        Err(_) => Gathered::Gone,
    })
}

/// Writes the chunks of a body under the name `fill`. The record comes after them: until
/// then nobody finds them.
pub(super) async fn write(
    client: &Client,
    keys: &Keys,
    key: &str,
    (body, fill): (&Packed, u64),
    ttl_millis: u64,
) -> Result<(), CallError> {
    let mut chunks = (0..).zip(body.chunks()).peekable();
    while chunks.peek().is_some() {
        let mut step = pipe();
        for (number, chunk) in chunks.by_ref().take(TOGETHER as usize) {
            step.cmd("SET")
                .arg(keys.chunk(key, fill, number))
                .arg(&chunk[..])
                .arg("PX")
                .arg(ttl_millis.saturating_add(LONGER_MILLIS))
                .ignore();
        }
        let () = client.pipeline(&step, Patience::Background).await?;
    }
    Ok(())
}

/// The chunks of the record under `name`, which is about to be replaced.
pub(super) async fn replaced(client: &Client, name: &str) -> Option<Chunks> {
    let mut call = cmd("GETRANGE");
    call.arg(name).arg(0).arg(PEEK_BYTES - 1);
    let start: Result<Bytes, _> = client.command(&call, Patience::Background).await;
    Chunks::peek(&start.ok()?)
}

/// Lets chunks end soon that no record leads to any more, but for readers that have it.
pub(super) async fn let_go(client: &Client, keys: &Keys, key: &str, chunks: Chunks) {
    let mut call = LET_GO.prepare_invoke();
    for number in 0..chunks.count() {
        call.key(keys.chunk(key, chunks.fill, number));
    }
    call.arg(LONGER_MILLIS);
    // If it fails they end with the time of the record that they belonged to.
    let _: Result<u64, _> = client.script(&call, Patience::Background).await;
}
