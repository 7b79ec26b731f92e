//! Lengths, integers and texts as records write them.

use super::RecordError;

/// Writes fields one after another.
#[derive(Debug)]
pub(super) struct Output(Vec<u8>);

impl Output {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A length in one byte up to 254, else in nine.
    pub(super) fn count(&mut self, value: usize) {
        match u8::try_from(value) {
            Ok(short) if short < u8::MAX => self.raw(&[short]),
            _ => {
                self.raw(&[u8::MAX]);
                self.u64(value as u64);
            }
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.raw(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields one after another; every length is compared with what is left before
/// it is used.
#[derive(Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length, not yet compared with what is left: take that much, or read so many
    /// things one by one, but reserve nothing for it.
    pub(super) fn count(&mut self) -> Result<usize, RecordError> {
        match self.u8()? {
            u8::MAX => usize::try_from(self.u64()?).map_err(|_| RecordError::Length),
            short => Ok(usize::from(short)),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.count()?;
        self.take(length)
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RecordError::Field(field))
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(RecordError::Field("option")),
        }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
