//! Readers of values made of other values: lists, named tables, choices, JSON.

use toml::de::DeValue;

use super::errors::{Findings, Place};
use super::read::{At, Read, mismatch};
use super::suggest::{listed, nearest};

/// An array.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    /// Those that could be read.
    pub(super) values: Vec<At<T>>,
    /// Whether the file has none at all.
    pub(super) is_empty: bool,
}

/// An array, or one value alone.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub(super) List<T>);

/// `[[name]]` tables.
#[derive(Debug)]
pub(super) struct Tables<T>(pub(super) List<T>);

/// `[group.NAME]` tables, by name. A place is that of the name.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(String, At<Option<T>>)>);

/// A table of any content.
#[derive(Clone, Debug)]
pub(super) struct Json(pub(super) serde_json::Value);

/// A type with a fixed set of names.
pub(super) trait Choice: Copy + 'static {
    /// All names, and what they mean.
    const NAMES: &'static [(&'static str, Self)];
}

fn elements<T: Read>(
    values: &toml::de::DeArray<'_>,
    place: &Place,
    findings: &mut Findings<'_>,
) -> List<T> {
    let read = |(index, found): (usize, &serde_spanned::Spanned<DeValue<'_>>)| {
        let place = place.index(index, found.span());
        let value = T::read(found.get_ref(), &place, findings)?;
        Some(At { value, place })
    };
    List {
        values: values.iter().enumerate().filter_map(read).collect(),
        is_empty: values.is_empty(),
    }
}

impl<T: Read> Read for List<T> {
    fn kind() -> String {
        format!("list of {}", plural(&T::kind()))
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        if let DeValue::Array(values) = value {
            return Some(elements(values, place, findings));
        }
        let hint = match value {
            DeValue::String(text) => format!("write it in brackets: [{:?}]", text.as_ref()),
            _ => "write it in brackets: [\"A\", \"B\"]".to_owned(),
        };
        mismatch(place, &Self::kind(), value, hint, findings);
        None
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn kind() -> String {
        format!("{}, or list of them", T::kind())
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        if let DeValue::Array(values) = value {
            return Some(Self(elements(values, place, findings)));
        }
        let value = T::read(value, place, findings)?;
        let values = vec![At {
            value,
            place: place.clone(),
        }];
        Some(Self(List {
            values,
            is_empty: false,
        }))
    }
}

impl<T: Read> Read for Tables<T> {
    fn kind() -> String {
        "list of tables".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        if let DeValue::Array(values) = value {
            return Some(Self(elements(values, place, findings)));
        }
        let hint = format!("write each with two brackets: [[{}]]", place.path);
        mismatch(place, "list of tables", value, hint, findings);
        None
    }
}

impl<T: Read> Read for Named<T> {
    fn kind() -> String {
        "tables by name".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let DeValue::Table(table) = value else {
            let hint = format!("write each with its name: [{}.NAME]", place.path);
            mismatch(place, "table", value, hint, findings);
            return None;
        };
        let mut named = Vec::new();
        for (key, found) in table.iter() {
            let name = key.get_ref();
            let key_place = place.key(name, key.span());
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
                findings.error(
                    &key_place,
                    "the name may have only ASCII letters, digits, `-` and `_`, 1 to 64 of them",
                    format!("rename it, such as [{}.my-name]", place.path),
                );
            }
            // A key in `[group]` itself: the name was forgotten.
            if !found.get_ref().is_table() {
                let hint = format!("[{}.NAME] needs a name of your choice", place.path);
                mismatch(&key_place, "table", found.get_ref(), hint, findings);
                continue;
            }
            let value = T::read(found.get_ref(), &key_place, findings);
            named.push((
                name.to_string(),
                At {
                    value,
                    place: key_place,
                },
            ));
        }
        Some(Self(named))
    }
}

impl<T: Choice> Read for T {
    fn kind() -> String {
        let names: Vec<_> = T::NAMES
            .iter()
            .map(|(name, _)| format!("`\"{name}\"`"))
            .collect();
        names.join(" or ")
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let names = || T::NAMES.iter().map(|(name, _)| *name);
        let choices = || format!("the choices are {}", listed(names()));
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(number) if names().any(|name| name == number.as_str()) => {
                let hint = format!("it needs quotes: \"{number}\"");
                mismatch(place, "string", value, hint, findings);
                return None;
            }
            _ => {
                mismatch(place, "string", value, choices(), findings);
                return None;
            }
        };
        let found = T::NAMES.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let hint = match nearest(text, names()) {
                Some(near) => format!("did you mean {near:?}? {}", choices()),
                None => choices(),
            };
            findings.error(
                place,
                format!("{:?} is not one of the choices", text.as_ref()),
                hint,
            );
        }
        found.map(|(_, value)| *value)
    }
}

impl Read for Json {
    fn kind() -> String {
        "table of any content".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        if !value.is_table() {
            let hint = "write a table: { key = \"value\" }";
            mismatch(place, "table", value, hint, findings);
            return None;
        }
        json(value, place, findings).map(Self)
    }
}

/// TOML as JSON. Dates become strings. The depth is bounded by the parser (80).
fn json(
    value: &DeValue<'_>,
    place: &Place,
    findings: &mut Findings<'_>,
) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Integer(number) => {
            let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) else {
                findings.error(
                    place,
                    format!("{number} does not fit into 64 bits"),
                    "write a smaller number, or a string that the policy parses",
                );
                return None;
            };
            number.into()
        }
        DeValue::Float(number) => {
            let parsed = number
                .as_str()
                .parse()
                .ok()
                .and_then(serde_json::Number::from_f64);
            if parsed.is_none() {
                findings.error(
                    place,
                    format!("{number} has no place in JSON, as which a policy gets its config"),
                    "write a finite number, or a string",
                );
            }
            parsed?.into()
        }
        DeValue::Array(values) => {
            let read = |(index, found): (usize, &serde_spanned::Spanned<DeValue<'_>>)| {
                json(found.get_ref(), &place.index(index, found.span()), findings)
            };
            values.iter().enumerate().filter_map(read).collect()
        }
        DeValue::Table(table) => table
            .iter()
            .filter_map(|(key, found)| {
                let place = place.key(key.get_ref(), found.span());
                Some((
                    key.get_ref().to_string(),
                    json(found.get_ref(), &place, findings)?,
                ))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    })
}

fn plural(kind: &str) -> String {
    // Choices are names in backquotes, not a noun.
    if kind.starts_with('`') {
        kind.to_owned()
    } else if kind.ends_with('s') {
        format!("{kind}es")
    } else {
        format!("{kind}s")
    }
}
