//! From a core module to a component that is a Weir policy.

use anyhow::{Context, Result, anyhow, bail};
use wasm_encoder::{ComponentSection, CustomSection};
use weir_policy::CONTRACT;
use wit_component::{ComponentEncoder, DecodedWasm};

/// The interface that makes a component a policy, without its version.
const HOOKS: &str = "weir:policy/hooks";

const NOT_A_POLICY: &str = "what was compiled is not a Weir policy. Its crate must depend on \
     weir-sdk and export one type with `weir_sdk::export!(MyPolicy);`";

/// Wraps a core module into a component, checks it, and makes sure that it exports the hooks
/// of a policy.
pub(super) fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| anyhow!("{}", explain(&error)))?;
    if !exports_hooks(&component)? {
        bail!("{NOT_A_POLICY}");
    }
    Ok(component)
}

/// What a component says of itself, in the custom sections of WebAssembly's tool conventions.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) version: Option<String>,
    pub(super) authors: Option<String>,
    pub(super) description: Option<String>,
}

impl About {
    /// Appends the sections: `version`, `authors` and `description`.
    pub(super) fn write(&self, component: &mut Vec<u8>) {
        let sections = [
            ("version", &self.version),
            ("authors", &self.authors),
            ("description", &self.description),
        ];
        for (name, text) in sections {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                write_section(name, text.as_bytes(), component);
            }
        }
    }
}

/// Appends a custom section.
pub(crate) fn write_section(name: &str, data: &[u8], component: &mut Vec<u8>) {
    let (name, data) = (name.into(), data.into());
    CustomSection { name, data }.append_to_component(component);
}

/// Makes sure that a component that others have made exports the hooks of a policy.
pub(super) fn check_hooks(component: &[u8]) -> Result<()> {
    if !exports_hooks(component)? {
        bail!(
            "what was compiled is not a Weir policy: its world must `export {HOOKS}@{CONTRACT}`, or one \
             of an earlier 1.x, and its code the four hooks"
        );
    }
    Ok(())
}

fn exports_hooks(component: &[u8]) -> Result<bool> {
    let decoded = wit_component::decode(component).context("the component made is not readable")?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Ok(false);
    };
    let mut exports = resolve.worlds[world].exports.keys();
    Ok(exports.any(|key| {
        let name = resolve.name_world_key(key);
        name == HOOKS
            || name
                .strip_prefix(HOOKS)
                .is_some_and(|version| version.starts_with('@'))
    }))
}

fn explain(error: &anyhow::Error) -> String {
    let why = format!("{error:#}");
    // Crates that expect a browser or an operating system import from these.
    let foreign = ["wbindgen", "`env`", "wasi_snapshot_preview1"]
        .iter()
        .any(|import| why.contains(import));
    if foreign {
        format!(
            "the policy, or a crate it depends on, calls something that policies don't have \
             (a browser's or an operating system's functions, such as clocks or random numbers): \
             {why}. Leave that crate out, or switch off its feature \"js\" or \"wasm-bindgen\""
        )
    } else {
        format!("{NOT_A_POLICY} ({why})")
    }
}
