//! How a body stands in a record: in it, or in chunks beside it; as it is, or compressed.

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Decompressor;

use super::RecordError;
use super::wire::{Input, Output};

/// A stored body longer than this stands in chunks of this size, in bytes: so no single
/// answer of Redis holds up the others for long.
pub const CHUNK_BYTES: usize = 256 * 1_024;

/// The longest body, in bytes: what a record says beyond it is not believed.
const MAX_BODY: u64 = 1 << 30;

/// The level of zstd that costs least: it is spent on every object that is written.
const LEVEL: i32 = 1;

/// To no more than so many times its length is a body decompressed into memory that was
/// asked for before.
const LIKELY_RATIO: u64 = 16;

const IN_CHUNKS: u8 = 1;
const COMPRESSED: u8 = 1 << 1;

/// A body as it is stored.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Bytes,
    /// The length before it was compressed, if it was.
    whole: Option<u64>,
}

impl Packed {
    /// The body as it is.
    pub fn plain(body: &Bytes) -> Self {
        Self {
            bytes: body.clone(),
            whole: None,
        }
    }

    /// The body compressed with zstd, if that saves a tenth of it at least.
    pub fn compressed(body: &Bytes) -> Self {
        match zstd::bulk::compress(body, LEVEL) {
            Ok(bytes) if bytes.len() <= body.len() - body.len() / 10 && !body.is_empty() => Self {
                bytes: bytes.into(),
                whole: Some(body.len() as u64),
            },
            _ => Self::plain(body),
        }
    }

    /// What is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Is it too long to stand in the record itself?
    pub fn wants_chunks(&self) -> bool {
        self.bytes.len() > CHUNK_BYTES
    }

    /// What is stored, cut up. The chunks share its bytes.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + '_ {
        let starts = (0..self.bytes.len()).step_by(CHUNK_BYTES);
        starts.map(|at| self.bytes.slice(at..self.bytes.len().min(at + CHUNK_BYTES)))
    }

    pub(super) fn describe(&self, out: &mut Output, fill: Option<u64>) {
        let chunked = if fill.is_some() { IN_CHUNKS } else { 0 };
        let compressed = if self.whole.is_some() { COMPRESSED } else { 0 };
        out.raw(&[chunked | compressed]);
        if let Some(fill) = fill {
            out.u64(fill);
            out.u64(self.bytes.len() as u64);
            out.u64(xxh3_64(&self.bytes));
        }
        if let Some(whole) = self.whole {
            out.u64(whole);
        }
    }
}

/// What a record says of its body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Description {
    pub(super) chunks: Option<Chunks>,
    whole: Option<u64>,
}

impl Description {
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let flags = input.u8()?;
        if flags & !(IN_CHUNKS | COMPRESSED) != 0 {
            return Err(RecordError::Field("form of the body"));
        }
        let mut described = Self::default();
        if flags & IN_CHUNKS != 0 {
            let chunks = Chunks {
                fill: input.u64()?,
                length: input.u64()?,
                checksum: input.u64()?,
                whole: None,
            };
            // Readers and writers make a list of the chunks' names.
            if chunks.length > MAX_BODY {
                return Err(RecordError::Field("length of the body"));
            }
            described.chunks = Some(chunks);
        }
        if flags & COMPRESSED != 0 {
            described.whole = Some(input.u64()?);
        }
        if let Some(chunks) = &mut described.chunks {
            chunks.whole = described.whole;
        }
        Ok(described)
    }

    /// The body from what stands in the record. A large one is not copied.
    pub(super) fn unpack(&self, stored: &[u8], record: &Bytes) -> Result<Bytes, RecordError> {
        match self.whole {
            Some(whole) => decompress(stored, whole),
            // A small body would keep alive a record that is mostly something else.
            None if stored.len() * 2 < record.len() => Ok(Bytes::copy_from_slice(stored)),
            None => Ok(record.slice_ref(stored)),
        }
    }
}

/// Where the chunks of a body are, and what they must add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Random: names the chunks of one writing, so that no reader mixes two.
    pub fill: u64,
    length: u64,
    checksum: u64,
    whole: Option<u64>,
}

impl Chunks {
    /// How many chunks there are.
    pub fn count(&self) -> u64 {
        self.length.div_ceil(CHUNK_BYTES as u64)
    }

    /// How many bytes they have together.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes the body has.
    pub fn body_length(&self) -> u64 {
        self.whole.unwrap_or(self.length)
    }

    /// The body that these chunks are, all of them and in order.
    ///
    /// # Errors
    /// [`RecordError::Length`] or [`RecordError::Checksum`] if they are not what was
    /// written.
    pub fn assemble(&self, chunks: &[Bytes]) -> Result<Bytes, RecordError> {
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if length != self.length {
            return Err(RecordError::Length);
        }
        let mut stored = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
        chunks
            .iter()
            .for_each(|chunk| stored.extend_from_slice(chunk));
        if xxh3_64(&stored) != self.checksum {
            return Err(RecordError::Checksum);
        }
        match self.whole {
            Some(whole) => decompress(&stored, whole),
            None => Ok(stored.freeze()),
        }
    }

    /// The chunks of the record that begins with these bytes, of which nothing is
    /// checked: good enough to let go of what a new record replaces.
    pub fn peek(start: &[u8]) -> Option<Self> {
        let mut input = Input::new(start.get(super::HEADER_BYTES..)?);
        let known = start.starts_with(super::MAGIC) && start[4..6] == super::VERSION.to_le_bytes();
        known.then(|| Description::read(&mut input).ok()?.chunks)?
    }
}

/// How many bytes of a record [`Chunks::peek`] needs.
pub const PEEK_BYTES: usize = super::HEADER_BYTES + 1 + 4 * 8;

thread_local! {
    /// Making one takes longer than to decompress a page.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn at_once(stored: &[u8], whole: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress(stored, whole)
    })
}

fn bit_by_bit(stored: &[u8], whole: u64, likely: usize) -> io::Result<Vec<u8>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
    let mut body = Vec::with_capacity(likely);
    decoder.take(whole + 1).read_to_end(&mut body)?;
    Ok(body)
}

fn decompress(stored: &[u8], whole: u64) -> Result<Bytes, RecordError> {
    const FIELD: RecordError = RecordError::Field("compressed body");
    if whole > MAX_BODY {
        return Err(FIELD);
    }
    // What a record says of a length is not believed before it has come out.
    let likely = stored.len() as u64 * LIKELY_RATIO;
    let body = match usize::try_from(whole) {
        Ok(whole) if whole as u64 <= likely => at_once(stored, whole),
        _ => bit_by_bit(stored, whole, usize::try_from(likely).unwrap_or(0)),
    };
    let body = body.map_err(|_| FIELD)?;
    if body.len() as u64 != whole {
        return Err(FIELD);
    }
    Ok(body.into())
}
