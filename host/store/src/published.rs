//! What the nodes of a fleet agree on: named documents in Redis, of which the one with the
//! highest revision counts, and the contents that they name by their hash.
//!
//! | key | holds |
//! |---|---|
//! | `PREFIX:{NAME}:documents` | a hash: a document's name, and its revision and text |
//! | `PREFIX:{NAME}:changed` | other text after each change |
//! | `PREFIX:{NAME}:content:DOCUMENT:HASH` | bytes, which end by themselves once no document needs them |

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis::{Script, cmd};

use crate::redis::client::{Client, Patience};
use crate::redis::keys::Keys;
use crate::redis::{CallError, Redis};

static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("redis/scripts/publish.lua")));

/// Contents go in pieces: other calls on the same connection wait for one, not for all.
const PIECE: usize = 256 << 10;
/// How long contents stand that no document needs: a node that is a little behind finds
/// them, and so does the document that will need them.
const UNNEEDED: Duration = Duration::from_secs(3_600);

/// Documents of one sort. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Published {
    client: Client,
    keys: Keys,
    name: &'static str,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The higher one counts. At most 2^53.
    pub revision: u64,
    /// What it says.
    pub text: String,
}

impl Published {
    /// Those under this name, which must have neither braces nor what a key of an object
    /// has (`:`, `|`, `/`).
    #[must_use]
    pub fn new(redis: &Redis, name: &'static str) -> Self {
        Self {
            client: redis.client().clone(),
            keys: redis.keys().clone(),
            name,
        }
    }

    /// Other text after each change; none where nothing was ever published, or Redis has
    /// lost it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn changed(&self) -> Result<Option<String>, CallError> {
        let mut call = cmd("GET");
        call.arg(self.key("changed"));
        self.client.command(&call, Patience::Background).await
    }

    /// All documents, by name. What is none is left out.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn documents(&self) -> Result<BTreeMap<String, Document>, CallError> {
        let mut call = cmd("HGETALL");
        call.arg(self.key("documents"));
        let all: BTreeMap<String, String> =
            self.client.command(&call, Patience::Background).await?;
        let read = |(name, text): (String, String)| Some((name, Document::read(&text)?));
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Puts a document in the place of one with a lower revision, and returns the one that
    /// stands if there is none. `needs` and `lets_go` are contents, by hash: the first ones
    /// must have been [put](Self::put).
    ///
    /// # Errors
    /// [`CallError`]: it may stand, or not.
    pub async fn publish(
        &self,
        name: &str,
        document: &Document,
        needs: &[&str],
        lets_go: &[&str],
    ) -> Result<Option<Document>, CallError> {
        let mut call = PUBLISH.key(self.key("documents"));
        call.key(self.key("changed"));
        for hash in needs.iter().chain(lets_go) {
            call.key(self.content_key(name, hash));
        }
        let ttl = u64::try_from(UNNEEDED.as_millis()).unwrap_or(u64::MAX);
        call.arg(name)
            .arg(document.revision)
            .arg(&document.text)
            .arg(ttl);
        for _ in needs {
            call.arg("keep");
        }
        for _ in lets_go {
            call.arg("let go");
        }
        call.arg(format!("{:016x}", fastrand::u64(..)));
        let stands: Option<String> = self.client.script(&call, Patience::Background).await?;
        Ok(stands.as_deref().and_then(Document::read))
    }

    /// Writes contents that a document is about to need. Without one they end by
    /// themselves.
    ///
    /// # Errors
    /// [`CallError`]: a part of it may stand.
    pub async fn put(&self, name: &str, hash: &str, content: &Bytes) -> Result<(), CallError> {
        let key = self.content_key(name, hash);
        let ttl = u64::try_from(UNNEEDED.as_millis()).unwrap_or(u64::MAX);
        // What stands keeps its end, or that it has none: a document may need it.
        let mut call = cmd("SET");
        call.arg(&key).arg("").arg("NX").arg("PX").arg(ttl);
        let _: Option<String> = self.client.command(&call, Patience::Background).await?;
        for (number, piece) in content.chunks(PIECE).enumerate() {
            let mut call = cmd("SETRANGE");
            call.arg(&key).arg(number * PIECE).arg(piece);
            let _: u64 = self.client.command(&call, Patience::Background).await?;
        }
        Ok(())
    }

    /// Lets contents stand that a document needs already, and that were lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn keep(&self, name: &str, hash: &str) -> Result<(), CallError> {
        let mut call = cmd("PERSIST");
        call.arg(self.content_key(name, hash));
        self.client.command(&call, Patience::Background).await
    }

    /// Whether contents stand with this number of bytes.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn has(&self, name: &str, hash: &str, bytes: usize) -> Result<bool, CallError> {
        let mut call = cmd("STRLEN");
        call.arg(self.content_key(name, hash));
        let length: usize = self.client.command(&call, Patience::Background).await?;
        Ok(length == bytes)
    }

    /// Contents of this number of bytes, if they stand. The caller tests their hash.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(
        &self,
        name: &str,
        hash: &str,
        bytes: usize,
    ) -> Result<Option<Bytes>, CallError> {
        let key = self.content_key(name, hash);
        let mut content = BytesMut::new();
        while content.len() < bytes {
            let (from, to) = (content.len(), (content.len() + PIECE).min(bytes));
            let mut call = cmd("GETRANGE");
            call.arg(&key).arg(from).arg(to - 1);
            let piece: Vec<u8> = self.client.command(&call, Patience::Background).await?;
            if piece.len() != to - from {
                return Ok(None);
            }
            content.extend_from_slice(&piece);
        }
        Ok(Some(content.freeze()))
    }

    fn key(&self, part: &str) -> String {
        self.keys.published(self.name, part)
    }

    fn content_key(&self, document: &str, hash: &str) -> String {
        self.key(&format!("content:{document}:{hash}"))
    }
}

impl Document {
    fn read(text: &str) -> Option<Self> {
        let (revision, text) = text.split_once(' ')?;
        Some(Self {
            revision: revision.parse().ok()?,
            text: text.to_owned(),
        })
    }
}
