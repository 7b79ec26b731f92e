//! Coarse classes of devices, from Sec-CH-UA-Mobile and User-Agent.

use std::cell::RefCell;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use crate::recent::Recent;

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
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Desktop, Self::Mobile, Self::Tablet, Self::Bot];

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

const SILK: &str = "silk/";
const ANDROID: &str = "android";

/// What the words of a User-Agent say.
#[derive(Debug, Default, Clone, Copy)]
struct Says {
    bot: bool,
    tablet: bool,
    silk: bool,
    phone: bool,
    android: bool,
}

/// Finds all words in one pass over the text, ignoring case: a User-Agent is long, and
/// this runs for each request of a route that has variants by device.
static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words())
        .ok()
});

fn words() -> impl Iterator<Item = &'static str> {
    let android = std::iter::once(ANDROID);
    BOTS.iter()
        .chain(TABLETS)
        .chain(PHONES)
        .copied()
        .chain(android)
}

thread_local! {
    static RECENT: RefCell<Recent<Box<[u8]>, Says>> = RefCell::new(Recent::new());
}

fn read(agent: &[u8]) -> Says {
    RECENT.with_borrow_mut(|recent| {
        recent.get(
            agent,
            agent,
            |known| **known == *agent,
            || Some(agent.into()),
            || search(agent),
        )
    })
}

fn search(agent: &[u8]) -> Says {
    let mut says = Says::default();
    // It is built from constants, and the tests use it: it is always there.
    let Some(finder) = &*WORDS else { return says };
    let (bots, tablets) = (BOTS.len(), BOTS.len() + TABLETS.len());
    for found in finder.find_overlapping_iter(agent) {
        match found.pattern().as_usize() {
            word if word < bots => says.bot = true,
            word if word < tablets => {
                says.tablet = true;
                says.silk |= TABLETS[word - bots] == SILK;
            }
            word if word < tablets + PHONES.len() => says.phone = true,
            _ => says.android = true,
        }
    }
    says.bot |= ends_with(agent, b"bot");
    says
}

/// Robots are looked for first, since they name the device they imitate; then tablets,
/// since many of them say `Mobile` too.
pub(crate) fn classify<'h>(
    user_agent: Option<&[u8]>,
    mobile_hint: impl FnOnce() -> Option<&'h [u8]>,
) -> DeviceClass {
    let says = read(user_agent.unwrap_or_default());
    let is_hinted = || mobile_hint().map(<[u8]>::trim_ascii) == Some(b"?1");
    if says.bot {
        DeviceClass::Bot
    } else if says.tablet && !(says.silk && says.phone) {
        DeviceClass::Tablet
    } else if says.phone || is_hinted() {
        DeviceClass::Mobile
    } else if says.android {
        // Android without `Mobile` is how tablets with Android say what they are.
        DeviceClass::Tablet
    } else {
        DeviceClass::Desktop
    }
}

fn ends_with(text: &[u8], lower_word: &[u8]) -> bool {
    text.len() >= lower_word.len()
        && text[text.len() - lower_word.len()..].eq_ignore_ascii_case(lower_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(agent: &str) -> DeviceClass {
        classify(Some(agent.as_bytes()), || None)
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
        let hinted = |hint| classify(Some(b"x"), || hint);
        assert_eq!(hinted(Some(b"?1")), DeviceClass::Mobile);
        assert_eq!(hinted(Some(b"?0")), DeviceClass::Desktop);
        assert_eq!(classify(None, || None), DeviceClass::Desktop);
    }
}
