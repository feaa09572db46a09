//! Snapshots of what is followed: what etcd says, turned into entries, touching only what differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_client::KeyValue;
use tracing::warn;

use super::MAX_VALUE;
use crate::model::Entries;

/// One change: a key and its value, or nothing when there is none to be shown.
pub(super) type Change = (Arc<str>, Option<Arc<str>>);

/// The entry, unless nobody could read it; says so then.
pub(super) fn readable(kv: &KeyValue) -> Option<(Arc<str>, Arc<str>)> {
    let reason = match (kv.key_str(), kv.value_str()) {
        (Ok(_), Ok(value)) if value.len() > MAX_VALUE => {
            format!("{} bytes, at most {MAX_VALUE} are taken", value.len())
        }
        (Ok(key), Ok(value)) => return Some((key.into(), value.into())),
        _ => "not UTF-8".into(),
    };
    warn!(key = %String::from_utf8_lossy(kv.key()), reason, "an entry is left out");
    None
}

/// Applies changes in order; says whether anything is different now.
pub(super) fn apply(entries: &mut Entries, changes: Vec<Change>) -> bool {
    let mut modified = false;
    for (key, value) in changes {
        if entries.get(&key) == value.as_ref() {
            continue;
        }
        modified = true;
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
    modified
}

/// Makes `entries` equal to `listed`, touching only what differs, so that comparing with the last snapshot stays cheap.
pub(super) fn replace(entries: &mut Entries, listed: BTreeMap<Arc<str>, Arc<str>>) -> bool {
    let gone: Vec<Change> =
        entries.keys().filter(|key| !listed.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    let listed = listed.into_iter().map(|(key, value)| (key, Some(value)));
    apply(entries, gone.into_iter().chain(listed).collect())
}

/// Prefixes without those that lie within another.
pub(super) fn outermost(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort();
    prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    prefixes
}

/// The first key after all that start with `prefix`.
pub(super) fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 255, so the last one can always be counted up; no prefix means all keys.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Entries {
        pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
    }

    fn text(entries: &Entries) -> Vec<(&str, &str)> {
        entries.iter().map(|(key, value)| (&**key, &**value)).collect()
    }

    #[test]
    fn a_batch_is_one_change() {
        let mut entries = Entries::new();
        let batch = vec![("/a".into(), Some("1".into())), ("/b".into(), Some("1".into())), ("/a".into(), None)];
        assert!(apply(&mut entries, batch));
        assert_eq!(text(&entries), [("/b", "1")]);
    }

    #[test]
    fn what_is_as_before_is_no_change() {
        let mut entries = entries(&[("/a", "1")]);
        assert!(!apply(&mut entries, vec![("/a".into(), Some("1".into())), ("/b".into(), None)]));
    }

    #[test]
    fn a_new_listing_is_swapped_in_whole() {
        let mut entries = entries(&[("/a", "1"), ("/b", "1")]);
        let listed = BTreeMap::from([("/b".into(), "2".into()), ("/c".into(), "1".into())]);
        assert!(replace(&mut entries, listed.clone()));
        assert_eq!(text(&entries), [("/b", "2"), ("/c", "1")]);
        assert!(!replace(&mut entries, listed));
    }

    #[test]
    fn a_prefix_within_another_is_watched_once() {
        let prefixes = outermost(vec!["/b/".into(), "/a/x/".into(), "/a/".into(), "/a/".into()]);
        assert_eq!(prefixes, ["/a/", "/b/"]);
        assert_eq!(after("/a/"), b"/a0");
    }
}
