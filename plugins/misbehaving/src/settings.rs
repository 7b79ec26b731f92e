//! Which misdeed, and where.

use serde::Deserialize;
use weir_sdk::bindings::weir::policy::http::Request;

const PREFIX: &str = "weir-test-misdeed:";

/// A test writes the name of a misdeed over the blanks, in the component itself: another
/// version, that behaves otherwise under the same settings.
static OVERRIDE: [u8; 50] = *b"weir-test-misdeed:                                ";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) misbehave: Misdeed,
    pub(crate) namespace: String,
    only: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            misbehave: Misdeed::Nothing,
            namespace: "test".to_owned(),
            only: None,
        }
    }
}

impl Settings {
    pub(crate) fn parse(config: &str) -> Result<Self, String> {
        let config = match config.trim() {
            "" | "null" => "{}",
            given => given,
        };
        let wrong = |error| format!("misbehaving: {error}");
        let mut settings: Self = serde_json::from_str(config).map_err(wrong)?;
        // Read as if it could change: the compiler would fold what a test writes over.
        let written = std::hint::black_box(&OVERRIDE)[PREFIX.len()..].trim_ascii();
        if !written.is_empty() {
            let name = String::from_utf8_lossy(written);
            let name = serde_json::Value::String(name.into_owned());
            settings.misbehave = serde_json::from_value(name).map_err(wrong)?;
        }
        Ok(settings)
    }

    pub(crate) fn applies(&self, request: &Request) -> bool {
        self.only
            .as_ref()
            .is_none_or(|glob| request.path_matches(glob))
    }
}

/// What to do wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Misdeed {
    /// Behaves well.
    Nothing,
    /// The query is not in the key. Also stores for 7 s, with a tag more, and maps events to
    /// a tag more: it differs from a good one in all hooks.
    ForgetsQuery,
    /// Answers by itself.
    Answers,
    /// The same, with another body of the same length.
    AnswersOtherwise,
    /// `unreachable` in configure.
    TrapInConfigure,
    /// An error from configure.
    ErrorInConfigure,
    /// Never returns from configure.
    EndlessLoopInConfigure,
    /// `unreachable` in on-request.
    TrapOnRequest,
    /// An error from on-request.
    ErrorOnRequest,
    /// Never returns from on-request.
    EndlessLoop,
    /// Never returns from on-request, calling the host all the time.
    EndlessHostCalls,
    /// Recurses until the stack ends.
    DeepRecursion,
    /// Allocates until memory ends.
    MemoryGrowth,
    /// A key part of 1 MiB.
    HugeKey,
    /// 100,000 key parts.
    ManyKeyParts,
    /// 100,000 tags.
    ManyTags,
    /// A note of 1 MiB.
    HugeNote,
    /// A body of 16 MiB.
    HugeReply,
    /// An error text of 16 MiB.
    HugeError,
    /// A reason of 1 MiB.
    HugeReason,
    /// A header name with a space and a line break, in a reply.
    InvalidHeaderName,
    /// A header value with a line break, in a reply.
    InvalidHeaderValue,
    /// Status 99 in a reply.
    InvalidStatus,
    /// Content-Length and Transfer-Encoding in a reply.
    FramingHeader,
    /// Transfer-Encoding in the request to the origin.
    OriginFramingHeader,
    /// An origin target that does not begin with `/`.
    OriginTarget,
    /// A namespace that is not the policy's.
    ForeignNamespace,
    /// A namespace that could not be anyone's.
    InvalidNamespace,
    /// Keeps a part across calls, and uses it in every second one.
    KeepPart,
    /// Uses a handle that it never was given.
    StaleHandle,
    /// Makes 1,000,000 parts and drops none.
    LeakHandles,
    /// The key alternates from call to call.
    Nondeterminism,
    /// Every 100th call of an instance decides otherwise.
    RareNondeterminism,
    /// The key holds the path of the instance's previous request.
    StateBetweenCalls,
    /// `unreachable` in on-response.
    TrapOnResponse,
    /// An error from on-response.
    ErrorOnResponse,
    /// Never returns from on-response.
    EndlessLoopOnResponse,
    /// 100,000 tags in on-response.
    ManyTagsOnResponse,
    /// 100,000 selectors in on-response.
    ManySelectorsOnResponse,
    /// A selector of a namespace that is not the policy's, in on-response.
    ForeignSelectorOnResponse,
    /// Stores for 500 million years.
    EndlessLifetime,
    /// `unreachable` in on-event.
    TrapOnEvent,
    /// An error from on-event.
    ErrorOnEvent,
    /// Never returns from on-event.
    EndlessLoopOnEvent,
    /// 100,000 selectors from on-event.
    ManySelectorsOnEvent,
    /// A selector of a namespace that is not the policy's, from on-event.
    ForeignSelectorOnEvent,
}
