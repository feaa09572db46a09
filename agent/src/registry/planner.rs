//! Decides how to carry steps out in etcd. Nothing in here talks to etcd: [`Facts`] say what etcd has, and the planner
//! returns [`Action`]s, or the [`Question`]s that come first.
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
use super::session::{Contested, Hold, Session, Shared, holds_in};
use crate::model::{Node, Presence, PresenceState, directory};

#[cfg(test)]
mod tests;

/// Tries after the first one, when other hosts change the same keys meanwhile.
pub(super) const ATTEMPTS: usize = 4;

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

/// A fact that the planner needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// What the key is.
    Key(String),
    /// What is in the directory.
    Directory(String),
    /// Whether the lease is still there for a keep-alive.
    Lease(i64),
    /// Which agents there are.
    Agents,
}

/// What happens to a key, and what must hold for that.
type Decision = Result<(Change, Vec<Guard>), Question>;

/// Decides by what the session believes and what is known of etcd.
pub(super) struct Planner<'a> {
    pub(super) session: &'a Session,
    /// This host.
    pub(super) node: Option<&'a Node>,
    pub(super) facts: &'a Facts,
    /// How often a transaction for the same steps took no effect.
    pub(super) failures: usize,
}

impl Planner<'_> {
    /// What to do in one transaction so that all `steps` are carried out, or what the planner has to know first.
    pub(super) fn plan(&self, steps: &[Step]) -> Result<Vec<Action>, BTreeSet<Question>> {
        let (mut actions, mut questions) = (Vec::with_capacity(steps.len()), BTreeSet::new());
        for step in steps {
            match self.decide(step, steps) {
                Ok((change, guards)) => actions.push(Action { key: step.key().to_owned(), change, guards }),
                Err(question) => drop(questions.insert(question)),
            }
        }
        if questions.is_empty() { Ok(actions) } else { Err(questions) }
    }

    fn decide(&self, step: &Step, steps: &[Step]) -> Decision {
        match step {
            Step::Put { key, value } => self.put(key, value),
            Step::Share { key, value } => self.share(key, value, steps),
            Step::PutDetached { value, .. } => Ok((Change::Detach { value: value.clone(), lease: None }, Vec::new())),
            Step::Delete { .. } => Ok((Change::Delete, Vec::new())),
            Step::Release { key } => self.release(key),
        }
    }

    fn put(&self, key: &str, value: &Arc<str>) -> Decision {
        let put = |guard| (Change::Put { value: value.clone() }, vec![guard]);
        let assumed = self.session.assumed_lease(key);
        // At first the planner trusts the session, which saves a read: the guard fails where the session is wrong.
        if self.failures == 0 {
            return Ok(put(Guard::Lease(assumed)));
        }
        let Some(found) = self.found(key)? else { return Ok(put(Guard::Absent)) };
        let is_foreign = ![0, self.session.lease, assumed].contains(&found.lease);
        if !is_foreign || self.is_earlier_life(found, value)? {
            return Ok(put(Guard::Unchanged(found.revision)));
        }
        let by = self.holder(found.lease)?.map(|(node, presence)| (node.clone(), presence.address.clone()));
        Ok((Change::LeaveTo(Contested { value: value.clone(), lease: found.lease, by }), Vec::new()))
    }

    /// Whether an earlier life of this agent has written the key.
    fn is_earlier_life(&self, found: &Found, value: &str) -> Result<bool, Question> {
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
        if found.value == value.as_bytes() && found.lease == 0 {
            return Ok((Change::HoldShared { value: value.clone(), hold: Hold::Permanent }, Vec::new()));
        }
        if found.value == value.as_bytes() {
            // The holders of a lease that is new to this agent may be gone, and the lease with them.
            let is_there = self.session.shared_lease(key) == Some(found.lease) || self.is_alive(found.lease)?;
            let join = (Change::HoldShared { value: value.clone(), hold: Hold::Lease(found.lease) }, vec![unchanged]);
            return Ok(if is_there { join } else { put(vec![Guard::Absent]) });
        }
        // The agent overwrites another value only when no other host can be holding it.
        if found.lease != 0
            && self.has_own_sibling(key, steps)
            && let Some(listing) = self.directory_without_others(key)?
        {
            return Ok(put(vec![unchanged, Guard::QuietDirectory(listing.revision)]));
        }
        let hold = Hold::Contested(String::from_utf8_lossy(&found.value).into_owned());
        Ok((Change::HoldShared { value: value.clone(), hold }, Vec::new()))
    }

    /// Whether this agent has, had or is about to have an entry of its own beside the shared one.
    fn has_own_sibling(&self, key: &str, steps: &[Step]) -> bool {
        let path = directory(key);
        let is_put_there = |step: &Step| matches!(step, Step::Put { key, .. } if directory(key) == path);
        self.session.shared.get(key).is_some_and(|shared| shared.has_own_sibling)
            || holds_in(&self.session.own, path)
            || steps.iter().any(is_put_there)
    }

    fn release(&self, key: &str) -> Decision {
        // At last the planner leaves an entry to its lease, because others keep changing the directory.
        let shared = self.session.shared.get(key);
        if self.failures < ATTEMPTS
            && shared.is_some_and(|shared| shared.lease().is_some() && shared.has_own_sibling)
            && let Some(listing) = self.directory_without_others(key)?
            && let Some((_, revision)) = listing.keys.get(key)
        {
            let guards = vec![Guard::Unchanged(*revision), Guard::QuietDirectory(listing.revision)];
            return Ok((Change::DeleteShared, guards));
        }
        Ok((Change::Release, Vec::new()))
    }

    fn found(&self, key: &str) -> Result<Option<&Found>, Question> {
        self.facts.keys.get(key).map(Option::as_ref).ok_or_else(|| Question::Key(key.to_owned()))
    }

    fn is_alive(&self, lease: i64) -> Result<bool, Question> {
        self.facts.leases.get(&lease).copied().ok_or(Question::Lease(lease))
    }

    /// The agent that holds a lease.
    fn holder(&self, lease: i64) -> Result<Option<&(String, Presence)>, Question> {
        Ok(self.facts.agents.as_ref().ok_or(Question::Agents)?.get(&lease))
    }

    /// The directory of a shared key, unless another host has an entry there.
    fn directory_without_others(&self, key: &str) -> Result<Option<&Listing>, Question> {
        let path = directory(key);
        let listing = self.facts.directories.get(path).ok_or_else(|| Question::Directory(path.to_owned()))?;
        let is_other = |(name, (lease, _)): (&String, &(i64, i64))| {
            name != key
                && directory(name) == path
                && *lease != self.session.lease
                && !self.session.shared.contains_key(name)
        };
        Ok((!listing.keys.iter().any(is_other)).then_some(listing))
    }
}

/// The steps for shared entries that are not as the agent left them, and for contested entries that their holder has
/// left.
pub(super) fn restore(session: &Session, found: &BTreeMap<String, Option<Found>>) -> Vec<Step> {
    let found = |key: &String| found.get(key).and_then(Option::as_ref);
    let is_intact = |(key, shared): &(&String, &Shared)| {
        found(key).is_some_and(|found| match shared.hold {
            Hold::Lease(lease) => found.lease == lease && found.value == shared.value.as_bytes(),
            Hold::Permanent => found.lease == 0 && found.value == shared.value.as_bytes(),
            // The other host may be gone.
            Hold::Contested(_) => false,
        })
    };
    let astray = session.shared.iter().filter(|entry| !is_intact(entry));
    let shares = astray.map(|(key, shared)| Step::Share { key: key.clone(), value: shared.value.clone() });
    let is_left =
        |(key, contested): &(&String, &Contested)| found(key).map(|found| found.lease) != Some(contested.lease);
    let left = session.contested.iter().filter(is_left);
    let puts = left.map(|(key, contested)| Step::Put { key: key.clone(), value: contested.value.clone() });
    shares.chain(puts).collect()
}
