//! Instances that are held though their entries are gone: why, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::Instance;

/// A directory, a service and an id.
pub(super) type Key = (Arc<str>, Arc<str>, Arc<str>);

/// Why an instance is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its agent took it away, unless the next message says that the agent is lost as well.
    Withdrawn,
    /// Its agent is lost; others may follow.
    Lost,
    /// Too many were lost.
    Doubted,
}

impl Reason {
    /// Whether nobody took it away.
    pub(super) fn is_loss(self) -> bool {
        self != Reason::Withdrawn
    }
}

struct Held {
    instance: Arc<Instance>,
    reason: Reason,
    due: Instant,
}

/// All that is held, by key, by node and by time.
#[derive(Default)]
pub(super) struct Holding {
    held: BTreeMap<Key, Held>,
    of: BTreeMap<Arc<str>, BTreeSet<Key>>,
    due: BTreeSet<(Instant, Key)>,
    lost: usize,
    doubted: usize,
}

impl Holding {
    pub(super) fn insert(&mut self, key: Key, instance: Arc<Instance>, reason: Reason, due: Instant) {
        self.release(&key);
        self.of.entry(node(&instance).into()).or_default().insert(key.clone());
        self.due.insert((due, key.clone()));
        self.count(reason, true);
        self.held.insert(key, Held { instance, reason, due });
    }

    /// Gives another reason and time.
    pub(super) fn set(&mut self, key: &Key, reason: Reason, due: Instant) {
        let Some(held) = self.held.get_mut(key) else { return };
        self.due.remove(&(held.due, key.clone()));
        self.due.insert((due, key.clone()));
        held.due = due;
        let before = std::mem::replace(&mut held.reason, reason);
        self.count(before, false);
        self.count(reason, true);
    }

    /// Holds it no longer.
    pub(super) fn release(&mut self, key: &Key) -> Option<(Arc<Instance>, Reason)> {
        let held = self.held.remove(key)?;
        self.due.remove(&(held.due, key.clone()));
        let node = node(&held.instance);
        if let Some(keys) = self.of.get_mut(node) {
            keys.remove(key);
            if keys.is_empty() {
                self.of.remove(node);
            }
        }
        self.count(held.reason, false);
        Some((held.instance, held.reason))
    }

    fn count(&mut self, reason: Reason, more: bool) {
        let step = |count: usize| if more { count + 1 } else { count.saturating_sub(1) };
        if reason.is_loss() {
            self.lost = step(self.lost);
        }
        if reason == Reason::Doubted {
            self.doubted = step(self.doubted);
        }
    }

    /// Why a key is held.
    pub(super) fn reason(&self, key: &Key) -> Option<Reason> {
        self.held.get(key).map(|held| held.reason)
    }

    /// What is held of a directory.
    pub(super) fn within(&self, directory: &Arc<str>) -> Vec<Arc<Instance>> {
        let from = (Arc::clone(directory), Arc::from(""), Arc::from(""));
        let held = self.held.range(from..).take_while(|((of, ..), _)| of == directory);
        held.map(|(_, held)| Arc::clone(&held.instance)).collect()
    }

    /// What is held of a node.
    pub(super) fn of(&self, node: &str) -> Vec<Key> {
        self.of.get(node).into_iter().flatten().cloned().collect()
    }

    /// Whether something of a node is held.
    pub(super) fn has(&self, node: &str) -> bool {
        self.of.contains_key(node)
    }

    /// The nodes of which something is held; the empty one stands for instances that do not say theirs.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.of.keys()
    }

    /// What is lost and not doubted yet.
    pub(super) fn all_lost(&self) -> Vec<Key> {
        self.held.iter().filter(|(_, held)| held.reason == Reason::Lost).map(|(key, _)| key.clone()).collect()
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
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many nobody took away.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// How many of those are doubted.
    pub(super) fn doubted(&self) -> usize {
        self.doubted
    }
}

/// The node that an instance runs on; empty where its layout does not say so.
pub(super) fn node(instance: &Instance) -> &str {
    instance.attributes.get("node").map_or("", String::as_str)
}
