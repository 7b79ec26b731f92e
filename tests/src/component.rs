//! Making components differ without compiling them anew.

/// The same component with a custom section more: it behaves the same and has another
/// version.
pub fn marked(component: &[u8], mark: &str) -> Vec<u8> {
    with_section(component, "weir-test", mark.as_bytes())
}

/// The same component with these cases inside, as `weir plugin build` puts them there; it does
/// not test them.
pub fn with_cases(component: &[u8], cases: &str) -> Vec<u8> {
    with_section(component, "weir:cases", cases.as_bytes())
}

fn with_section(component: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let name = [&leb128(name.len())[..], name.as_bytes()].concat();
    let length = leb128(name.len() + data.len());
    [component, &[0], &length, &name, data].concat()
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
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
