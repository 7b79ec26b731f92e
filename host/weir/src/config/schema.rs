//! The description of the configuration's tables, made by `table!` in
//! [`raw`](super::raw) from the same lines as the structs that are read.

use std::fmt::Write;

/// One table of the file.
#[derive(Debug)]
pub(super) struct TableSpec {
    /// As in the file, such as `[upstreams.NAME]`; empty for the top.
    pub(super) heading: &'static str,
    /// What the table is for.
    pub(super) doc: &'static str,
    /// All keys that it may have.
    pub(super) keys: &'static [KeySpec],
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct KeySpec {
    pub(super) name: &'static str,
    /// Names the type, for a person.
    pub(super) kind: fn() -> String,
    pub(super) absent: Absent,
    /// Least and greatest value, as TOML.
    pub(super) bounds: Option<(&'static str, &'static str)>,
    pub(super) doc: &'static str,
}

/// What it means when a key is not given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// An error.
    Required,
    /// This TOML value stands.
    Default(&'static str),
    /// Described for a person: nothing, or worked out from other settings.
    Described(&'static str),
}

impl TableSpec {
    pub(super) fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// How to name the table in a hint.
    pub(super) fn title(&self) -> &'static str {
        if self.heading.is_empty() {
            "the top of the file"
        } else {
            self.heading
        }
    }
}

/// The reference of all tables as Markdown.
pub(super) fn markdown(tables: &[&TableSpec]) -> String {
    let mut page = String::from("# weir.toml\n");
    for table in tables {
        let heading = if table.heading.is_empty() {
            "Top of the file".to_owned()
        } else {
            format!("`{}`", table.heading)
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {heading}\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            table.doc.trim()
        );
        for key in table.keys {
            let mut kind = (key.kind)();
            if let Some((low, high)) = key.bounds {
                let _ = write!(kind, ", `{low}` to `{high}`");
            }
            let absent = match key.absent {
                Absent::Required => "required".to_owned(),
                Absent::Default(value) => format!("`{value}`"),
                Absent::Described(words) => words.to_owned(),
            };
            let cells = [
                format!("`{}`", key.name),
                kind,
                absent,
                key.doc.trim().to_owned(),
            ];
            let _ = writeln!(
                page,
                "| {} |",
                cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
            );
        }
    }
    page
}

/// Declares a table of the file: the struct it is read into, how it is read,
/// and its [`TableSpec`].
///
/// Each key has a doc comment, a type that is [`Read`](super::read::Read), and
/// one of: nothing (required), `= DEFAULT` as in TOML, or `absent "words"`;
/// then, if it has bounds, `in LEAST..=GREATEST` as in TOML.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $heading:literal $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident : $kind:ty $(, = $default:tt)? $(, absent $words:literal)?
                $(, in $low:literal ..= $high:literal)? ;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(super) struct $name {
            $(
                $(#[doc = $doc])+
                pub(super) $key: Option<At<$kind>>,
            )+
        }

        impl $name {
            pub(super) const SPEC: &TableSpec = &TableSpec {
                heading: $heading,
                doc: concat!($($about),+),
                keys: &[$(KeySpec {
                    name: stringify!($key),
                    kind: <$kind as Read>::kind,
                    absent: table!(@absent $($default)? ; $($words)?),
                    bounds: table!(@bounds $($low, $high)?),
                    doc: concat!($($doc),+),
                }),+],
            };
        }

        impl Read for $name {
            fn kind() -> String {
                "table".to_owned()
            }

            fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
                let fields = Fields::open(value, place, Self::SPEC, findings)?;
                Some(Self { $($key: fields.take(stringify!($key), findings)),+ })
            }
        }
    };
    (@absent ;) => { Absent::Required };
    (@absent $default:tt ;) => { Absent::Default(stringify!($default)) };
    (@absent ; $words:literal) => { Absent::Described($words) };
    (@bounds) => { None };
    (@bounds $low:literal, $high:literal) => { Some((stringify!($low), stringify!($high))) };
}
pub(super) use table;
