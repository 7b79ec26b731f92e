//! The side that fetches.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;

use super::state::{self, Fill, Wake};
use super::{FillError, Head, Reader, Table};
use crate::headers::StoredHeaders;
use crate::object::Object;

/// Who still wants what is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Somebody reads it.
    Readers,
    /// Nobody reads it, but it can still be stored.
    Store,
    /// Nobody reads it and it is too large to be stored: stop.
    Nobody,
}

/// The end of a fill that nobody may forget: dropped in whatever state, it fails what
/// was not ended otherwise.
struct Held {
    fill: Arc<Fill>,
    table: Arc<Table>,
    /// What this fill takes of [`super::Limits::max_buffered`].
    reserved: u64,
    ended: bool,
}

impl Held {
    fn end(&mut self, change: impl FnOnce(&mut state::State) -> Wake) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let wake = change(&mut self.fill.lock());
        self.table.release(std::mem::take(&mut self.reserved));
        self.table.unlist(&self.fill);
        wake.wake();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(|state| state.fail(FillError::Dropped));
    }
}

/// The duty to fetch an object, and to say how that went. Dropping it fails the fill
/// with [`FillError::Dropped`].
#[must_use = "dropping it fails the fill"]
pub struct Obligation(Held);

impl Obligation {
    pub(super) fn new(fill: Arc<Fill>, table: Arc<Table>) -> Self {
        Self(Held {
            fill,
            table,
            reserved: 0,
            ended: false,
        })
    }

    /// The fill, with the position that its object will carry.
    pub fn fill(&self) -> &Fill {
        &self.0.fill
    }

    /// A reader for the one who started the fill.
    pub fn reader(&self) -> Reader {
        Reader::sit(&self.0.fill)
    }

    /// The response is being stored: opens it to the readers.
    pub fn head(self, head: Head) -> Writer {
        let Self(held) = self;
        let too_long = head
            .length
            .is_some_and(|length| length > held.table.limits().max_object);
        let wake = {
            let mut state = held.fill.lock();
            let given_up = too_long.then(|| state.give_up_storing());
            (given_up, state.open(head))
        };
        if too_long {
            held.table.unlist(&held.fill);
        }
        wake.0.into_iter().chain([wake.1]).for_each(Wake::wake);
        Writer(held)
    }

    /// The object is known without a new body: the origin answered 304, or another
    /// tier had it. Store it first.
    pub fn refreshed(mut self, object: Arc<Object>) {
        self.0.end(|state| state.complete(Some(object), None));
    }

    /// The response may not be stored: whoever waits goes on by itself, at once.
    pub fn uncacheable(mut self) {
        self.0.end(state::State::uncacheable);
    }

    /// There is no response.
    pub fn fail(mut self, error: FillError) {
        self.0.end(|state| state.fail(error));
    }
}

impl fmt::Debug for Obligation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Obligation")
            .field(self.0.fill.key())
            .finish()
    }
}

/// Writes the body of a response that is being stored. Dropping it fails the fill with
/// [`FillError::Dropped`].
#[must_use = "dropping it fails the fill"]
pub struct Writer(Held);

impl Writer {
    /// The fill that it writes.
    pub fn fill(&self) -> &Fill {
        &self.0.fill
    }

    /// Who still wants it.
    pub fn demand(&self) -> Demand {
        let state = self.0.fill.lock();
        match (state.has_readers(), state.is_storable()) {
            (true, _) => Demand::Readers,
            (false, true) => Demand::Store,
            (false, false) => Demand::Nobody,
        }
    }

    /// Adds a piece of the body. Returns at once while the body can be stored; beyond
    /// that, when the readers have left room for it within [`super::Limits::window`].
    /// When it waits and is cancelled, the piece is not added.
    pub async fn push(&mut self, bytes: Bytes) -> Demand {
        if bytes.is_empty() {
            return self.demand();
        }
        if !self.keep(&bytes) {
            self.wait_for_room(&bytes).await;
        }
        let wake = self.0.fill.lock().push(bytes);
        wake.wake();
        self.demand()
    }

    /// Whether the piece can be kept for good. If not, what is kept goes as it is read.
    fn keep(&mut self, bytes: &Bytes) -> bool {
        let Held {
            fill,
            table,
            reserved,
            ..
        } = &mut self.0;
        let mut state = fill.lock();
        if !state.is_storable() {
            return false;
        }
        let cost = state::cost(bytes);
        if state.fits(bytes, table.limits()) && table.reserve(cost) {
            *reserved += cost;
            return true;
        }
        let wake = state.give_up_storing();
        drop(state);
        wake.wake();
        table.release(std::mem::take(reserved));
        table.unlist(fill);
        false
    }

    async fn wait_for_room(&self, bytes: &Bytes) {
        let Held { fill, table, .. } = &self.0;
        let limits = table.limits();
        loop {
            let room = poll_fn(|cx| fill.lock().poll_room(bytes, limits.window, cx));
            if tokio::time::timeout(limits.patience, room).await.is_ok() {
                return;
            }
            let wake = fill.lock().cut_the_slowest();
            wake.wake();
        }
    }

    /// The body ended well. While it can be stored, `store` is given the object before
    /// anyone else can see it; afterwards it is what late joiners get. Absent if the
    /// body was too large.
    ///
    /// # Errors
    /// [`FillError::Length`] if the body has not the announced length; the fill has
    /// failed then, and nothing was stored.
    pub fn finish(
        mut self,
        trailers: Option<StoredHeaders>,
        store: impl FnOnce(&Arc<Object>),
    ) -> Result<Option<Arc<Object>>, FillError> {
        let checked = self.0.fill.lock().check_length();
        if let Err(error) = checked {
            self.0.end(|state| state.fail(error.clone()));
            return Err(error);
        }
        let object = self.0.fill.object(trailers.clone()).map(Arc::new);
        if let Some(object) = &object {
            store(object);
        }
        self.0.end(|state| state.complete(object.clone(), trailers));
        Ok(object)
    }

    /// The body broke off.
    pub fn fail(mut self, error: FillError) {
        self.0.end(|state| state.fail(error));
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(self.0.fill.key()).finish()
    }
}
