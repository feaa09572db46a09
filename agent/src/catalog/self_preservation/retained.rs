//! Instances that are retained though their entries are gone: why, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::Instance;

/// A directory, a service and an id.
pub(super) type Key = (Arc<str>, Arc<str>, Arc<str>);

/// Why an instance is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its agent took it away, unless the next message says that the agent is lost as well.
    Withdrawn,
    /// Its agent is lost; others may follow.
    Lost,
    /// Too many were lost.
    Preserved,
}

impl Reason {
    /// Whether nobody took it away.
    pub(super) fn is_loss(self) -> bool {
        self != Reason::Withdrawn
    }
}

struct Retained {
    instance: Arc<Instance>,
    reason: Reason,
    due: Instant,
}

/// All that is retained, by key, by node and by time.
#[derive(Default)]
pub(super) struct RetainedInstances {
    retained: BTreeMap<Key, Retained>,
    of: BTreeMap<Arc<str>, BTreeSet<Key>>,
    due: BTreeSet<(Instant, Key)>,
    lost: usize,
    preserved: usize,
}

impl RetainedInstances {
    pub(super) fn insert(&mut self, key: Key, instance: Arc<Instance>, reason: Reason, due: Instant) {
        self.release(&key);
        self.of.entry(node(&instance).into()).or_default().insert(key.clone());
        self.due.insert((due, key.clone()));
        self.count(reason, true);
        self.retained.insert(key, Retained { instance, reason, due });
    }

    /// Gives another reason and time.
    pub(super) fn set(&mut self, key: &Key, reason: Reason, due: Instant) {
        let Some(retained) = self.retained.get_mut(key) else { return };
        self.due.remove(&(retained.due, key.clone()));
        self.due.insert((due, key.clone()));
        retained.due = due;
        let before = std::mem::replace(&mut retained.reason, reason);
        self.count(before, false);
        self.count(reason, true);
    }

    /// Holds it no longer.
    pub(super) fn release(&mut self, key: &Key) -> Option<(Arc<Instance>, Reason)> {
        let retained = self.retained.remove(key)?;
        self.due.remove(&(retained.due, key.clone()));
        let node = node(&retained.instance);
        if let Some(keys) = self.of.get_mut(node) {
            keys.remove(key);
            if keys.is_empty() {
                self.of.remove(node);
            }
        }
        self.count(retained.reason, false);
        Some((retained.instance, retained.reason))
    }

    fn count(&mut self, reason: Reason, more: bool) {
        let step = |count: usize| if more { count + 1 } else { count.saturating_sub(1) };
        if reason.is_loss() {
            self.lost = step(self.lost);
        }
        if reason == Reason::Preserved {
            self.preserved = step(self.preserved);
        }
    }

    /// Why a key is retained.
    pub(super) fn reason(&self, key: &Key) -> Option<Reason> {
        self.retained.get(key).map(|retained| retained.reason)
    }

    /// What is retained of a directory.
    pub(super) fn within(&self, directory: &Arc<str>) -> Vec<Arc<Instance>> {
        let from = (Arc::clone(directory), Arc::from(""), Arc::from(""));
        let retained = self.retained.range(from..).take_while(|((of, ..), _)| of == directory);
        retained.map(|(_, retained)| Arc::clone(&retained.instance)).collect()
    }

    /// What is retained of a node.
    pub(super) fn of(&self, node: &str) -> Vec<Key> {
        self.of.get(node).into_iter().flatten().cloned().collect()
    }

    /// Whether something of a node is retained.
    pub(super) fn has(&self, node: &str) -> bool {
        self.of.contains_key(node)
    }

    /// The nodes of which something is retained; the empty one stands for instances that do not say theirs.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.of.keys()
    }

    /// What is lost and not preserved yet.
    pub(super) fn all_lost(&self) -> Vec<Key> {
        self.retained
            .iter()
            .filter(|(_, retained)| retained.reason == Reason::Lost)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Something whose time is over.
    pub(super) fn overdue(&self, now: Instant) -> Option<Key> {
        self.due.first().filter(|(due, _)| *due <= now).map(|(_, key)| key.clone())
    }

    /// When the first of them leaves.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// When the last of them leaves.
    pub(super) fn last_due(&self) -> Option<Instant> {
        self.due.last().map(|(due, _)| *due)
    }

    pub(super) fn len(&self) -> usize {
        self.retained.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.retained.is_empty()
    }

    /// How many nobody took away.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// How many of those are preserved.
    pub(super) fn preserved(&self) -> usize {
        self.preserved
    }
}

/// The node that an instance runs on; empty where its layout does not say so.
pub(super) fn node(instance: &Instance) -> &str {
    instance.attributes.get("node").map_or("", String::as_str)
}
