//! What goes wrong when a policy is loaded or called.

use std::fmt;
use std::sync::Arc;

use crate::load::CONTRACT;
use crate::stats::Hook;

/// A policy that cannot be loaded, and why.
#[derive(Debug, thiserror::Error)]
#[error("policy `{policy}`: {cause}")]
pub struct LoadError {
    /// The policy's name in the configuration.
    pub policy: String,
    /// What is wrong, and what to do. Said above, so no source to be said again.
    pub cause: LoadCause,
}

/// Why a policy cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadCause {
    /// A value of the policy's specification is out of bounds.
    #[error("{0}")]
    Spec(String),
    /// The bytes are something else than a WebAssembly component.
    #[error("{0}")]
    NotAComponent(String),
    /// The component does not validate or compile.
    #[error(
        "the component cannot be compiled: {0}. Build it again; if that does not help, the toolchain uses a WebAssembly feature that this host does not have"
    )]
    Compile(String),
    /// A hook is not exported, or is another function than the contract says.
    #[error("{0}")]
    Export(String),
    /// A capability is imported that the configuration does not grant.
    #[error(
        "the component imports the capability `{capability}`, which it was not granted: add \"{capability}\" to `grants` of this policy, or remove its use from the policy"
    )]
    Ungranted {
        /// The name to add to `grants`.
        capability: &'static str,
    },
    /// The component imports WASI in a version that the host does not know.
    #[error(
        "the component imports `{import}`, and of WASI the host knows 0.2 only: build it with a toolchain for WASI 0.2 (preview 2), for wasm32-unknown-unknown, or with all WASI features disabled"
    )]
    Wasi {
        /// The first such import.
        import: String,
    },
    /// Imports that this host does not know.
    #[error(
        "the component imports what this host does not offer: {}. It offers the interfaces of weir:policy@{CONTRACT} (http, log, clock, kv, rate-limit)",
        .imports.join(", ")
    )]
    UnknownImports {
        /// All of them.
        imports: Vec<String>,
    },
    /// An import has another type than the host's.
    #[error(
        "the component does not fit this host: {0}. Build it against the package weir:policy@{CONTRACT}"
    )]
    Mismatch(String),
    /// The component is of a newer contract, and does not fit this host.
    #[error(
        "the component is built against weir:policy@{version}, which is newer than the {CONTRACT} of this host: update Weir here, or build the component against {CONTRACT}. What does not fit: {cause}"
    )]
    Newer {
        /// The newest version that it names.
        version: String,
        /// Why it does not do without.
        cause: Box<LoadCause>,
    },
    /// `configure` failed or refused.
    #[error("configure: {0}")]
    Configure(String),
}

/// What kind of failure a call ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallErrorKind {
    /// The guest trapped: a panic, an illegal operation, a handle misused.
    Trap,
    /// The guest used more CPU than its limit.
    CpuLimit,
    /// The guest failed after the host refused it more memory.
    MemoryLimit,
    /// The guest returned an error.
    Refused,
    /// No instance came free in time.
    Busy,
    /// The guest gave the host a value that is out of bounds.
    BadOutput,
    /// The guest named a namespace that is not the policy's.
    Namespace,
    /// The policy failed too often and is not called any more, or for a while; this call was not
    /// made, or given up before it began.
    Quarantined,
}

impl CallErrorKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Trap,
        Self::CpuLimit,
        Self::MemoryLimit,
        Self::Refused,
        Self::Busy,
        Self::BadOutput,
        Self::Namespace,
        Self::Quarantined,
    ];

    /// Is an instance dropped that fails so?
    pub(crate) fn costs_instance(self) -> bool {
        match self {
            Self::Trap | Self::CpuLimit | Self::MemoryLimit | Self::BadOutput | Self::Namespace => {
                true
            }
            Self::Refused | Self::Busy | Self::Quarantined => false,
        }
    }

    /// A short, stable word for metrics and for Cache-Status.
    pub fn token(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::CpuLimit => "cpu-limit",
            Self::MemoryLimit => "memory-limit",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::BadOutput => "bad-output",
            Self::Namespace => "namespace",
            Self::Quarantined => "quarantined",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A call of a hook that gave no result.
#[derive(Debug, Clone, thiserror::Error)]
#[error("policy `{policy}`, {hook}: {message}")]
pub struct CallError {
    /// What kind of failure it was.
    pub kind: CallErrorKind,
    /// The hook that was called.
    pub hook: Hook,
    /// The policy and its version: `name@version`.
    pub policy: Arc<str>,
    /// What happened, for a person; at most about 2 KiB.
    pub message: String,
}

impl CallError {
    /// A short, stable word for metrics: see [`CallErrorKind::token`].
    pub fn token(&self) -> &'static str {
        self.kind.token()
    }
}

/// What the host raises inside a host function: it ends the call like a trap, and
/// is found again in the error that the call returns.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// A value out of bounds.
    #[error("{0}")]
    BadOutput(String),
    /// A namespace of somebody else's.
    #[error("{0}")]
    Namespace(String),
    /// A handle that is not valid in this call.
    #[error("{0}")]
    Handle(String),
    /// Something of WASI that policies do not have.
    #[error("{0}")]
    Denied(String),
    /// The CPU limit.
    #[error("the CPU limit was reached")]
    Cpu,
}

impl Fault {
    pub(crate) fn bad(message: impl Into<String>) -> wasmtime::Error {
        wasmtime::Error::new(Self::BadOutput(message.into()))
    }
}

/// Cuts `text` to at most `max` bytes, at a character boundary.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_a_character_boundary() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("é", 0), "");
    }

    #[test]
    fn index_agrees_with_all() {
        for (i, kind) in CallErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), i, "{kind}");
        }
    }
}
