//! Snapshots of watched prefixes: turns what etcd says into entries, and touches only what differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_client::KeyValue;
use tracing::warn;

use crate::model::{Entries, Stored, VALUE_LIMIT};

/// One change: a key and its new value, or `None` when the key is gone or nobody can read it.
pub(super) type Change = (Arc<str>, Option<Stored>);

/// The entry; logs and leaves out what nobody could read.
pub(super) fn readable(kv: &KeyValue) -> Option<(Arc<str>, Stored)> {
    let reason = match (kv.key_str(), kv.value_str()) {
        (Ok(_), Ok(value)) if value.len() > VALUE_LIMIT => {
            format!("{} bytes, at most {VALUE_LIMIT} are taken", value.len())
        }
        (Ok(key), Ok(value)) => {
            let created = u64::try_from(kv.create_revision()).unwrap_or_default();
            return Some((key.into(), Stored { value: value.into(), created }));
        }
        _ => "not UTF-8".into(),
    };
    warn!(key = %String::from_utf8_lossy(kv.key()), reason, "entry ignored");
    None
}

/// Applies changes in order; returns whether anything is different now.
pub(super) fn apply(entries: &mut Entries, changes: Vec<Change>) -> bool {
    let mut modified = false;
    for (key, stored) in changes {
        if entries.get(&key) == stored.as_ref() {
            continue;
        }
        modified = true;
        match stored {
            Some(stored) => entries.insert(key, stored),
            None => entries.remove(&key),
        };
    }
    modified
}

/// Makes `entries` equal to `listed`, touching only what differs, so that comparing with the last snapshot stays cheap.
pub(super) fn replace(entries: &mut Entries, listed: BTreeMap<Arc<str>, Stored>) -> bool {
    let gone: Vec<Change> =
        entries.keys().filter(|key| !listed.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    let listed = listed.into_iter().map(|(key, stored)| (key, Some(stored)));
    apply(entries, gone.into_iter().chain(listed).collect())
}

/// Prefixes without those that lie within another.
pub(super) fn outermost(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort();
    prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    prefixes
}

/// The first key after all that start with `prefix`.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 255, so the last byte plus one is a byte; no prefix means all keys.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: &str, created: u64) -> Stored {
        Stored { value: value.into(), created }
    }

    fn entries(list: &[(&str, &str, u64)]) -> Entries {
        list.iter().map(|(key, value, created)| (Arc::from(*key), stored(value, *created))).collect()
    }

    fn shown(entries: &Entries) -> Vec<(&str, &str, u64)> {
        entries.iter().map(|(key, stored)| (&**key, &*stored.value, stored.created)).collect()
    }

    #[test]
    fn a_batch_is_one_change() {
        let mut entries = Entries::new();
        let batch = vec![("/a".into(), Some(stored("1", 1))), ("/b".into(), Some(stored("1", 1))), ("/a".into(), None)];
        assert!(apply(&mut entries, batch));
        assert_eq!(shown(&entries), [("/b", "1", 1)]);
    }

    #[test]
    fn what_is_as_before_is_no_change() {
        let mut entries = entries(&[("/a", "1", 1)]);
        assert!(!apply(&mut entries, vec![("/a".into(), Some(stored("1", 1))), ("/b".into(), None)]));
    }

    #[test]
    fn a_key_that_was_deleted_and_written_again_is_younger() {
        let mut entries = entries(&[("/a", "1", 1)]);
        assert!(apply(&mut entries, vec![("/a".into(), None), ("/a".into(), Some(stored("1", 3)))]));
        assert_eq!(shown(&entries), [("/a", "1", 3)]);
        assert!(replace(&mut entries, BTreeMap::from([("/a".into(), stored("1", 5))])));
        assert_eq!(shown(&entries), [("/a", "1", 5)]);
    }

    #[test]
    fn a_new_listing_is_swapped_in_whole() {
        let mut entries = entries(&[("/a", "1", 1), ("/b", "1", 1)]);
        let listed = BTreeMap::from([("/b".into(), stored("2", 1)), ("/c".into(), stored("1", 4))]);
        assert!(replace(&mut entries, listed.clone()));
        assert_eq!(shown(&entries), [("/b", "2", 1), ("/c", "1", 4)]);
        assert!(!replace(&mut entries, listed));
    }

    #[test]
    fn a_prefix_within_another_is_watched_once() {
        let prefixes = outermost(vec!["/b/".into(), "/a/x/".into(), "/a/".into(), "/a/".into()]);
        assert_eq!(prefixes, ["/a/", "/b/"]);
        assert_eq!(range_end("/a/"), b"/a0");
    }
}
