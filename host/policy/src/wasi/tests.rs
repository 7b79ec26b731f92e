use super::*;

#[test]
fn only_preview_2_is_known() {
    assert_eq!(interface("wasi:io/poll@0.2.12"), Some("io/poll"));
    for other in [
        "wasi:io/poll@0.3.0",
        "wasi:io/poll",
        "weir:policy/http@1.0.0",
    ] {
        assert_eq!(interface(other), None, "{other}");
    }
}
