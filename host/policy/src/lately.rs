//! What a policy was asked of late. Its next version decides the same requests before it is in
//! force, so that no client waits for a guest because something was changed.
//!
//! They are those that taught the memo something and those of its samples: what is asked often
//! is among them, and what is different. Credentials are not kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use parking_lot::Mutex;

use crate::request::RequestHead;

/// The most requests that are kept of one policy.
pub(crate) const KEPT: usize = 128;
/// The largest of them: the bytes of its target and of its header fields.
const LARGEST: usize = 4 * 1024;
/// The least time between two of them: one costs a copy.
const PAUSE: Duration = Duration::from_millis(1);

/// The requests of one policy, whichever of its versions was asked.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    heads: VecDeque<Arc<RequestHead>>,
    last: Option<Instant>,
}

/// Those of all policies, by their names, for as long as a version of them is loaded.
#[derive(Debug, Default)]
pub(crate) struct AllLately(Mutex<HashMap<String, Weak<Lately>>>);

impl AllLately {
    pub(crate) fn of(&self, policy: &str) -> Arc<Lately> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(policy).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, lately| lately.strong_count() > 0);
        let new = Arc::default();
        all.insert(policy.to_owned(), Arc::downgrade(&new));
        new
    }
}

impl Lately {
    /// Keeps a request, unless it is large, or another one was kept just before. Never waits.
    pub(crate) fn note(&self, head: &RequestHead, now: Instant) {
        let Some(mut kept) = self.0.try_lock() else {
            return;
        };
        let soon = |last| now.saturating_duration_since(last) < PAUSE;
        if kept.last.is_some_and(soon) || size(head) > LARGEST {
            return;
        }
        kept.last = Some(now);
        if kept.heads.len() == KEPT {
            kept.heads.pop_front();
        }
        kept.heads.push_back(Arc::new(without_credentials(head)));
    }

    /// All that are kept, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<RequestHead>> {
        self.0.lock().heads.iter().rev().cloned().collect()
    }
}

fn size(head: &RequestHead) -> usize {
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    head.target.as_str().len() + fields.sum::<usize>()
}

fn without_credentials(head: &RequestHead) -> RequestHead {
    let mut head = RequestHead {
        content: None,
        ..head.clone()
    };
    for credentials in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
        head.headers.remove(credentials);
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::head;

    fn paths(lately: &Lately) -> Vec<String> {
        let all = lately.all();
        all.iter().map(|head| head.path().to_owned()).collect()
    }

    #[test]
    fn the_newest_are_kept_and_no_more_of_them() {
        let lately = Lately::default();
        let began = Instant::now();
        for number in 0..KEPT + 3 {
            let at = began + PAUSE * u32::try_from(number).unwrap();
            lately.note(&head(&format!("/{number}"), &[]), at);
        }
        let kept = paths(&lately);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0], format!("/{}", KEPT + 2));
        assert_eq!(kept[KEPT - 1], "/3");
    }

    #[test]
    fn of_those_at_once_and_of_large_ones_none_is_kept() {
        let lately = Lately::default();
        let began = Instant::now();
        let large = "x".repeat(LARGEST);
        lately.note(&head("/large", &[("x-large", &large)]), began);
        lately.note(&head("/first", &[]), began);
        lately.note(&head("/at-once", &[]), began + PAUSE / 2);
        lately.note(&head("/later", &[]), began + PAUSE);
        assert_eq!(paths(&lately), ["/later", "/first"]);
    }

    #[test]
    fn credentials_are_not_kept() {
        let lately = Lately::default();
        let fields = [
            ("authorization", "Bearer s3cret"),
            ("cookie", "session=s3cret"),
            ("accept-language", "de"),
            ("proxy-authorization", "Basic s3cret"),
        ];
        lately.note(&head("/", &fields), Instant::now());
        let all = lately.all();
        let kept: Vec<_> = all[0].headers.keys().collect();
        assert_eq!(kept, ["accept-language"]);
    }

    #[test]
    fn a_policy_has_one_for_all_its_versions() {
        let all = AllLately::default();
        let (shop, help) = (all.of("shop"), all.of("help"));
        assert!(Arc::ptr_eq(&shop, &all.of("shop")));
        assert!(!Arc::ptr_eq(&shop, &help));
        drop(shop);
        let other = all.of("other");
        assert_eq!(all.0.lock().len(), 2, "what is gone is forgotten");
        drop((help, other));
    }
}
