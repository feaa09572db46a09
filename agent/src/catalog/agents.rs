//! Which agents are there, which left and which were lost, as they say in keys of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use crate::model::{Entries, Presence, PresenceState};

/// What is known of the agent of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    /// It says that it is there.
    Here,
    /// It says that it leaves.
    Leaving,
    /// Its key vanished without a word.
    Lost,
    /// It never said anything, or left long ago.
    Unknown,
}

/// What all agents say.
#[derive(Default)]
pub(super) struct Agents {
    entries: Entries,
    known: BTreeMap<Arc<str>, PresenceState>,
    lost: BTreeSet<Arc<str>>,
    last_loss: Option<Instant>,
}

impl Agents {
    /// Takes over what the agents say now, and returns the nodes whose agent said something or was lost.
    pub(super) fn update(&mut self, entries: &Entries, now: Instant) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        let before = std::mem::replace(&mut self.entries, entries.clone());
        for change in before.diff(entries) {
            let (key, value) = match change {
                DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => (key, Some(value)),
                DiffItem::Remove(key, _) => (key, None),
            };
            let Some(node) = Presence::node(key).filter(|node| !node.is_empty()).map(Arc::<str>::from) else {
                continue;
            };
            if let Some(value) = value {
                self.lost.remove(&node);
                self.known.insert(Arc::clone(&node), Presence::from_text(&value.value).state);
            } else if self.known.remove(&node) == Some(PresenceState::Here) {
                self.lost.insert(Arc::clone(&node));
                self.last_loss = Some(now);
            }
            changed.push(node);
        }
        changed
    }

    /// What is known of the agent of `node`.
    pub(super) fn of(&self, node: &str) -> Agent {
        match self.known.get(node) {
            Some(PresenceState::Here) => Agent::Here,
            Some(PresenceState::Leaving) => Agent::Leaving,
            None if self.lost.contains(node) => Agent::Lost,
            None => Agent::Unknown,
        }
    }

    /// Whether no agent ever said anything, as with agents that know no such key.
    pub(super) fn is_silent(&self) -> bool {
        self.known.is_empty() && self.last_loss.is_none()
    }

    /// When an agent was lost last.
    pub(super) fn last_loss(&self) -> Option<Instant> {
        self.last_loss
    }

    /// Forgets a lost agent that nothing is known of any more.
    pub(super) fn forget(&mut self, node: &str) {
        self.lost.remove(node);
    }
}
