//! Coarse classes of devices, from Sec-CH-UA-Mobile and User-Agent.

/// What kind of device a client says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceClass {
    /// None of the others.
    Desktop,
    /// A phone.
    Mobile,
    /// A tablet.
    Tablet,
    /// A crawler or another robot that says so.
    Bot,
}

impl DeviceClass {
    /// The name in the contract: `desktop`, `mobile`, `tablet`, `bot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Bot => "bot",
        }
    }
}

const BOTS: &[&str] = &[
    "bot/",
    "bot;",
    "bot ",
    "googlebot",
    "bingbot",
    "crawler",
    "spider",
    "slurp",
    "facebookexternalhit",
    "mediapartners-google",
    "bingpreview",
    "archiver",
    "headlesschrome",
];
const TABLETS: &[&str] = &["ipad", "tablet", "playbook", "kindle", "silk/"];
const PHONES: &[&str] = &["mobi", "iphone", "ipod", "windows phone", "opera mini"];

/// Robots are looked for first, since they name the device they imitate; then tablets,
/// since many of them say `Mobile` too.
pub(crate) fn classify(mobile_hint: Option<&[u8]>, user_agent: Option<&[u8]>) -> DeviceClass {
    let agent = user_agent.unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| contains(agent, word.as_bytes()));
    if says(BOTS) || ends_with(agent, b"bot") {
        return DeviceClass::Bot;
    }
    let hint = mobile_hint.map(<[u8]>::trim_ascii);
    let phone = says(PHONES);
    if says(TABLETS) && !(contains(agent, b"silk/") && phone) {
        return DeviceClass::Tablet;
    }
    if hint == Some(b"?1") || phone {
        return DeviceClass::Mobile;
    }
    // Android without `Mobile` is how tablets with Android say what they are.
    if contains(agent, b"android") {
        return DeviceClass::Tablet;
    }
    DeviceClass::Desktop
}

fn contains(text: &[u8], lower_word: &[u8]) -> bool {
    text.windows(lower_word.len())
        .any(|window| window.eq_ignore_ascii_case(lower_word))
}

fn ends_with(text: &[u8], lower_word: &[u8]) -> bool {
    text.len() >= lower_word.len()
        && text[text.len() - lower_word.len()..].eq_ignore_ascii_case(lower_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(agent: &str) -> DeviceClass {
        classify(None, Some(agent.as_bytes()))
    }

    #[test]
    fn common_agents() {
        use DeviceClass::{Bot, Desktop, Mobile, Tablet};
        for (agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
                Desktop,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148 Safari/604.1",
                Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/120.0 Mobile Safari/537.36",
                Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X906C) Chrome/120.0 Safari/537.36",
                Tablet,
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) Mobile/15E148 Safari/604.1",
                Tablet,
            ),
            (
                "Mozilla/5.0 (Linux; Android 6.0.1) Mobile (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                Bot,
            ),
            ("Baiduspider", Bot),
            ("curl/8.4.0", Desktop),
            ("", Desktop),
        ] {
            assert_eq!(class(agent), expected, "{agent}");
        }
    }

    #[test]
    fn hint_makes_a_phone() {
        assert_eq!(classify(Some(b"?1"), Some(b"x")), DeviceClass::Mobile);
        assert_eq!(classify(Some(b"?0"), Some(b"x")), DeviceClass::Desktop);
        assert_eq!(classify(None, None), DeviceClass::Desktop);
    }
}
