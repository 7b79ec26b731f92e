//! The state of one fill, and every change that it can go through. Nothing here
//! waits: what has to wait leaves its waker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use super::{Begin, FillError, Head, Limits, Outcome, Piece};
use crate::headers::StoredHeaders;
use crate::key::Key;
use crate::object::{Object, ObjectParts};
use crate::position::Position;
use crate::tags::Tags;

/// What a chunk costs besides its bytes, so that a body of one-byte chunks stays in
/// its bounds too.
const CHUNK_OVERHEAD: u64 = 64;

/// A running fetch.
#[derive(Debug)]
pub struct Fill {
    key: Key,
    begin: Begin,
    state: Mutex<State>,
}

impl Fill {
    pub(super) fn new(key: Key, begin: Begin) -> Self {
        Self {
            key,
            begin,
            state: Mutex::new(State::default()),
        }
    }

    /// The key that is being filled.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The target URI, absolute.
    pub fn url(&self) -> &str {
        &self.begin.url
    }

    /// The tags that the request gave; those of the head are in [`Fill::head`].
    pub fn tags(&self) -> &Tags {
        &self.begin.tags
    }

    /// The log position from before the fetch began.
    pub fn position(&self) -> Position {
        self.begin.position
    }

    /// The response head, once it is known.
    pub fn head(&self) -> Option<Arc<Head>> {
        self.state.lock().head.clone()
    }

    /// The object as it stands, if there is a head and all of its body is here.
    pub(super) fn object(&self, trailers: Option<StoredHeaders>) -> Option<Object> {
        let (head, chunks) = {
            let state = self.lock();
            let head = state.head.clone().filter(|_| state.storable)?;
            (
                head,
                state
                    .chunks
                    .iter()
                    .map(|chunk| chunk.bytes.clone())
                    .collect::<Vec<_>>(),
            )
        };
        // Copied even if there is but one chunk: a chunk is a slice of a larger buffer
        // of the connection, which the object would keep alive unweighed.
        let mut body = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
        chunks
            .iter()
            .for_each(|chunk| body.extend_from_slice(chunk));
        Some(Object::new(ObjectParts {
            key: self.key.clone(),
            url: self.begin.url.clone(),
            status: head.status,
            headers: head.headers.clone(),
            body: body.freeze(),
            trailers,
            vary: head.vary.clone(),
            tags: head.tags.clone(),
            freshness: head.freshness,
            fetch_took: head.fetch_took,
            memory_until: head.memory_until,
            shared: head.shared,
            position: self.begin.position,
            policy: head.policy.clone(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Filling,
    /// With the object where it was stored, else with the trailers of the body.
    Complete(Option<Arc<Object>>, Option<StoredHeaders>),
    Failed(FillError),
    Uncacheable,
}

/// Wakers to be called once the lock is gone.
#[must_use]
pub(super) struct Wake(Vec<Waker>);

impl Wake {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// How many readers have not taken it. Counted only once the body is not stored.
    unread: usize,
}

impl Chunk {
    fn cost(&self) -> u64 {
        cost(&self.bytes)
    }
}

pub(super) fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + CHUNK_OVERHEAD
}

#[derive(Debug, Default)]
struct Seat {
    /// The number of the next chunk, counted from the start of the body.
    next: usize,
    /// How many bytes it has taken.
    taken: usize,
    too_slow: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    head: Option<Arc<Head>>,
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk that is still here.
    first: usize,
    received: u64,
    /// The cost of `chunks`.
    held: u64,
    storable: bool,
    seats: Slab<Seat>,
    writer: Option<Waker>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Filling,
            head: None,
            chunks: VecDeque::new(),
            first: 0,
            received: 0,
            held: 0,
            storable: true,
            seats: Slab::new(),
            writer: None,
        }
    }
}

// For readers.
impl State {
    /// A seat for one who joins, if the fill suits a request with these header fields.
    pub(super) fn join(&mut self, request_headers: &HeaderMap) -> Option<usize> {
        let vary = match &self.phase {
            Phase::Filling if self.storable => self.head.as_ref().map(|head| &head.vary),
            Phase::Complete(Some(object), _) => Some(object.vary()),
            _ => return None,
        };
        vary.is_none_or(|vary| vary.matches(request_headers))
            .then(|| self.sit())
    }

    /// A seat at the start of the body.
    pub(super) fn sit(&mut self) -> usize {
        self.seats.insert(Seat::default())
    }

    pub(super) fn leave(&mut self, seat: usize) -> Wake {
        let next = self
            .seats
            .try_remove(seat)
            .map_or(usize::MAX, |seat| seat.next);
        self.no_longer_read_by(next);
        self.wake_writer()
    }

    /// To be called when a reader has taken or left something.
    pub(super) fn wake_writer(&mut self) -> Wake {
        Wake(self.writer.take().into_iter().collect())
    }

    pub(super) fn poll_head(&mut self, seat: usize, cx: &Context<'_>) -> Poll<Outcome> {
        match (&self.phase, &self.head) {
            (Phase::Complete(Some(object), _), _) => Poll::Ready(Outcome::Complete(object.clone())),
            (Phase::Failed(error), _) => Poll::Ready(Outcome::Failed(error.clone())),
            (Phase::Uncacheable, _) => Poll::Ready(Outcome::Uncacheable),
            (_, Some(head)) if !self.is_withheld(0) => Poll::Ready(Outcome::Head(head.clone())),
            (_, _) => self.wait(seat, cx),
        }
    }

    pub(super) fn poll_next(
        &mut self,
        at: usize,
        cx: &Context<'_>,
    ) -> Poll<Result<Piece, FillError>> {
        let Some(seat) = self.seats.get_mut(at) else {
            return Poll::Ready(Err(FillError::Dropped));
        };
        if seat.too_slow {
            return Poll::Ready(Err(FillError::TooSlow));
        }
        match &self.phase {
            Phase::Failed(error) => return Poll::Ready(Err(error.clone())),
            // There is no body to read: whoever asks went past the outcome.
            Phase::Uncacheable => return Poll::Ready(Err(FillError::Dropped)),
            Phase::Complete(Some(object), _) if seat.taken < object.body.len() => {
                let rest = object.body.slice(seat.taken..);
                seat.taken = object.body.len();
                return Poll::Ready(Ok(Piece::Data(rest)));
            }
            Phase::Complete(Some(object), _) => {
                return Poll::Ready(Ok(Piece::End(object.trailers().cloned())));
            }
            Phase::Complete(None, _) | Phase::Filling => {}
        }
        let here = seat.next.wrapping_sub(self.first);
        let taken = seat.taken;
        let up_to = |chunk: &Chunk| taken + chunk.bytes.len();
        let end = self.chunks.get(here).map(up_to);
        if end.is_some_and(|end| self.is_withheld(end)) {
            return self.wait(at, cx);
        }
        if let (Some(chunk), Some(seat)) = (self.chunks.get_mut(here), self.seats.get_mut(at)) {
            let bytes = chunk.bytes.clone();
            seat.next += 1;
            seat.taken += bytes.len();
            if !self.storable {
                chunk.unread = chunk.unread.saturating_sub(1);
                self.drop_read_chunks();
            }
            return Poll::Ready(Ok(Piece::Data(bytes)));
        }
        match &self.phase {
            Phase::Complete(_, trailers) => Poll::Ready(Ok(Piece::End(trailers.clone()))),
            _ => self.wait(at, cx),
        }
    }

    /// Whether a body up to `end` has to wait for the object. Who has all of a body of
    /// announced length takes the response for finished: it would ask again and find
    /// the fetch still running, neither stored nor, if it came to that, failed.
    fn is_withheld(&self, end: usize) -> bool {
        let announced = self.head.as_ref().and_then(|head| head.length);
        matches!(self.phase, Phase::Filling)
            && self.storable
            && announced.is_some_and(|announced| end as u64 >= announced)
    }

    fn wait<T>(&mut self, seat: usize, cx: &Context<'_>) -> Poll<T> {
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn drop_read_chunks(&mut self) {
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.unread == 0) {
            self.held = self.held.saturating_sub(chunk.cost());
            self.first += 1;
        }
    }

    /// A reader whose next chunk was `next` takes no more.
    fn no_longer_read_by(&mut self, next: usize) {
        if !self.storable {
            for chunk in self.chunks.iter_mut().skip(next.saturating_sub(self.first)) {
                chunk.unread = chunk.unread.saturating_sub(1);
            }
            self.drop_read_chunks();
        }
    }
}

// For the writer.
impl State {
    pub(super) fn is_storable(&self) -> bool {
        self.storable
    }

    pub(super) fn has_readers(&self) -> bool {
        self.seats.iter().any(|(_, seat)| !seat.too_slow)
    }

    pub(super) fn open(&mut self, head: Head) -> Wake {
        self.head = Some(Arc::new(head));
        self.wake_readers()
    }

    /// Whether a chunk of this size may be added without the body outgrowing `limits`.
    pub(super) fn fits(&self, chunk: &Bytes, limits: &Limits) -> bool {
        // Costs may reach twice the size: beyond that the chunks are so small that
        // they cost more than what they carry.
        self.received.saturating_add(chunk.len() as u64) <= limits.max_object
            && self.held.saturating_add(cost(chunk)) <= limits.max_object.saturating_mul(2)
    }

    /// Keeps chunks only until the readers of this moment have taken them.
    pub(super) fn give_up_storing(&mut self) -> Wake {
        self.storable = false;
        let end = self.first + self.chunks.len();
        for (number, chunk) in (self.first..end).zip(&mut self.chunks) {
            chunk.unread = self
                .seats
                .iter()
                .filter(|(_, seat)| seat.next <= number)
                .count();
        }
        self.drop_read_chunks();
        self.wake_readers()
    }

    /// Ready when a chunk of a body that is not stored may be added, or nobody reads.
    pub(super) fn poll_room(&mut self, chunk: &Bytes, window: u64, cx: &Context<'_>) -> Poll<()> {
        let room = self.chunks.is_empty() || self.held.saturating_add(cost(chunk)) <= window;
        if room || !self.has_readers() {
            return Poll::Ready(());
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Fails the readers that have taken least, if another has taken all there is.
    pub(super) fn cut_the_slowest(&mut self) -> Wake {
        let end = self.first + self.chunks.len();
        let mut wake = Vec::new();
        if self
            .seats
            .iter()
            .any(|(_, seat)| !seat.too_slow && seat.next == end)
        {
            let mut cut = 0;
            for (_, seat) in &mut self.seats {
                if seat.next <= self.first && !seat.too_slow {
                    seat.too_slow = true;
                    seat.next = usize::MAX;
                    cut += 1;
                    wake.extend(seat.waker.take());
                }
            }
            for chunk in &mut self.chunks {
                chunk.unread = chunk.unread.saturating_sub(cut);
            }
            self.drop_read_chunks();
        }
        Wake(wake)
    }

    pub(super) fn push(&mut self, bytes: Bytes) -> Wake {
        self.received = self.received.saturating_add(bytes.len() as u64);
        let unread = self.seats.iter().filter(|(_, seat)| !seat.too_slow).count();
        if self.storable || unread > 0 {
            self.held += cost(&bytes);
            self.chunks.push_back(Chunk { bytes, unread });
        }
        self.wake_readers()
    }

    /// An error if the body has not the length that the head announced.
    pub(super) fn check_length(&self) -> Result<(), FillError> {
        match self.head.as_ref().and_then(|head| head.length) {
            Some(announced) if announced != self.received => Err(FillError::Length {
                announced,
                received: self.received,
            }),
            _ => Ok(()),
        }
    }

    /// Ends the body well. Readers go on in the object's body, if there is one, so it
    /// must be the same as what was pushed.
    pub(super) fn complete(
        &mut self,
        object: Option<Arc<Object>>,
        trailers: Option<StoredHeaders>,
    ) -> Wake {
        if object.is_some() {
            self.drop_chunks();
        }
        self.phase = Phase::Complete(object, trailers);
        self.wake_readers()
    }

    pub(super) fn fail(&mut self, error: FillError) -> Wake {
        self.drop_chunks();
        self.phase = Phase::Failed(error);
        self.wake_readers()
    }

    pub(super) fn uncacheable(&mut self) -> Wake {
        self.phase = Phase::Uncacheable;
        self.wake_readers()
    }

    fn drop_chunks(&mut self) {
        self.chunks = VecDeque::new();
        self.held = 0;
    }

    fn wake_readers(&mut self) -> Wake {
        Wake(
            self.seats
                .iter_mut()
                .filter_map(|(_, seat)| seat.waker.take())
                .collect(),
        )
    }
}
