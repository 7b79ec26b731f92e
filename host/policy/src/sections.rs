//! The custom sections of a component: what its makers put beside its code.

use wasmparser::{Chunk, Parser, Payload};

/// The custom sections of the component itself, by name, in their order; not those of what
/// is inside of it. What cannot be parsed ends them: the compiler has the last word about it.
pub fn custom_sections(component: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut sections = Sections {
        parser: Parser::new(0),
        rest: component,
    };
    std::iter::from_fn(move || sections.next())
}

struct Sections<'a> {
    parser: Parser,
    rest: &'a [u8],
}

impl<'a> Sections<'a> {
    fn next(&mut self) -> Option<(&'a str, &'a [u8])> {
        while let Ok(Chunk::Parsed { consumed, payload }) = self.parser.parse(self.rest, true) {
            let inner = match &payload {
                Payload::ModuleSection {
                    unchecked_range, ..
                }
                | Payload::ComponentSection {
                    unchecked_range, ..
                } => usize::try_from(unchecked_range.end.saturating_sub(unchecked_range.start)),
                _ => Ok(0),
            };
            let next = inner.ok().and_then(|inner| consumed.checked_add(inner));
            let next = next.and_then(|next| self.rest.get(next..));
            // Nothing is left where a section claims more than there is.
            self.rest = next.unwrap_or_default();
            match payload {
                Payload::CustomSection(section) => return Some((section.name(), section.data())),
                Payload::End(_) => break,
                _ => {}
            }
        }
        self.rest = &[];
        None
    }
}
