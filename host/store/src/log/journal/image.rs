//! All marks of a table as bytes.

use weir_semantics::Timestamp;

use crate::log::Limits;
use crate::log::marks::{Mark, Table};
use crate::log::name::{Kinds, Name};
use crate::log::selector::PrefixName;

/// Appends all that a table says.
pub(super) fn write(table: &Table, out: &mut Vec<u8>) {
    let number = |out: &mut Vec<u8>, number: u64| out.extend_from_slice(&number.to_le_bytes());
    let mark = |out: &mut Vec<u8>, mark: Mark| {
        for part in [mark.hard, mark.soft, mark.soft_at.as_millis()] {
            number(out, part);
        }
    };
    number(out, table.kinds().bits().into());
    let at = out.len();
    number(out, 0);
    let mut count: u64 = 0;
    table.each_mark(|hash, of| {
        number(out, hash);
        mark(out, of);
        count += 1;
    });
    out[at..at + 8].copy_from_slice(&count.to_le_bytes());
    let floors = || table.floors().filter(|(_, floor)| *floor > 0);
    number(out, floors().count() as u64);
    for (bucket, floor) in floors() {
        number(out, bucket as u64);
        number(out, floor);
    }
    number(out, table.prefixes().len() as u64);
    table.prefixes().each(|scope, prefix, of, fallback| {
        number(out, scope);
        number(out, fallback.hash);
        number(out, fallback.kinds.bits().into());
        mark(out, of);
        number(out, prefix.len() as u64);
        out.extend_from_slice(prefix.as_bytes());
    });
}

/// Reads it back. `None`: it was not written by [`write`].
pub(super) fn read(bytes: &[u8], limits: Limits, now: Timestamp) -> Option<Table> {
    let mut input = Input(bytes);
    let mut table = Table::new(limits);
    let kinds = Kinds::from_bits(u16::try_from(input.number()?).ok()?);
    for _ in 0..input.number()? {
        let hash = input.number()?;
        table.restore(hash, input.mark()?, now);
    }
    for _ in 0..input.number()? {
        let bucket = usize::try_from(input.number()?).ok()?;
        table.raise_floor(bucket, input.number()?);
    }
    for _ in 0..input.number()? {
        let scope = input.number()?;
        let hash = input.number()?;
        let kinds = Kinds::from_bits(u16::try_from(input.number()?).ok()?);
        let mark = input.mark()?;
        let length = usize::try_from(input.number()?).ok()?;
        let prefix = std::str::from_utf8(input.take(length)?).ok()?;
        let name = PrefixName {
            scope,
            prefix: prefix.into(),
            fallback: Name {
                hash,
                kinds,
                text: String::new(),
            },
            text: String::new(),
        };
        table.restore_prefix(&name, mark, now);
    }
    table.restored(kinds, now);
    input.0.is_empty().then_some(table)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn mark(&mut self) -> Option<Mark> {
        Some(Mark {
            hard: self.number()?,
            soft: self.number()?,
            soft_at: Timestamp::from_millis(self.number()?),
        })
    }
}
