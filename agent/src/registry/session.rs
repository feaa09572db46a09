//! What this agent holds in etcd, as far as it knows. Nothing in here talks to etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use tracing::warn;

use crate::model::{LeaseKind, LeasedEntries, LeasedValue, Presence, directory};

/// The agent's lease, the entries under it, and what the agent holds or waits for beside them.
#[derive(Default)]
pub(super) struct Session {
    /// The agent's lease; 0 before it has one.
    pub(super) lease: i64,
    /// Entries under the agent's lease.
    pub(super) own: BTreeMap<String, Arc<str>>,
    /// Entries that the agent holds together with other hosts.
    pub(super) shared: BTreeMap<String, Shared>,
    /// Entries of this host's own that it leaves to other hosts while they hold them.
    pub(super) contested: BTreeMap<String, Contested>,
}

/// A shared entry of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    /// The value this agent gives it.
    pub(super) value: Arc<str>,
    pub(super) hold: Hold,
    /// This agent has, or had, an entry of its own in the same directory: so does every other holder, and where there
    /// is none of theirs nobody else holds it.
    pub(super) has_own_sibling: bool,
}

/// What keeps a shared entry there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// This lease, which its holders keep alive.
    Lease(i64),
    /// A person: it has no lease.
    Permanent,
    /// Another host, with this other value; ours has to wait.
    Contested(String),
}

/// A key of this host's own that another host holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contested {
    /// The value this agent would give it.
    pub(super) value: Arc<str>,
    /// The lease that the key is under.
    pub(super) lease: i64,
    /// Whose lease that is, where its agent says so: node and address.
    pub(super) by: Option<(String, String)>,
}

impl Session {
    /// A session that starts with `own` under `lease`.
    pub(super) fn new(lease: i64, own: BTreeMap<String, Arc<str>>) -> Session {
        Session { lease, own, ..Session::default() }
    }

    /// Everything the agent holds, or would hold if no other host did.
    pub(super) fn owned_entries(&self) -> LeasedEntries {
        let own = self.own.iter().map(|(key, value)| (key, value, LeaseKind::Host));
        let shared = self.shared.iter().map(|(key, shared)| (key, &shared.value, LeaseKind::Shared));
        // The registry itself watches contested entries, so that they are not put again at every turn.
        let contested = self.contested.iter().map(|(key, contested)| (key, &contested.value, LeaseKind::Host));
        own.chain(shared)
            .chain(contested)
            .map(|(key, value, lease)| (key.clone(), LeasedValue { value: value.clone(), lease }))
            .collect()
    }

    /// The lease that a key is under as far as is known; 0 is none, also for a key that is not there.
    pub(super) fn assumed_lease(&self, key: &str) -> i64 {
        if self.own.contains_key(key) { self.lease } else { self.shared_lease(key).unwrap_or(0) }
    }

    /// The lease that keeps a shared entry of this agent there.
    pub(super) fn shared_lease(&self, key: &str) -> Option<i64> {
        self.shared.get(key).and_then(Shared::lease)
    }

    /// The leases of all shared entries.
    pub(super) fn shared_leases(&self) -> BTreeSet<i64> {
        self.shared.values().filter_map(Shared::lease).collect()
    }

    /// Forgets an entry; returns it when it was a shared one.
    pub(super) fn forget(&mut self, key: &str) -> Option<Shared> {
        self.own.remove(key);
        self.contested.remove(key);
        self.shared.remove(key)
    }

    /// Holds an entry as a shared one from now on; `before` is what it was as one.
    pub(super) fn hold_shared(&mut self, key: String, value: Arc<str>, hold: Hold, before: Option<&Shared>) {
        let has_own_sibling = before.is_some_and(|before| before.has_own_sibling);
        let shared = Shared { value, hold, has_own_sibling };
        if let Hold::Contested(other) = &shared.hold
            && before != Some(&shared)
        {
            let ours = &*shared.value;
            warn!(key, ours, other, "another host wrote a different value for a shared entry; keeping it");
        }
        self.shared.insert(key, shared);
    }

    /// Notes which shared entries are beside entries of the agent's own.
    pub(super) fn note_siblings(&mut self) {
        for (key, shared) in &mut self.shared {
            shared.has_own_sibling |= holds_in(&self.own, directory(key));
        }
    }

    /// What the agent leaves to other hosts, in words.
    pub(super) fn contested_texts(&self) -> BTreeMap<String, String> {
        self.contested.iter().map(|(key, contested)| (key.clone(), contested.text(key))).collect()
    }
}

impl Shared {
    /// The lease that keeps it there.
    pub(super) fn lease(&self) -> Option<i64> {
        match self.hold {
            Hold::Lease(lease) => Some(lease),
            Hold::Permanent | Hold::Contested(_) => None,
        }
    }
}

impl Contested {
    fn text(&self, key: &str) -> String {
        let holder = match &self.by {
            Some((node, address)) if Presence::node(key) == Some(node) => {
                return format!(
                    "another host of this name is there, at {address}: give one of them another agent.node; until then both \
                     write the same keys"
                );
            }
            Some((node, address)) => format!("host {node} at {address}"),
            None => format!("another writer, under lease {:x},", self.lease),
        };
        format!(
            "{holder} holds it with another value, so ours is not written: two containers make one key, as when both have \
             the same host name; give one another name, or it is taken over when the other leaves"
        )
    }
}

/// Whether one of the entries is in that directory.
pub(super) fn holds_in(own: &BTreeMap<String, Arc<str>>, path: &str) -> bool {
    let mut below =
        own.range::<str, _>((Bound::Included(path), Bound::Unbounded)).take_while(|(key, _)| key.starts_with(path));
    below.any(|(key, _)| directory(key) == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_directory_is_another_one() {
        let own = BTreeMap::from([("/a/b/c".to_owned(), Arc::from("1"))]);
        assert!(holds_in(&own, "/a/b/"));
        assert!(!holds_in(&own, "/a/"));
        assert!(!holds_in(&own, "/a/b/c/"));
    }
}
