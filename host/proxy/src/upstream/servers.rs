//! Round robin over the servers of an upstream, with those that just refused a
//! connection set aside for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::uri::Authority;

/// The first time a server is set aside; doubles with each further failure.
const SET_ASIDE: Duration = Duration::from_millis(500);
/// The longest time a server is set aside.
const SET_ASIDE_MAX: Duration = Duration::from_secs(10);

/// One server's address and recent luck.
#[derive(Debug)]
pub(super) struct Server {
    authority: Authority,
    start: Instant,
    failures: AtomicU32,
    /// Milliseconds after `start` until which it is passed over.
    aside_until: AtomicU64,
}

impl Server {
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let aside = SET_ASIDE.saturating_mul(1 << failures).min(SET_ASIDE_MAX);
        let until = self.start.elapsed().saturating_add(aside);
        self.aside_until
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        // Loaded first: a store by every request would bounce the cache line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.aside_until.store(0, Ordering::Relaxed);
        }
    }

    fn is_aside(&self) -> bool {
        let until = self.aside_until.load(Ordering::Relaxed);
        until != 0 && (self.start.elapsed().as_millis() as u64) < until
    }
}

/// The servers of one upstream, in turn.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
    next: AtomicUsize,
}

impl Servers {
    /// `authorities` must not be empty; the configuration sees to that.
    pub(super) fn new(authorities: Vec<Authority>) -> Self {
        let start = Instant::now();
        let servers = authorities
            .into_iter()
            .map(|authority| Server {
                authority,
                start,
                failures: AtomicU32::new(0),
                aside_until: AtomicU64::new(0),
            })
            .collect();
        Self {
            servers,
            next: AtomicUsize::new(0),
        }
    }

    /// The next server that is not set aside; when all are, the next one all the same,
    /// since a try is better than an error.
    pub(super) fn choose(&self) -> &Server {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.servers.len();
        (0..count)
            .map(|step| &self.servers[first.wrapping_add(step) % count])
            .find(|server| !server.is_aside())
            .unwrap_or(&self.servers[first % count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(names: &[&str]) -> Servers {
        Servers::new(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn takes_turns() {
        let servers = servers(&["a:1", "b:1"]);
        let seen: Vec<_> = (0..4)
            .map(|_| servers.choose().authority().as_str())
            .collect();
        assert_eq!(seen, ["a:1", "b:1", "a:1", "b:1"]);
    }

    #[test]
    fn passes_over_a_server_that_failed_until_it_answers() {
        let servers = servers(&["a:1", "b:1"]);
        let failed = servers.choose();
        assert_eq!(failed.authority().as_str(), "a:1");
        failed.failed();
        for _ in 0..4 {
            assert_eq!(servers.choose().authority().as_str(), "b:1");
        }
        failed.answered();
        let seen: Vec<_> = (0..2)
            .map(|_| servers.choose().authority().as_str())
            .collect();
        assert!(seen.contains(&"a:1"));
    }

    #[test]
    fn tries_a_failed_server_when_there_is_no_other() {
        let servers = servers(&["a:1"]);
        servers.choose().failed();
        assert_eq!(servers.choose().authority().as_str(), "a:1");
    }
}
