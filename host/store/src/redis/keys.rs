//! How keys are called in Redis.
//!
//! | key | holds |
//! |---|---|
//! | `PREFIX:{KEY}` | an object without Vary, or the index of its variants |
//! | `PREFIX:{KEY}:v:HASH` | one variant |
//! | `PREFIX:{KEY}:c:FILL:N` | a piece of a long body |
//! | `PREFIX:{KEY}:lease` | which node fetches the object |
//! | `PREFIX:{namespace:key}:kv` | a value, counter, set or queue of a policy |
//! | `PREFIX:{ratelimit:bucket:client}:rl` | the state of a rate limit |
//! | `PREFIX:{log}:…` | the invalidation log |
//! | `PREFIX:{policies}:…` | what the nodes agree on ([published](crate::published)) |
//! | `PREFIX:name` | a hash in which each node tells of itself: no braces, one key |
//!
//! Between the braces nothing holds a brace (it is escaped there), so the first `}` ends
//! them and what follows tells the kinds apart: a policy's own values can never collide
//! with objects. A key holds `:`, `|` or `/`, so none is `log`. What stands between the
//! braces is the hash tag: keys that one step touches live on one node of a cluster.

use std::fmt::Write as _;

/// Builds key names.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// An object's, or its index of variants'. `key` is [`Key::as_str`](crate::Key::as_str).
    pub(crate) fn object(&self, key: &str) -> String {
        format!("{}:{{{key}}}", self.prefix)
    }

    pub(crate) fn variant(&self, key: &str, hash: u128) -> String {
        format!("{}:{{{key}}}:v:{hash:032x}", self.prefix)
    }

    /// A piece of the body that was written under the name `fill`.
    pub(crate) fn chunk(&self, key: &str, fill: u64, number: u64) -> String {
        format!("{}:{{{key}}}:c:{fill:016x}:{number}", self.prefix)
    }

    /// Which node fetches the object.
    pub(crate) fn lease(&self, key: &str) -> String {
        format!("{}:{{{key}}}:lease", self.prefix)
    }

    pub(crate) fn kv(&self, namespace: &str, key: &str) -> String {
        let mut name = format!("{}:{{{namespace}:", self.prefix);
        escape(&mut name, key, false);
        name.push_str("}:kv");
        name
    }

    pub(crate) fn rate_limit(&self, bucket: &str, client: &str) -> String {
        let mut name = format!("{}:{{ratelimit:", self.prefix);
        // Without its ':' the bucket's end is where the client begins.
        escape(&mut name, bucket, true);
        name.push(':');
        escape(&mut name, client, false);
        name.push_str("}:rl");
        name
    }

    /// A hash in which nodes tell of themselves. `name` has no braces.
    pub(crate) fn roster(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// A part of what the nodes agree on. `name` has none of the characters that a key has.
    pub(crate) fn published(&self, name: &str, part: &str) -> String {
        format!("{}:{{{name}}}:{part}", self.prefix)
    }

    fn log(&self, part: &str) -> String {
        format!("{}:{{log}}:{part}", self.prefix)
    }

    /// A hash: `epoch`, `sequence`, and `last` and `nonce` of the last entry.
    pub(crate) fn state(&self) -> String {
        self.log("state")
    }

    pub(crate) fn stream(&self) -> String {
        self.log("stream")
    }

    /// The keys that both scripts use, in their order.
    pub(crate) fn log_keys(&self) -> [String; 7] {
        [
            "state", "counters", "prefixes", "soft-at", "floors", "stream", "points",
        ]
        .map(|part| self.log(part))
    }

    /// Marks that a purge has been taken.
    pub(crate) fn done(&self, id: &str) -> String {
        self.log(&format!("done:{id}"))
    }
}

fn escape(out: &mut String, text: &str, colon: bool) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_graphic()
            && !matches!(byte, b'%' | b'{' | b'}')
            && !(colon && byte == b':');
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_operator_reads_what_it_is() {
        let keys = Keys::new("weir");
        assert_eq!(
            keys.object("http://h|user:profile:42"),
            "weir:{http://h|user:profile:42}"
        );
        assert_eq!(
            keys.kv("session", "refresh:a}b ü"),
            "weir:{session:refresh:a%7Db%20%C3%BC}:kv"
        );
        assert_eq!(keys.rate_limit("api", "::1"), "weir:{ratelimit:api:::1}:rl");
        assert_eq!(keys.roster("a:b"), "weir:a:b");
        assert_eq!(keys.state(), "weir:{log}:state");
    }

    proptest! {
        #[test]
        fn different_names_give_different_keys(
            a in ("[a:{}%]{0,3}", "[a:{}%]{0,3}"), b in ("[a:{}%]{0,3}", "[a:{}%]{0,3}"),
        ) {
            prop_assume!(a != b);
            let keys = Keys::new("w");
            prop_assert_ne!(keys.rate_limit(&a.0, &a.1), keys.rate_limit(&b.0, &b.1));
            prop_assert!(a.1 == b.1 || keys.kv("ns", &a.1) != keys.kv("ns", &b.1));
            // No object's key can end like that: braces are escaped in keys.
            let kv = keys.kv("ns", &a.1);
            prop_assert_eq!(kv.matches('}').count(), 1);
        }
    }
}
