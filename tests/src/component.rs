//! Making components differ without compiling them anew.

/// The same component with a custom section more: it behaves the same and has another
/// version. `mark` is at most 100 bytes.
pub fn marked(component: &[u8], mark: &str) -> Vec<u8> {
    const NAME: &str = "weir-test";
    assert!(mark.len() <= 100, "the section's length must fit one byte");
    let length = 1 + NAME.len() + mark.len();
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.push(u8::try_from(length).expect("at most 110"));
    bytes.push(u8::try_from(NAME.len()).expect("nine"));
    bytes.extend_from_slice(NAME.as_bytes());
    bytes.extend_from_slice(mark.as_bytes());
    bytes
}

/// The component of `plugins/misbehaving` with a misdeed written into it, whatever its
/// settings say: another version, that behaves otherwise.
pub fn with_misdeed(component: &[u8], misdeed: &str) -> Vec<u8> {
    const PREFIX: &[u8] = b"weir-test-misdeed:";
    const ROOM: usize = 32;
    assert!(misdeed.len() <= ROOM, "{misdeed} does not fit");
    let mut bytes = component.to_vec();
    let blank = [PREFIX, &[b' '; ROOM]].concat();
    let at = bytes
        .windows(blank.len())
        .position(|window| window == blank);
    let at = at.expect("the place for a misdeed") + PREFIX.len();
    bytes[at..at + misdeed.len()].copy_from_slice(misdeed.as_bytes());
    bytes
}
