//! Content codings: which ones a request takes, which one it gets, and what may be coded
//! on the way. RFC 9110 sections 8.4, 12.5.3 and 7.7.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
        CONTENT_RANGE, ETAG, VARY,
    },
};

use crate::directives::{is_token, mentions};

/// The registered codings, sorted: <https://www.iana.org/assignments/http-parameters>.
const REGISTERED: [&str; 11] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "identity",
    "pack200-gzip",
    "zstd",
];
const IDENTITY: usize = 8;

/// Those whose acceptance tells variants apart, and which an origin is asked for. The
/// others are what no client needs that takes one of these; `dcb` and `dcz` come only
/// from clients that hold a dictionary (RFC 9842).
const ASKED_FOR: [usize; 5] = [10, 4, 1, 3, 7];

/// `qvalue` of 1; weights are in thousandths.
const WHOLE: u16 = 1000;

/// A coding that this node can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878; windows of at most 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// All of them, each at the index that `as usize` gives it.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in Content-Encoding.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    const fn registered(self) -> usize {
        match self {
            Self::Gzip => 7,
            Self::Brotli => 1,
            Self::Zstd => 10,
        }
    }
}

/// What an Accept-Encoding says of each registered coding. Allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    /// In thousandths; 0 where it is not acceptable.
    weights: [u16; REGISTERED.len()],
}

impl AcceptEncoding {
    /// Reads the field; `None` when there is none, which takes every coding.
    ///
    /// What cannot be read does not make a coding acceptable, and of two weights for one
    /// coding the lower counts: whoever gets less than it can take can still read it.
    pub fn parse(request: &HeaderMap) -> Option<Self> {
        if !request.contains_key(ACCEPT_ENCODING) {
            return None;
        }
        let mut named = [None; REGISTERED.len()];
        let mut others: Option<u16> = None;
        let lines = request.get_all(ACCEPT_ENCODING);
        for member in lines.iter().flat_map(|line| members(line.as_bytes())) {
            let mut parts = member.splitn(2, |&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let weight = parts.next().map_or(Some(WHOLE), weight);
            let slot = match registered(name) {
                // Without a weight that can be read, it is as acceptable as if unnamed.
                Some(IDENTITY) if weight.is_none() => continue,
                Some(at) => &mut named[at],
                None if name == b"*" && weight.is_some() => &mut others,
                None => continue,
            };
            let weight = weight.unwrap_or(0);
            *slot = Some(slot.map_or(weight, |known: u16| known.min(weight)));
        }
        let mut weights = named.map(|weight| weight.or(others).unwrap_or(0));
        // Acceptable unless it is excluded, but nothing that anybody asks for.
        weights[IDENTITY] = named[IDENTITY].or(others).unwrap_or(1);
        Some(Self { weights })
    }

    /// Is each of these codings acceptable? They stand in the form that
    /// [`content_codings`] gives.
    pub(crate) fn takes(&self, codings: &[u8]) -> bool {
        members(codings).all(|coding| registered(coding).is_none_or(|at| self.weights[at] > 0))
    }

    /// The coding to send of those on `offer`, the node's favourite first; `None` for the
    /// content as it is. Never one that is not acceptable.
    pub fn choose(&self, offer: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best = None;
        let mut least = self.weights[IDENTITY].max(1);
        for coding in offer {
            let weight = self.weights[coding.registered()];
            // A tie goes to who was offered first, and to any coding before none at all.
            if weight > least || (best.is_none() && weight == least) {
                (best, least) = (Some(coding), weight);
            }
        }
        best
    }

    /// Does it count among the codings that tell variants apart? Not one that the client
    /// likes less than the plain content.
    fn wants(&self, at: usize) -> bool {
        self.weights[at] >= self.weights[IDENTITY].max(1)
    }

    /// Does the normal form name this coding?
    pub(crate) fn tells(&self, coding: &str) -> bool {
        registered(coding.as_bytes()).is_some_and(|at| ASKED_FOR.contains(&at) && self.wants(at))
    }

    /// The normal form, piece by piece, until `sink` says no: what tells variants apart,
    /// sorted.
    pub(crate) fn write(&self, sink: &mut (impl FnMut(&[u8]) -> bool + ?Sized)) -> bool {
        let counts = |at: &usize| match *at {
            IDENTITY => self.weights[IDENTITY] > 0,
            at => ASKED_FOR.contains(&at) && self.wants(at),
        };
        let mut names = (0..REGISTERED.len()).filter(counts);
        names.next().is_none_or(|first| {
            sink(REGISTERED[first].as_bytes())
                && names.all(|at| sink(b",") && sink(REGISTERED[at].as_bytes()))
        })
    }

    fn to_header_value(self) -> HeaderValue {
        let mut text = String::new();
        for at in ASKED_FOR.into_iter().filter(|&at| self.wants(at)) {
            text.push_str(REGISTERED[at]);
            text.push_str(", ");
        }
        match (text.is_empty(), self.weights[IDENTITY] > 0) {
            (true, true) => return HeaderValue::from_static("identity"),
            (_, false) => text.push_str("identity;q=0"),
            (false, true) => text.truncate(text.len() - 2),
        }
        // Names and commas only, so this is always legal.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("identity"))
    }
}

/// Writes a request's Accept-Encoding as variants are told apart by it, so that nothing
/// that the key lost can change what the origin sends. One that is absent stays so.
pub fn normalise_accept_encoding(request: &mut HeaderMap) {
    if let Some(accepted) = AcceptEncoding::parse(request) {
        request.insert(ACCEPT_ENCODING, accepted.to_header_value());
    }
}

/// The registered codings of a response in the order of its Content-Encoding, by their
/// names and joined by commas; empty when it has none.
///
/// A name that nobody registered is left out: no client says whether it takes that, and
/// an origin that sends one does not negotiate.
pub(crate) fn content_codings(response: &HeaderMap) -> String {
    let lines = response.get_all(CONTENT_ENCODING);
    let codings = lines.iter().flat_map(|line| members(line.as_bytes()));
    let mut names = String::new();
    for at in codings.filter_map(registered).filter(|&at| at != IDENTITY) {
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(REGISTERED[at]);
    }
    names
}

/// The members of a list without quoted strings, empty ones left out.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The place of a coding among the registered ones, also by its alias (RFC 9110 section
/// 8.4.1).
fn registered(name: &[u8]) -> Option<usize> {
    let name = match name {
        [b'x' | b'X', b'-', rest @ ..]
            if rest.eq_ignore_ascii_case(b"gzip") || rest.eq_ignore_ascii_case(b"compress") =>
        {
            rest
        }
        name => name,
    };
    REGISTERED
        .iter()
        .position(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// A `q=` in thousandths; `None` when it is no weight.
pub(crate) fn weight(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let weight = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, digits) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * WHOLE;
    for (digit, scale) in digits.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * scale;
    }
    (thousandths <= WHOLE).then_some(thousandths)
}

/// Does Cache-Control forbid to change the content? RFC 9111 sections 5.2.1.6 and
/// 5.2.2.6; for requests and responses.
pub fn forbids_transformation(headers: &HeaderMap) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .any(|line| mentions(line.as_bytes(), b"no-transform"))
}

/// May the content of this response be coded by a cache, as far as its fields say? A
/// 200, whole, not coded yet, without `no-transform` and without a digest or a signature
/// over what would change.
pub fn may_be_coded(status: StatusCode, response: &HeaderMap) -> bool {
    const BOUND_TO_THE_BYTES: [HeaderName; 7] = [
        CONTENT_RANGE,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("signature"),
        HeaderName::from_static("signature-input"),
    ];
    let coded = response
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|coding| registered(coding) != Some(IDENTITY));
    status == StatusCode::OK
        && !coded
        && !BOUND_TO_THE_BYTES
            .iter()
            .any(|name| response.contains_key(name))
        && !forbids_transformation(response)
}

/// What [`vary_by_encoding`] adds: a line of its own, so that it can be told from what
/// the origin said.
const ADDED: &str = "Accept-Encoding";

/// Says that the response is chosen by Accept-Encoding, where it does not say so yet.
pub fn vary_by_encoding(response: &mut HeaderMap) {
    let varies = response
        .get_all(VARY)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(ADDED.as_bytes()));
    if !varies {
        response.append(VARY, HeaderValue::from_static(ADDED));
    }
}

/// Takes back what [`vary_by_encoding`] added. To be called only where the origin did not
/// name Accept-Encoding itself.
pub fn unvary_by_encoding(response: &mut HeaderMap) {
    if !response.get_all(VARY).iter().any(|line| line == ADDED) {
        return;
    }
    let kept: Vec<HeaderValue> = response
        .get_all(VARY)
        .iter()
        .filter(|line| *line != ADDED)
        .cloned()
        .collect();
    response.remove(VARY);
    for line in kept {
        response.append(VARY, line);
    }
}

/// Makes the fields of a response those of its content in `coding`, `len` bytes long.
///
/// A strong entity tag becomes a weak one: the bytes are others, what they mean is the
/// same. Ranges are not offered, since they are cut from the content as it is.
pub fn code_fields(response: &mut HeaderMap, coding: Coding, len: u64) {
    response.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    response.insert(CONTENT_LENGTH, HeaderValue::from(len));
    response.remove(ACCEPT_RANGES);
    let Some(tag) = response.get(ETAG).filter(|tag| !tag.is_empty()) else {
        return;
    };
    if !tag.as_bytes().starts_with(b"W/") {
        let weak = [b"W/", tag.as_bytes()].concat();
        match HeaderValue::from_bytes(&weak) {
            Ok(weak) => drop(response.insert(ETAG, weak)),
            Err(_) => drop(response.remove(ETAG)),
        }
    }
}

/// Media types: `type/subtype` with at most one `*`, which stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTypes(Vec<(Box<str>, Option<Box<str>>)>);

impl MediaTypes {
    /// Reads the patterns; `Err` with the first that is none.
    ///
    /// # Errors
    /// The pattern that is not a token, a slash and a token, or has two stars.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let parse = |pattern: &'a str| {
            let (kind, subtype) = pattern.split_once('/').ok_or(pattern)?;
            if !is_token(kind.as_bytes()) || !is_token(subtype.as_bytes()) {
                return Err(pattern);
            }
            let lower = pattern.to_ascii_lowercase();
            match lower.split_once('*') {
                None => Ok((lower.into(), None)),
                Some((_, end)) if end.contains('*') => Err(pattern),
                Some((start, end)) => Ok((start.into(), Some(end.into()))),
            }
        };
        let parsed: Result<Vec<_>, _> = patterns.into_iter().map(parse).collect();
        parsed.map(Self)
    }

    /// Is the type of this Content-Type among them? Parameters do not count.
    pub fn contain(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|&byte| byte == b';').next();
        let essence = essence
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase();
        self.0.iter().any(|(start, end)| match end {
            None => *essence == *start.as_bytes(),
            Some(end) => essence
                .strip_prefix(start.as_bytes())
                .is_some_and(|rest| rest.ends_with(end.as_bytes())),
        })
    }
}

#[cfg(test)]
mod tests;
