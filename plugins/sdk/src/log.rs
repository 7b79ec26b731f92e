//! Structured log lines, marked with the policy's name and version. Needs the grant `log`;
//! a policy that writes none does not import it. A decision during which a line was written
//! is not remembered.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author of the policy.
    Debug,
    /// For the record.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line, cut at 4 KiB. Lines over the node's limit a second are dropped and
/// counted. In native tests it goes to standard error.
pub fn write(level: Level, message: impl AsRef<str>) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::weir::policy::log as wit;
        let level = match level {
            Level::Debug => wit::Level::Debug,
            Level::Info => wit::Level::Info,
            Level::Warn => wit::Level::Warn,
            Level::Error => wit::Level::Error,
        };
        wit::write(level, message.as_ref());
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {}", message.as_ref());
}

/// For the author of the policy.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message);
}

/// For the record.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message);
}

/// Something is off.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message);
}

/// Something failed.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message);
}
