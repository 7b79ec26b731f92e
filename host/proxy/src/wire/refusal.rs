//! Why a request is refused at the bytes, for a person, for Cache-Status and for metrics.

use http::StatusCode;

/// Why a request is refused before anything but its bytes was looked at. Its text says
/// what was wrong; whatever follows on the connection is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// RFC 9112 section 2.2: a line ends with CR LF. A lone LF is a line end to some
    /// parsers and part of a value to others, and so is a lone CR.
    #[error("a line ends with LF alone or CR alone; end every line with CR LF")]
    BareLineEnd,
    /// RFC 9112 section 5.2.
    #[error("a line begins with whitespace; folded lines are obsolete, send the value on one line")]
    FoldedLine,
    /// RFC 9112 section 2.2: one empty line before a request is tolerated.
    #[error("more than one empty line comes before the request")]
    EmptyLines,
    /// RFC 9112 section 3.
    #[error("the request line is not of the form: METHOD SP TARGET SP HTTP/1.1")]
    RequestLine,
    /// RFC 9110 section 9.1.
    #[error("the request's method is not a token")]
    Method,
    /// RFC 9112 section 3.2.
    #[error(
        "the request target is malformed; send a path in visible ASCII, percent-encode the rest, and leave out the fragment"
    )]
    Target,
    /// RFC 9112 section 2.3.
    #[error("the protocol version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// RFC 9112 section 3: `limits.max_uri_size`.
    #[error("the request target is longer than this node accepts (limits.max_uri_size)")]
    TargetTooLong,
    /// RFC 6585 section 5: `limits.max_header_size`.
    #[error(
        "the request's header section is larger than this node accepts (limits.max_header_size)"
    )]
    HeaderTooLarge,
    /// RFC 6585 section 5: `limits.max_headers`.
    #[error("the request has more header fields than this node accepts (limits.max_headers)")]
    TooManyFields,
    /// RFC 9112 section 5.1.
    #[error("a field's name is empty, not a token, or followed by whitespace")]
    FieldName,
    /// RFC 9110 section 5.5.
    #[error("a control character stands where none may be")]
    ControlCharacter,
    /// RFC 9112 section 3.2.
    #[error("the request has no Host; send exactly one")]
    NoHost,
    /// RFC 9112 section 3.2: which one an origin heeds is anyone's guess.
    #[error("the request has more than one Host; send exactly one")]
    ManyHosts,
    /// RFC 9112 section 6.1: each of the two gives another end of the request.
    #[error("the request has both Content-Length and Transfer-Encoding; send one of them")]
    LengthAndCoding,
    /// RFC 9112 section 6.3: two parsers may heed two of them.
    #[error("the request has more than one Content-Length; send exactly one")]
    ManyLengths,
    /// RFC 9110 section 8.6.
    #[error("Content-Length is not one decimal number without sign or leading zeros below 2^63")]
    BadLength,
    /// RFC 9112 section 6.3: the body's end could not be told.
    #[error("Transfer-Encoding is not exactly one chunked")]
    BadCoding,
    /// RFC 9112 section 6.1.
    #[error("this node knows no transfer coding but chunked; use Content-Encoding")]
    UnknownCoding,
    /// RFC 9112 section 6.1: an HTTP/1.0 recipient would take the chunks for the body.
    #[error("an HTTP/1.0 request cannot have Transfer-Encoding")]
    CodingInOldVersion,
    /// RFC 9110 section 9.3.6.
    #[error("a CONNECT request has no body")]
    ConnectBody,
    /// RFC 9112 section 7.1.
    #[error("a chunk's size is not a hexadecimal number below 2^63 at the line's beginning")]
    ChunkSize,
    /// RFC 9112 section 7.1.1.
    #[error("a chunk's extension is malformed or longer than this node accepts")]
    ChunkExtension,
    /// RFC 9112 section 7.1.
    #[error("a chunk's data is not followed by CR LF")]
    ChunkEnd,
    /// RFC 9110 section 6.5.1.
    #[error("a trailer field is one that counts only in the header section")]
    TrailerField,
    /// RFC 9110 section 6.5.1.
    #[error("the trailer section is larger than this node accepts")]
    TrailersTooLarge,
    /// RFC 9110 section 15.5.9: `limits.header_timeout`.
    #[error("the request's header section did not arrive in time")]
    HeaderTimeout,
    /// RFC 9110 section 15.5.9: `limits.body_timeout`.
    #[error("the request's body did not go on in time")]
    BodyTimeout,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge | Self::TooManyFields | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::HeaderTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The token used in `Cache-Status` and metrics.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare-line-end",
            Self::FoldedLine => "folded-line",
            Self::EmptyLines => "empty-lines",
            Self::RequestLine => "request-line",
            Self::Method => "method-token",
            Self::Target => "target",
            Self::Version => "version",
            Self::TargetTooLong => "uri-too-long",
            Self::HeaderTooLarge => "header-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::FieldName => "field-name",
            Self::ControlCharacter => "control-character",
            Self::NoHost => "no-host",
            Self::ManyHosts => "many-hosts",
            Self::LengthAndCoding => "length-and-coding",
            Self::ManyLengths => "many-lengths",
            Self::BadLength => "bad-length",
            Self::BadCoding => "bad-coding",
            Self::UnknownCoding => "unknown-coding",
            Self::CodingInOldVersion => "coding-in-1.0",
            Self::ConnectBody => "connect-body",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::TrailerField => "trailer-field",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::HeaderTimeout => "header-timeout",
            Self::BodyTimeout => "body-timeout",
        }
    }
}
