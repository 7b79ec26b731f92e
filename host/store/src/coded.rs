//! The coded forms of an object's body, made when they are first wanted.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir_semantics::{AcceptEncoding, Coding};

/// The codings that a body is offered in, and the forms that have been made. It only
/// grows: whoever makes a form puts it where the object is, so that nothing has to be
/// stored a second time, and what was purged meanwhile stays purged.
pub struct Coded {
    /// The favourite first.
    offer: Box<[Coding]>,
    forms: [OnceLock<Bytes>; Coding::ALL.len()],
    /// A bit for each coding that somebody has begun to make, or found not worth it.
    begun: AtomicU8,
}

impl Coded {
    /// An offer without forms yet.
    pub fn new(offer: &[Coding]) -> Arc<Self> {
        Arc::new(Self {
            offer: offer.into(),
            forms: Default::default(),
            begun: AtomicU8::new(0),
        })
    }

    /// The codings on offer, the favourite first.
    pub fn offer(&self) -> &[Coding] {
        &self.offer
    }

    /// The form to send to who accepts this, of those that there are.
    pub fn choose(&self, accepted: &AcceptEncoding) -> Option<(Coding, &Bytes)> {
        let made = self.offer.iter().copied();
        let coding = accepted.choose(made.filter(|&coding| self.form(coding).is_some()))?;
        Some((coding, self.form(coding)?))
    }

    /// The form in this coding, if it was made.
    pub fn form(&self, coding: Coding) -> Option<&Bytes> {
        self.forms[coding as usize].get()
    }

    /// Says whether it is up to the caller to make this form. It is up to no one else
    /// then, unless [`Coded::give_up`] is called.
    pub fn begin(&self, coding: Coding) -> bool {
        let bit = bit(coding);
        // Read first: this is asked by hits, and most find it begun.
        self.begun.load(Ordering::Relaxed) & bit == 0
            && self.begun.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// The form was not made; somebody else may.
    pub fn give_up(&self, coding: Coding) {
        self.begun.fetch_and(!bit(coding), Ordering::Relaxed);
    }

    /// Puts a form here, once.
    pub fn put(&self, coding: Coding, form: Bytes) {
        // A second one would be of the same body: the first stays.
        let _ = self.forms[coding as usize].set(form);
    }

    pub(crate) fn weight(&self) -> usize {
        let forms = self.forms.iter().filter_map(OnceLock::get);
        size_of::<Self>() + forms.map(Bytes::len).sum::<usize>()
    }
}

impl fmt::Debug for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = |coding: &Coding| (coding.token(), self.form(*coding).map(Bytes::len));
        f.debug_map().entries(self.offer.iter().map(form)).finish()
    }
}

fn bit(coding: Coding) -> u8 {
    1 << coding as u8
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

    use super::*;

    fn accepting(line: &'static str) -> AcceptEncoding {
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, HeaderValue::from_static(line));
        AcceptEncoding::parse(&request).unwrap()
    }

    #[test]
    fn a_form_is_begun_by_one_and_sent_when_it_is_there() {
        let coded = Coded::new(&[Coding::Zstd, Coding::Gzip]);
        assert!(coded.begin(Coding::Gzip) && coded.begin(Coding::Zstd));
        assert!(!coded.begin(Coding::Gzip));
        coded.give_up(Coding::Gzip);
        assert!(coded.begin(Coding::Gzip) && !coded.begin(Coding::Zstd));

        let all = accepting("gzip, br, zstd");
        assert_eq!(coded.choose(&all), None);
        coded.put(Coding::Gzip, Bytes::from_static(b"g"));
        assert_eq!(
            coded.choose(&all).map(|(coding, _)| coding),
            Some(Coding::Gzip)
        );
        coded.put(Coding::Zstd, Bytes::from_static(b"z"));
        coded.put(Coding::Zstd, Bytes::from_static(b"other"));
        let zstd = (Coding::Zstd, &Bytes::from_static(b"z"));
        assert_eq!(coded.choose(&all), Some(zstd));
        assert_eq!(coded.choose(&accepting("br, zstd;q=0")), None);
        // Not on offer, whatever there is.
        coded.put(Coding::Brotli, Bytes::from_static(b"b"));
        assert_eq!(coded.choose(&accepting("br")), None);
    }
}
