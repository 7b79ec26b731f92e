//! Writes keys into a buffer that is used again, so that a hit allocates nothing.

use super::{Key, KeyError, MAX_KEY_BYTES, MAX_NAMESPACE_BYTES};

/// Builds one key after another. [`KeyBuilder::as_str`] is what a lookup needs; only
/// what is stored needs a [`Key`].
///
/// A part is escaped: `%`, `:`, `|`, `{`, `}`, `,`, `~`, space, control and non-ASCII
/// bytes become `%XX`. An absent value is `~`, an empty one is empty, repeated ones
/// are joined by `,`; a method begins with `~`, a seal with `~=`. The target of a plain key keeps its `%XX` as sent; there the
/// bytes that may not stand for themselves become `#XX`, `#` being the one character
/// that no path or query can hold.
#[derive(Debug, Default)]
pub struct KeyBuilder {
    /// ASCII alone.
    text: Vec<u8>,
    name_at: usize,
}

impl KeyBuilder {
    /// An empty builder. Begin with [`KeyBuilder::origin`] or [`KeyBuilder::shared`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a key of one origin. `authority` is `host` or `host:port`, normalised by
    /// the caller but for its case; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`KeyError::Origin`]; the builder is then empty.
    pub fn origin(&mut self, scheme: &str, authority: &str) -> Result<&mut Self, KeyError> {
        if self.begins_with(scheme, authority) {
            self.text.truncate(self.name_at);
            return Ok(self);
        }
        self.shared();
        if !matches!(scheme, "http" | "https") || authority.is_empty() {
            return Err(KeyError::Origin);
        }
        if !authority
            .bytes()
            .all(|byte| is_authority_byte(byte.to_ascii_lowercase()))
        {
            return Err(KeyError::Origin);
        }
        self.text.extend_from_slice(scheme.as_bytes());
        self.text.extend_from_slice(b"://");
        self.text.extend_from_slice(authority.as_bytes());
        self.text.make_ascii_lowercase();
        self.text.push(b'|');
        self.name_at = self.text.len();
        Ok(self)
    }

    /// Does the key before begin so? Most requests are for the origin of the one before, and
    /// what stands there has been tested.
    fn begins_with(&self, scheme: &str, authority: &str) -> bool {
        let before = self.text.get(..self.name_at).unwrap_or_default();
        let rest = before.strip_prefix(scheme.as_bytes());
        let rest = rest.and_then(|rest| rest.strip_prefix(b"://"));
        rest.and_then(|rest| rest.strip_suffix(b"|")) == Some(authority.as_bytes())
    }

    /// Begins a key that all hosts of a route share.
    pub fn shared(&mut self) -> &mut Self {
        self.text.clear();
        self.name_at = 0;
        self
    }

    /// Continues with a policy's namespace; its parts follow.
    ///
    /// # Errors
    /// [`KeyError::Namespace`].
    pub fn namespace(&mut self, namespace: &str) -> Result<&mut Self, KeyError> {
        if !is_namespace(namespace) {
            return Err(KeyError::Namespace);
        }
        self.text.truncate(self.name_at);
        self.text.extend_from_slice(namespace.as_bytes());
        Ok(self)
    }

    /// Continues with a path and query as sent, which ends a plain key.
    ///
    /// # Errors
    /// [`KeyError::Target`] if it does not begin with `/`.
    pub fn target(&mut self, path_and_query: &[u8]) -> Result<&mut Self, KeyError> {
        if path_and_query.first() != Some(&b'/') {
            return Err(KeyError::Target);
        }
        self.text.truncate(self.name_at);
        escape(&mut self.text, path_and_query, b'#', &PLAIN);
        Ok(self)
    }

    /// Adds a part that has one value.
    pub fn part(&mut self, value: &[u8]) -> &mut Self {
        self.values([value])
    }

    /// Adds a part whose value is absent, which differs from an empty one.
    pub fn absent(&mut self) -> &mut Self {
        self.text.extend_from_slice(b":~");
        self
    }

    /// Adds one part that has all these values, in order; none of them is absent.
    pub fn values<'a>(&mut self, values: impl IntoIterator<Item = &'a [u8]>) -> &mut Self {
        let mut separator = b':';
        for value in values {
            self.text.push(separator);
            escape(&mut self.text, value, b'%', &PART);
            separator = b',';
        }
        if separator == b':' {
            self.absent();
        }
        self
    }

    /// Adds the method of a request whose content is part of its key: `~POST`. No other
    /// part can look like it, so that what comes before and after cannot be mistaken for
    /// parts of a key of another method.
    pub fn method(&mut self, method: &str) -> &mut Self {
        self.text.extend_from_slice(b":~");
        escape(&mut self.text, method.as_bytes(), b'%', &PART);
        self
    }

    /// Ends the key of a sealed route with a digest of what the rest does not say of the
    /// request: `~=DIGEST`. No other part can look like it, since no method has a `=`.
    /// `digest` is hexadecimal.
    pub fn sealed(&mut self, digest: &str) -> &mut Self {
        self.text.extend_from_slice(SEAL.as_bytes());
        escape(&mut self.text, digest.as_bytes(), b'%', &PART);
        self
    }

    /// The key so far: borrow it for a lookup.
    pub fn as_str(&self) -> &str {
        // Being ASCII, it is UTF-8. To test it once costs less than to test each part.
        str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The key so far without its origin.
    pub fn name(&self) -> &str {
        self.as_str().get(self.name_at..).unwrap_or_default()
    }

    /// The key, to be stored.
    ///
    /// # Errors
    /// [`KeyError::TooLong`], or [`KeyError::Malformed`] if neither namespace nor
    /// target was given.
    pub fn key(&self) -> Result<Key, KeyError> {
        if self.text.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong);
        }
        if self.name().is_empty() {
            return Err(KeyError::Malformed);
        }
        Ok(Key::from_checked(self.as_str()))
    }
}

/// What stands before the digest of a sealed key.
pub(super) const SEAL: &str = ":~=";

/// Which bytes stand for themselves: ASCII only.
type Bytes = [bool; 256];

/// In a part.
const PART: Bytes = graphic_but(b"%:|{},~");
/// In the target of a plain key.
const PLAIN: Bytes = graphic_but(b"#|{}");

/// In a namespace.
const NAMESPACE: Bytes = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let is_small = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        table[byte as usize] = is_small || matches!(byte, b'_' | b'-');
        byte += 1;
    }
    table
};

/// A table, since keys are made of each request.
const fn graphic_but(others: &[u8]) -> Bytes {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = true;
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = false;
        at += 1;
    }
    table
}

fn escape(text: &mut Vec<u8>, mut bytes: &[u8], mark: u8, stands_for_itself: &Bytes) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.reserve(bytes.len());
    loop {
        let plain = bytes
            .iter()
            .position(|&byte| !stands_for_itself[usize::from(byte)]);
        let (plain, rest) = bytes.split_at(plain.unwrap_or(bytes.len()));
        text.extend_from_slice(plain);
        let Some((&byte, rest)) = rest.split_first() else {
            return;
        };
        text.push(mark);
        text.push(HEX[usize::from(byte >> 4)]);
        text.push(HEX[usize::from(byte & 0xf)]);
        bytes = rest;
    }
}

fn is_authority_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\''
        | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b'%' | b':' | b'[' | b']')
}

/// Is it a namespace: `[a-z0-9][a-z0-9_-]{0,63}`?
pub(crate) fn is_namespace(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut all = bytes.iter();
    bytes.len() <= MAX_NAMESPACE_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && all.all(|&byte| NAMESPACE[usize::from(byte)])
}

pub(super) fn is_origin(text: &str) -> bool {
    text.strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .is_some_and(|authority| !authority.is_empty() && authority.bytes().all(is_authority_byte))
}

pub(super) fn is_name(text: &str) -> bool {
    if text.starts_with('/') {
        return text.bytes().all(|b| PLAIN[usize::from(b)] || b == b'#');
    }
    let mut parts = text.split(':');
    parts.next().is_some_and(is_namespace)
        && parts.all(|part| {
            part.strip_prefix('~')
                .unwrap_or(part)
                .bytes()
                .all(|b| PART[usize::from(b)] || matches!(b, b'%' | b','))
        })
}
