//! Durations ("30s") and sizes ("256MiB") as people write them.

use std::time::Duration;

/// A number of bytes, written with a unit: `"256MiB"`, `"64KiB"`, `"1GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// Parses `"20ms"`, `"30s"`, `"1h 30m"`, `"30d"`. None when it is not one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Parses `"64KiB"`, `"256MiB"`, `"1GB"` (powers of 1000) or `"4096"` (bytes).
pub(super) fn size(text: &str) -> Option<Size> {
    text.parse::<bytesize::ByteSize>()
        .ok()
        .map(|size| Size(size.as_u64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "30 parsecs",
            "1e3s",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256MiB"), Some(Size(256 << 20)));
        assert_eq!(size("64 KiB"), Some(Size(64 << 10)));
        assert_eq!(size("1GB"), Some(Size(1_000_000_000)));
        assert_eq!(size("4096"), Some(Size(4096)));
        for wrong in ["", "MiB", "-1MiB", "256 furlongs", "nanMiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
