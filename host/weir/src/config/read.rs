//! Typed readers over the spanned TOML document. Each reports what is wrong
//! and goes on, so that one pass finds all errors of a file.

use std::cmp::Ordering;

use toml::de::{DeTable, DeValue};

use super::errors::{Findings, Place};
use super::raw;
use super::schema::{Absent, TableSpec};
use super::suggest::{listed, nearest};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A type that a key can have.
pub(super) trait Read: Sized {
    /// Names the type, for a person: "duration".
    fn kind() -> String;

    /// Reads it; reports, and gives none, where that is not possible.
    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self>;

    /// How it is ordered, for types that have bounds.
    fn compare(&self, _other: &Self) -> Option<Ordering> {
        None
    }
}

/// A table whose keys are known.
pub(super) struct Fields<'v, 'i> {
    table: &'v DeTable<'i>,
    place: Place,
    spec: &'static TableSpec,
}

impl<'v, 'i> Fields<'v, 'i> {
    /// Takes the value as a table and reports the keys that it may not have.
    pub(super) fn open(
        value: &'v DeValue<'i>,
        place: &Place,
        spec: &'static TableSpec,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let DeValue::Table(table) = value else {
            let hint = format!("write it as a table: {}", spec.heading);
            mismatch(place, "table", value, hint, findings);
            return None;
        };
        for (key, _) in table.iter() {
            if spec.key(key.get_ref()).is_none() {
                unknown(
                    key.get_ref(),
                    &place.key(key.get_ref(), key.span()),
                    spec,
                    findings,
                );
            }
        }
        Some(Self {
            table,
            place: place.clone(),
            spec,
        })
    }

    /// Reads one key of the table's [`TableSpec`], or its default.
    pub(super) fn take<T: Read>(&self, name: &str, findings: &mut Findings<'_>) -> Option<At<T>> {
        let spec = self.spec.key(name)?;
        if let Some(found) = self.table.get(name) {
            let place = self.place.key(name, found.span());
            let value = T::read(found.get_ref(), &place, findings)?;
            if let Some((low, high)) = spec.bounds {
                within(&value, (low, high), spec.absent, &place, findings)?;
            }
            return Some(At { value, place });
        }
        let place = self.place.absent(name);
        match spec.absent {
            Absent::Default(text) => Some(At {
                value: literal(text, &place, findings)?,
                place,
            }),
            Absent::Described(_) => None,
            Absent::Required => {
                // A mistyped key has been reported with this name as the hint.
                let unknown = self.table.iter().map(|(key, _)| key.get_ref());
                let mut unknown = unknown.filter(|key| self.spec.key(key).is_none());
                if unknown.any(|key| nearest(key, self.spec.names()) == Some(name)) {
                    return None;
                }
                let title = self.spec.title();
                findings.error(
                    &place,
                    "the key is missing",
                    format!(
                        "add `{name}` ({}) to {title}: {}",
                        T::kind(),
                        spec.doc.trim()
                    ),
                );
                None
            }
        }
    }
}

/// Reads a TOML value of the schema itself.
fn literal<T: Read>(text: &str, place: &Place, findings: &mut Findings<'_>) -> Option<T> {
    let value = DeValue::parse(text).ok()?;
    let place = Place {
        given: false,
        ..place.clone()
    };
    T::read(value.get_ref(), &place, findings)
}

fn within<T: Read>(
    value: &T,
    (low, high): (&str, &str),
    absent: Absent,
    place: &Place,
    findings: &mut Findings<'_>,
) -> Option<()> {
    let below = value.compare(&literal(low, place, findings)?) == Some(Ordering::Less);
    let above = value.compare(&literal(high, place, findings)?) == Some(Ordering::Greater);
    if !below && !above {
        return Some(());
    }
    let message = if below {
        format!("the value is too small, the least is {low}")
    } else {
        format!("the value is too large, the greatest is {high}")
    };
    let mut hint = format!("write a value from {low} to {high}");
    if let Absent::Default(default) = absent {
        hint = format!("{hint}; the default is {default}");
    }
    findings.error(place, message, hint);
    None
}

/// Reports a key that a table may not have.
fn unknown(key: &str, place: &Place, spec: &TableSpec, findings: &mut Findings<'_>) {
    let home = raw::TABLES.iter().find(|table| table.key(key).is_some());
    let hint = if let Some(near) = nearest(key, spec.names()) {
        format!("did you mean `{near}`?")
    } else if let Some(home) = home {
        let before = if home.heading.is_empty() {
            ", before the first [table]"
        } else {
            ""
        };
        format!("`{key}` belongs to {}{before}", home.title())
    } else {
        format!("the keys of {} are {}", spec.title(), listed(spec.names()))
    };
    findings.error(place, "there is no such key", hint);
}

/// Reports a value of the wrong type.
pub(super) fn mismatch(
    place: &Place,
    expected: &str,
    found: &DeValue<'_>,
    hint: impl Into<String>,
    findings: &mut Findings<'_>,
) {
    let article = |word: &str| {
        if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
            "an"
        } else {
            "a"
        }
    };
    let found = found.type_str();
    let message = format!(
        "expected {} {expected}, found {} {found}",
        article(expected),
        article(found)
    );
    findings.error(place, message, hint);
}
