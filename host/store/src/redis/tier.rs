//! Objects in Redis: found, judged by the log, and handed on.

use std::sync::Arc;

use ::redis::{Pipeline, cmd, pipe};
use bytes::Bytes;
use http::HeaderMap;
use weir_semantics::Timestamp;

use super::chunks;
use super::client::{Client, Patience};
use super::error::CallError;
use super::keys::Keys;
use super::variants;
use crate::Object;
use crate::log::{Bearings, Log, Seen, Verdict};
use crate::record::{self, Chunks, Decoded, RecordError};

/// The reading side of the tier.
#[derive(Clone, Debug)]
pub(super) struct Tier {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) log: Log,
}

/// Epoch, sequence and last nonce of the log in Redis; absent when it has none.
type LogState = (Option<u64>, Option<u64>, Option<u64>);

/// What stands under one key.
enum Found {
    Nothing,
    Object(Box<Object>, Option<Chunks>),
    /// The index of variants.
    Index(Bytes),
}

impl Tier {
    pub(super) async fn get(
        &self,
        key: &str,
        request: &HeaderMap,
    ) -> Result<Option<Arc<Object>>, CallError> {
        let result = self.look_up(key, request).await;
        let stats = self.client.stats();
        match &result {
            Ok(Some(_)) => stats.hits.one(),
            Ok(None) => stats.misses.one(),
            Err(_) => stats.failed_reads.one(),
        }
        result
    }

    async fn look_up(
        &self,
        key: &str,
        request: &HeaderMap,
    ) -> Result<Option<Arc<Object>>, CallError> {
        let base = self.keys.object(key);
        let index = match self.read(vec![base.clone()], key).await?.pop() {
            None | Some(Found::Nothing) => return Ok(None),
            Some(Found::Object(object, chunks)) => {
                return self.whole(suits(object, chunks, request), &base).await;
            }
            Some(Found::Index(index)) => index,
        };
        let Some(selected) = variants::candidates(&index, request) else {
            self.discard(&base).await;
            return Ok(None);
        };
        let names: Vec<String> = selected
            .iter()
            .map(|vary| self.keys.variant(key, variants::hash(vary)))
            .collect();
        let found = self.read(names.clone(), key).await?;
        let mut found = found.into_iter().zip(&names);
        let suitable = found.find_map(|(found, name)| match found {
            Found::Object(object, chunks) => Some((suits(object, chunks, request)?, name)),
            Found::Nothing | Found::Index(_) => None,
        });
        match suitable {
            Some((suitable, name)) => self.whole(Some(suitable), name).await,
            None => Ok(None),
        }
    }

    /// The object with its body, wherever that is. `name` is its record's.
    async fn whole(
        &self,
        found: Option<(Box<Object>, Option<Chunks>)>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, CallError> {
        let Some((mut object, chunks)) = found else {
            return Ok(None);
        };
        let Some(chunks) = chunks else {
            return Ok(Some(Arc::from(object)));
        };
        let key = object.key.as_str();
        match chunks::gather(&self.client, &self.keys, key, chunks).await? {
            chunks::Gathered::Body(body) => {
                object.body = body;
                Ok(Some(Arc::from(object)))
            }
            chunks::Gathered::Gone => Ok(None),
            chunks::Gathered::Damaged(error) => {
                tracing::warn!(%error, key = name, "a body in Redis is unusable; deleted");
                self.discard(name).await;
                Ok(None)
            }
        }
    }

    /// Reads keys, and after them where the log stands. What is purged counts as absent.
    async fn read(&self, names: Vec<String>, key: &str) -> Result<Vec<Found>, CallError> {
        let (before, began) = (self.log.bearings(), self.client.now());
        let Some((values, state)) = self.values(&names).await? else {
            return Ok(Vec::new());
        };
        self.catch_up(before, state, began).await?;
        let mut found = Vec::with_capacity(values.len());
        for (value, name) in values.into_iter().zip(&names) {
            found.push(self.decode(value, name, key).await);
        }
        Ok(found)
    }

    /// The values, and where the log stood after they were read; nothing if there are none.
    async fn values(
        &self,
        names: &[String],
    ) -> Result<Option<(Vec<Option<Bytes>>, LogState)>, CallError> {
        let (mut values, mut state) = (cmd("MGET"), cmd("HMGET"));
        values.arg(names);
        state.arg(self.keys.state());
        state.arg("epoch").arg("sequence").arg("nonce");
        if !self.client.scattered() {
            let mut pipeline: Pipeline = pipe();
            pipeline.add_command(values).add_command(state);
            let found: (Vec<Option<Bytes>>, LogState) =
                self.client.pipeline(&pipeline, Patience::Request).await?;
            return Ok(found.0.iter().any(Option::is_some).then_some(found));
        }
        // Without the log nothing is trusted: the object need not be read.
        if !*self.client.watch().borrow() {
            return Err(CallError::Down);
        }
        let found: Vec<Option<Bytes>> = self.client.command(&values, Patience::Request).await?;
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let state = self.client.command(&state, Patience::Request).await?;
        Ok(Some((found, state)))
    }

    /// Makes sure that this node has applied the log up to `state`, which was read after
    /// what is to be trusted.
    async fn catch_up(
        &self,
        before: Bearings,
        (epoch, sequence, nonce): LogState,
        began: Timestamp,
    ) -> Result<(), CallError> {
        let seen = Seen {
            epoch,
            sequence: sequence.unwrap_or(0),
            nonce: nonce.unwrap_or(0),
        };
        if self.log.confirm(before, seen, began) {
            return Ok(());
        }
        // Behind the log, or it is not the one that was followed.
        let limit = self.client.deadline();
        let caught_up = self.log.catch_up(self.client.now());
        match tokio::time::timeout(limit, caught_up).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(CallError::Down),
            Err(_) => Err(CallError::Deadline(limit)),
        }
    }

    async fn decode(&self, value: Option<Bytes>, name: &str, key: &str) -> Found {
        let Some(value) = value else {
            return Found::Nothing;
        };
        if variants::is_index(&value) {
            return Found::Index(value);
        }
        let decoded = record::read(&value, key).map(|decoded| match decoded {
            Decoded::Whole(object) => (object, None),
            Decoded::InChunks(object, chunks) => (object, Some(chunks)),
        });
        match decoded {
            Ok((object, _)) if self.log.verdict(&object) == Verdict::Dead => Found::Nothing,
            Ok((object, chunks)) => Found::Object(object, chunks),
            // While a fleet is upgraded, its nodes write different versions.
            Err(RecordError::Version(_)) => Found::Nothing,
            Err(error) => {
                tracing::warn!(%error, key = name, "a record in Redis is unusable; deleted");
                self.discard(name).await;
                Found::Nothing
            }
        }
    }

    async fn discard(&self, name: &str) {
        self.client.stats().corrupt.one();
        // If it stays, the next reader finds it and tries again.
        let _: Result<u64, _> = self
            .client
            .command(cmd("UNLINK").arg(name), Patience::Request)
            .await;
    }
}

/// The object, if it answers this request. RFC 9111 section 4.1.
fn suits(
    object: Box<Object>,
    chunks: Option<Chunks>,
    request: &HeaderMap,
) -> Option<(Box<Object>, Option<Chunks>)> {
    object.vary().matches(request).then_some((object, chunks))
}
