//! Bodies in other codings: made once for each object and coding, behind the first hit
//! that wants it, and chosen for each client. RFC 9110 sections 8.4 and 12.5.3.
//!
//! An object is stored as the origin gave it; the codings hang on the object in memory
//! ([`Coded`]) and go with it. What nobody asks for again is never compressed, and a body
//! that was purged or driven out while it was compressed does not come back.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, IF_RANGE, RANGE};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Semaphore;
use weir_policy::RequestHead;
use weir_semantics::{
    AcceptEncoding, Coding, code_fields, forbids_transformation, may_be_coded, unvary_by_encoding,
    vary_by_encoding,
};
use weir_store::{Coded, Object};

use crate::generation::Route;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::settings::CompressSettings;

/// No larger body is compressed, in bytes: it would hold a thread for too long.
const LARGEST: u64 = 16 << 20;

/// What a form may have of the size of the body, in percent, to be kept.
const WORTH_IT: usize = 90;

/// Where speed and size are in balance for content that is compressed once and sent
/// often: tens of megabytes a second.
const GZIP_LEVEL: u32 = 6;
const BROTLI_QUALITY: i32 = 5;
const ZSTD_LEVEL: i32 = 9;

/// log2 of Brotli's window; zstd's is no larger at its level (RFC 9659: at most 8 MiB).
const BROTLI_WINDOW: i32 = 22;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodingLabel {
    coding: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Makes codings, a few at a time, and counts them.
#[derive(Debug)]
pub(crate) struct Compressor {
    places: Arc<Semaphore>,
    compressed: Family<CodingLabel, Counter>,
    read: Family<CodingLabel, Counter>,
    written: Family<CodingLabel, Counter>,
    seconds: Family<CodingLabel, Counter<f64, AtomicU64>>,
    in_vain: Family<ReasonLabel, Counter>,
}

impl Compressor {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        // Half of the cores at most: the other half is for requests.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let this = Self {
            places: Arc::new(Semaphore::new((cores / 2).max(1))),
            compressed: Family::default(),
            read: Family::default(),
            written: Family::default(),
            seconds: Family::default(),
            in_vain: Family::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "compressed",
                "Bodies compressed and kept, by coding",
                this.compressed.clone(),
            );
            registry.register(
                "compressed_read_bytes",
                "Bytes of the bodies that were compressed",
                this.read.clone(),
            );
            registry.register(
                "compressed_written_bytes",
                "Bytes that they have in their coding",
                this.written.clone(),
            );
            registry.register(
                "compression_seconds",
                "Time spent compressing, in vain or not",
                this.seconds.clone(),
            );
            registry.register(
                "compressed_in_vain",
                "Bodies compressed and not kept, by reason",
                this.in_vain.clone(),
            );
        });
        this
    }
}

impl CompressSettings {
    /// Whether a response with these fields is one to compress.
    pub(crate) fn suits(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let of_a_type = || {
            headers
                .get(CONTENT_TYPE)
                .is_some_and(|value| self.types.contain(value.as_bytes()))
        };
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok()?.parse().ok());
        of_a_type()
            && length.is_none_or(|length| self.suits_length(length))
            && may_be_coded(status, headers)
    }

    fn suits_length(&self, length: u64) -> bool {
        (self.min..=LARGEST).contains(&length)
    }

    fn suits_object(&self, object: &Object) -> bool {
        // Trailers may be a digest of what was sent.
        object.trailers().is_none()
            && self.suits_length(object.body.len() as u64)
            && self.suits(object.status, &object.headers.to_header_map())
    }
}

/// Says in the fields of a response that is to be stored that it may come in codings, so
/// that every response made from it says so, the first one included.
pub(crate) fn announce(route: &Route, status: StatusCode, headers: &mut HeaderMap) {
    if let Some(settings) = &route.settings.compress
        && settings.suits(status, headers)
    {
        vary_by_encoding(headers);
    }
}

/// The fields of a stored response without what [`announce`] added: as the origin gave
/// them, to be updated by its 304.
pub(crate) fn unannounced(object: &Object) -> HeaderMap {
    let mut headers = object.headers.to_header_map();
    let varies = |name| name == http::header::ACCEPT_ENCODING;
    if !object.vary().names().any(varies) {
        unvary_by_encoding(&mut headers);
    }
    headers
}

/// The codings of `base` for an object of the same body, unless its fields now forbid them
/// or the route offers others.
pub(crate) fn handed_on(route: &Route, base: &Object, object: Object) -> Object {
    if let (Some(settings), Some(coded)) = (&route.settings.compress, base.coded())
        && *coded.offer() == *settings.codings
        && settings.suits_object(&object)
    {
        // It is new, so nobody was before us.
        let _ = object.coded.set(Some(Arc::clone(coded)));
    }
    object
}

/// What a request takes, if it takes content in codings at all. A range is cut from the
/// content as it is; and `no-transform` is for every cache on the way.
fn takes_codings(head: &RequestHead) -> Option<AcceptEncoding> {
    let accepted = AcceptEncoding::parse(&head.headers)?;
    (!head.headers.contains_key(RANGE) && !forbids_transformation(&head.headers))
        .then_some(accepted)
}

/// A hit on a route that compresses: begins to make the coding that this client would get
/// if it were there. The client does not wait for it.
pub(crate) fn wanted(node: &Arc<Node>, route: &Route, object: &Object, head: &RequestHead) {
    let Some(settings) = &route.settings.compress else {
        return;
    };
    let coded = object.coded.get_or_init(|| {
        settings
            .suits_object(object)
            .then(|| Coded::new(&settings.codings))
    });
    let Some(coded) = coded else {
        return;
    };
    let Some(coding) = takes_codings(head).and_then(|it| it.choose(coded.offer().iter().copied()))
    else {
        return;
    };
    if !coded.begin(coding) {
        return;
    }
    // No queue: while all places are taken, a later hit tries again.
    let Ok(place) = Arc::clone(&node.compressor.places).try_acquire_owned() else {
        return coded.give_up(coding);
    };
    let node = Arc::clone(node);
    let (coded, key, body) = (Arc::clone(coded), object.key.clone(), object.body.clone());
    tokio::task::spawn_blocking(move || {
        let _place = place;
        if let Some(form) = make(&node.compressor, coding, &body) {
            coded.put(coding, form);
            node.memory.reweigh(&key, &coded);
        }
    });
}

/// The body in this coding, counted; nothing when it is not worth it.
fn make(compressor: &Compressor, coding: Coding, body: &Bytes) -> Option<Bytes> {
    let label = CodingLabel {
        coding: coding.token(),
    };
    let began = Instant::now();
    let made = encode(coding, body);
    let took = began.elapsed().as_secs_f64();
    compressor.seconds.get_or_create(&label).inc_by(took);
    let reason = match made {
        Ok(form) if form.len() * 100 <= body.len() * WORTH_IT => {
            compressor.compressed.get_or_create(&label).inc();
            let read = compressor.read.get_or_create(&label);
            read.inc_by(body.len() as u64);
            let written = compressor.written.get_or_create(&label);
            written.inc_by(form.len() as u64);
            // Without the room that it grew in.
            return Some(Bytes::from(form.into_boxed_slice()));
        }
        Ok(_) => "no-gain",
        Err(error) => {
            tracing::warn!(%error, coding = label.coding, "a body could not be compressed");
            "failed"
        }
    };
    compressor
        .in_vain
        .get_or_create(&ReasonLabel { reason })
        .inc();
    None
}

fn encode(coding: Coding, mut body: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body)?;
            encoder.finish()
        }
        Coding::Brotli => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW,
                size_hint: body.len(),
                ..Default::default()
            };
            let mut form = Vec::new();
            brotli::BrotliCompress(&mut body, &mut form, &parameters)?;
            Ok(form)
        }
        Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
    }
}

/// The body that this request gets of a stored object, whose fields become those of that
/// body; nothing where it is the stored one and no other could be. One load then.
pub(crate) fn represent(
    object: &Object,
    head: &RequestHead,
    fields: &mut HeaderMap,
) -> Option<Bytes> {
    let coded = object.coded()?;
    // Stored by a node or a configuration that did not announce it.
    vary_by_encoding(fields);
    let accepted = takes_codings(head);
    Some(
        match accepted.and_then(|accepted| coded.choose(&accepted)) {
            Some((coding, form)) => {
                code_fields(fields, coding, form.len() as u64);
                form.clone()
            }
            // Not lent: who reads it for long is not to keep the codings too.
            None => object.body.clone(),
        },
    )
}

/// Whether a range may be cut for this request. Last-Modified is the same for all codings,
/// so that it cannot tell whose part a client holds.
pub(crate) fn may_be_cut(object: &Object, head: &RequestHead) -> bool {
    let by_date = |value: &http::HeaderValue| !value.as_bytes().contains(&b'"');
    object.coded().is_none() || !head.headers.get(IF_RANGE).is_some_and(by_date)
}

/// The codings that a response would be offered in, for explanations.
pub(crate) fn offer(route: &Route, status: StatusCode, headers: &HeaderMap) -> Vec<&'static str> {
    let settings = route.settings.compress.as_ref();
    settings
        .filter(|settings| settings.suits(status, headers))
        .map(|settings| {
            settings
                .codings
                .iter()
                .map(|coding| coding.token())
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coding_is_what_its_name_says() {
        use std::io::Read;

        let text = b"weir weir weir water ".repeat(500);
        for coding in Coding::ALL {
            let form = encode(coding, &text).unwrap();
            assert!(form.len() < text.len() / 10, "{coding:?}");
            let mut back = Vec::new();
            match coding {
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(&form[..])
                        .read_to_end(&mut back)
                        .unwrap();
                }
                Coding::Brotli => brotli::BrotliDecompress(&mut &form[..], &mut back).unwrap(),
                Coding::Zstd => back = zstd::bulk::decompress(&form, text.len()).unwrap(),
            }
            assert!(back == text, "{coding:?}");
        }
    }

    #[test]
    fn what_does_not_shrink_is_not_kept() {
        let compressor = Compressor::new(&Metrics::default());
        let mut state = 1_u32;
        let noise = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let noise: Bytes = (0..50_000).map(noise).collect();
        let text = Bytes::from_static(&[b'x'; 5000]);
        for coding in Coding::ALL {
            assert!(make(&compressor, coding, &noise).is_none(), "{coding:?}");
            assert!(make(&compressor, coding, &text).is_some(), "{coding:?}");
        }
    }
}
