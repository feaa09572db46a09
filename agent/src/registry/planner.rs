//! Decides how to carry steps out in etcd. Nothing in here talks to etcd: [`Facts`] say what etcd has, and the planner
//! returns what to do as [`Action`]s.
//!
//! **Own entries.** The first host keeps a key; another one reports that and waits. The planner leaves a key alone only
//! under another living lease. Even then the key is this agent's when that lease is of one of its earlier lives: the
//! agent's own key is under it too, or the value is the very same.
//!
//! **Shared entries** belong to every host that gives them, such as the `port` of a service. Each has a lease of its
//! own, which all its holders keep alive: the first host grants it, the others join. So the entry outlives every one of
//! them, gracefully or not, and is never written twice. A host that leaves deletes it only when no other host has an
//! entry in the same directory, in a transaction that fails when one comes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Step;
use super::action::{Action, Change, Guard};
use super::session::{Contested, Hold, Session};
use crate::model::{Node, Presence, PresenceState, directory};

#[cfg(test)]
mod tests;

/// A key that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) value: Vec<u8>,
    /// The lease it is under; 0 is none.
    pub(super) lease: i64,
    /// The revision of its last change.
    pub(super) revision: i64,
}

/// What a directory holds, and what is below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// The revision of the listing.
    pub(super) revision: i64,
    /// Lease and last revision by key.
    pub(super) keys: BTreeMap<String, (i64, i64)>,
}

/// What is known of etcd.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Keys; `None` stands for a key that is not there.
    pub(super) keys: BTreeMap<String, Option<Found>>,
    /// Directories by path.
    pub(super) directories: BTreeMap<String, Listing>,
    /// Whether leases were still there for a keep-alive.
    pub(super) leases: BTreeMap<i64, bool>,
    /// All agents by their lease: name of the node, and what the agent says of itself.
    pub(super) agents: Option<BTreeMap<i64, (String, Presence)>>,
}

/// Facts that the planner asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Keys to read.
    pub(super) keys: BTreeSet<String>,
    /// Directories to list.
    pub(super) directories: BTreeSet<String>,
    /// Leases to keep alive once.
    pub(super) leases: BTreeSet<i64>,
    /// Whether to list the agents.
    pub(super) agents: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Find out more.
    Ask(Questions),
    /// Forget the facts and ask again: they are about to change.
    AskAgain,
    /// Do all this in one transaction.
    Act(Vec<Action>),
}

/// Why the planner cannot decide a step yet.
enum Missing {
    Key(String),
    Directory(String),
    Lease(i64),
    Agents,
    /// The facts are about to change.
    NewFacts,
}

/// What happens to a key, and what must hold for that.
type Decision = Result<(Change, Vec<Guard>), Missing>;

/// Decides by what the session believes and what is known of etcd.
pub(super) struct Planner<'a> {
    pub(super) session: &'a Session,
    /// This host.
    pub(super) node: Option<&'a Node>,
    pub(super) facts: &'a Facts,
    /// Whether to trust the session about own entries, which saves reading them: a guard fails where the session is
    /// wrong.
    pub(super) trusting: bool,
}

impl Planner<'_> {
    /// What to do so that all `steps` are carried out at once.
    pub(super) fn plan(&self, steps: &[Step]) -> Plan {
        let (mut actions, mut questions) = (Vec::with_capacity(steps.len()), Questions::default());
        for step in steps {
            match self.action(step, steps) {
                Ok(action) => actions.push(action),
                Err(Missing::Key(key)) => {
                    questions.keys.insert(key);
                }
                Err(Missing::Directory(path)) => {
                    questions.directories.insert(path);
                }
                Err(Missing::Lease(lease)) => {
                    questions.leases.insert(lease);
                }
                Err(Missing::Agents) => questions.agents = true,
                Err(Missing::NewFacts) => return Plan::AskAgain,
            }
        }
        if questions == Questions::default() { Plan::Act(actions) } else { Plan::Ask(questions) }
    }

    fn action(&self, step: &Step, steps: &[Step]) -> Result<Action, Missing> {
        let (change, guards) = match step {
            Step::Put { key, value } => self.put(key, value)?,
            Step::Share { key, value } => self.share(key, value, steps)?,
            Step::PutDetached { value, .. } => {
                (Change::Detach { value: value.clone(), lease: None }, vec![Guard::Lease(self.session.lease)])
            }
            Step::Delete { .. } => (Change::Delete, Vec::new()),
            Step::Release { key } => self.release(key)?,
        };
        Ok(Action { key: step.key().to_owned(), change, guards })
    }

    fn put(&self, key: &str, value: &Arc<str>) -> Decision {
        let put = |guard| (Change::Put { value: value.clone() }, vec![guard]);
        let assumed = self.session.assumed_lease(key);
        if self.trusting {
            return Ok(put(Guard::Lease(assumed)));
        }
        let Some(found) = self.found(key)? else { return Ok(put(Guard::Absent)) };
        let is_ours_or_nobodys = [0, self.session.lease, assumed].contains(&found.lease);
        if is_ours_or_nobodys || self.is_earlier_life(found, value)? {
            return Ok(put(Guard::Unchanged(found.revision)));
        }
        let by = self.holder(found.lease)?.map(|(node, presence)| (node.clone(), presence.address.clone()));
        Ok((Change::LeaveTo(Contested { value: value.clone(), lease: found.lease, by }), Vec::new()))
    }

    /// Whether an earlier life of this agent has written the key.
    fn is_earlier_life(&self, found: &Found, value: &str) -> Result<bool, Missing> {
        Ok(match (self.holder(found.lease)?, self.node) {
            (Some((name, presence)), Some(node)) => {
                let is_leaving = presence.state == PresenceState::Leaving;
                *name == node.name && (is_leaving || presence.address == node.address)
            }
            (Some(_), None) => false,
            // An agent that says nothing of itself, or another program.
            (None, _) => found.value == value.as_bytes(),
        })
    }

    fn share(&self, key: &str, value: &Arc<str>, steps: &[Step]) -> Decision {
        let put = |guards| (Change::PutShared { value: value.clone(), lease: None }, guards);
        let Some(found) = self.found(key)? else { return Ok(put(vec![Guard::Absent])) };
        let unchanged = Guard::Unchanged(found.revision);
        if found.lease == self.session.lease {
            // An entry of this host's own that is shared from now on.
            return Ok(put(vec![unchanged]));
        }
        if found.value == value.as_bytes() {
            return self.join(key, value, found);
        }
        // The agent overwrites another value only when no other host can be holding it.
        if found.lease != 0 && self.has_own_sibling(key, steps) {
            let neighbours = self.neighbours(key)?;
            if !neighbours.others {
                return Ok(put(vec![unchanged, Guard::QuietDirectory(neighbours.revision)]));
            }
        }
        let other = String::from_utf8_lossy(&found.value).into_owned();
        Ok((Change::Wait { value: value.clone(), other }, Vec::new()))
    }

    /// Holds a shared entry that is there with the wanted value.
    fn join(&self, key: &str, value: &Arc<str>, found: &Found) -> Decision {
        let (value, lease) = (value.clone(), found.lease);
        if lease == 0 {
            return Ok((Change::Accept { value }, Vec::new()));
        }
        let is_known = self.session.shared_lease(key) == Some(lease);
        // The holders of a lease that is new to this agent may be gone, and the lease about to end.
        if !is_known && !*self.facts.leases.get(&lease).ok_or(Missing::Lease(lease))? {
            return Err(Missing::NewFacts);
        }
        Ok((Change::Join { value, lease }, vec![Guard::Unchanged(found.revision)]))
    }

    /// Whether this agent has, had or is about to have an entry of its own beside the shared one.
    fn has_own_sibling(&self, key: &str, steps: &[Step]) -> bool {
        let path = directory(key);
        let is_put_there = |step: &Step| matches!(step, Step::Put { key, .. } if directory(key) == path);
        self.session.shared.get(key).is_some_and(|shared| shared.has_own_sibling)
            || self.session.holds_in(path)
            || steps.iter().any(is_put_there)
    }

    fn release(&self, key: &str) -> Decision {
        let shared = self.session.shared.get(key);
        if shared.is_some_and(|shared| shared.lease().is_some() && shared.has_own_sibling) {
            let neighbours = self.neighbours(key)?;
            if let (Some(revision), false) = (neighbours.key, neighbours.others) {
                let guards = vec![Guard::Unchanged(revision), Guard::QuietDirectory(neighbours.revision)];
                return Ok((Change::DeleteShared, guards));
            }
        }
        Ok((Change::Release, Vec::new()))
    }

    fn found(&self, key: &str) -> Result<Option<&Found>, Missing> {
        self.facts.keys.get(key).map(Option::as_ref).ok_or_else(|| Missing::Key(key.to_owned()))
    }

    /// The agent that holds a lease.
    fn holder(&self, lease: i64) -> Result<Option<&(String, Presence)>, Missing> {
        Ok(self.facts.agents.as_ref().ok_or(Missing::Agents)?.get(&lease))
    }

    fn neighbours(&self, key: &str) -> Result<Neighbours, Missing> {
        let path = directory(key);
        let listing = self.facts.directories.get(path).ok_or_else(|| Missing::Directory(path.to_owned()))?;
        let is_other = |(name, (lease, _)): (&String, &(i64, i64))| {
            name != key
                && directory(name) == path
                && *lease != self.session.lease
                && !self.session.shared.contains_key(name)
        };
        Ok(Neighbours {
            revision: listing.revision,
            key: listing.keys.get(key).map(|(_, revision)| *revision),
            others: listing.keys.iter().any(is_other),
        })
    }
}

/// What a directory holds besides a shared key.
struct Neighbours {
    /// The revision of the listing.
    revision: i64,
    /// The revision of the shared key, when it is there.
    key: Option<i64>,
    /// Whether another host has an entry there.
    others: bool,
}

/// The steps for shared entries that are not as this agent left them.
pub(super) fn restore_shared(session: &Session, found: &BTreeMap<String, Option<Found>>) -> Vec<Step> {
    let is_intact = |key: &str, value: &str, hold: &Hold| {
        let Some(found) = found.get(key).and_then(Option::as_ref) else { return false };
        let is_same = found.value == value.as_bytes();
        match hold {
            Hold::Lease(lease) => is_same && found.lease == *lease,
            Hold::Permanent => is_same && found.lease == 0,
            // The other host may be gone.
            Hold::Contested(_) => false,
        }
    };
    let shared = session.shared.iter().filter(|(key, shared)| !is_intact(key, &shared.value, &shared.hold));
    shared.map(|(key, shared)| Step::Share { key: key.clone(), value: shared.value.clone() }).collect()
}

/// The steps that take over contested entries that their holder has left.
pub(super) fn take_over(session: &Session, found: &BTreeMap<String, Option<Found>>) -> Vec<Step> {
    let is_left = |key: &str, contested: &Contested| {
        let lease = found.get(key).and_then(Option::as_ref).map(|found| found.lease);
        lease != Some(contested.lease)
    };
    let left = session.contested.iter().filter(|(key, contested)| is_left(key, contested));
    left.map(|(key, contested)| Step::Put { key: key.clone(), value: contested.value.clone() }).collect()
}
