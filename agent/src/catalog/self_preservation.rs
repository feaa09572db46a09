//! Instances that vanish at once, and that nobody withdrew, are kept for a while.
//!
//! An instance whose agent is there, or says that it leaves, was taken away and goes at once. One whose agent vanished
//! without a word is retained for a short time, in which others may follow: leases of hosts that were lost together end
//! seconds apart. When more than a share of all instances is retained then, self-preservation begins, and they stay
//! for a grace time. They return as if nothing had happened, and leave as soon as their agent is back without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Directories;
use super::agents::{Agent, Agents};
use crate::model::{Entries, Instance, Readiness};

mod retained;
#[cfg(test)]
mod tests;

use retained::{Key, Reason, RetainedInstances, node};

/// Keys of agents and of instances that vanished in one revision arrive in two messages; the second is at most this late.
const MOMENT: Duration = Duration::from_millis(50);
/// Most hosts that are named.
const NAMED: usize = 5;

/// When a loss is preserved, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfPreservationSettings {
    /// Share of the instances above which their loss is preserved.
    pub share: f64,
    /// Fewer instances than this are never preserved.
    pub least: usize,
    /// How long preserved instances are kept.
    pub time: Duration,
    /// How long losses count as one: leases of hosts that were lost together end up to a third of their time apart.
    pub gather: Duration,
}

impl SelfPreservationSettings {
    /// Settings for leases that live for `ttl`.
    pub fn new(share: f64, least: usize, time: Duration, ttl: Duration) -> Self {
        // etcd looks for expired leases every half second.
        SelfPreservationSettings { share, least, time, gather: (ttl / 3 + Duration::from_secs(1)).min(time) }
    }
}

/// What is preserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preserved {
    /// Instances that are kept.
    pub instances: usize,
    /// All instances, with these.
    pub of: usize,
    /// Some of their hosts.
    pub hosts: Vec<String>,
    /// When the last of them leaves unless it returns.
    pub until: Instant,
}

/// The instances of one layout, with those that are retained though their entries are gone.
pub struct SelfPreservation {
    settings: SelfPreservationSettings,
    agents: Agents,
    seen: Directories,
    shown: Directories,
    /// Instances whose entries are there, in all and by node.
    live: usize,
    live_of: BTreeMap<Arc<str>, usize>,
    retained: RetainedInstances,
}

impl SelfPreservation {
    /// Keeps nothing yet.
    pub fn new(settings: SelfPreservationSettings) -> Self {
        let (seen, shown, retained) = (Directories::new(), Directories::new(), RetainedInstances::default());
        SelfPreservation {
            settings,
            agents: Agents::default(),
            seen,
            shown,
            live: 0,
            live_of: BTreeMap::new(),
            retained,
        }
    }

    /// Takes over what the registry says: what agents say of themselves, and the instances of the layout.
    pub fn update(&mut self, entries: &Entries, directories: &Directories, now: Instant) {
        let changed = self.agents.update(entries, now);
        let mut touched = BTreeSet::new();
        let vanished = self.compare(directories, &mut touched);
        let known = self.live + self.retained.len() + vanished.len();
        if known >= self.settings.least {
            vanished.into_iter().for_each(|(key, instance)| self.retain(key, instance, now));
        }
        self.reclassify_nodes(&changed, now);
        self.expire(now, &mut touched);
        self.evaluate(now);
        self.show(directories, &touched);
    }

    /// What the registry says, and what is retained.
    pub fn directories(&self) -> &Directories {
        &self.shown
    }

    /// When something that is retained leaves.
    pub fn due(&self) -> Option<Instant> {
        self.retained.due()
    }

    /// What is preserved, if anything.
    pub fn preserved(&self) -> Option<Preserved> {
        let until = self.retained.last_due().filter(|_| self.retained.preserved() > 0)?;
        let hosts =
            self.retained.nodes().filter(|node| !node.is_empty()).take(NAMED).map(ToString::to_string).collect();
        Some(Preserved { instances: self.retained.preserved(), of: self.live + self.retained.len(), hosts, until })
    }

    /// Counts what is there, lets go of what came back, and returns what vanished.
    fn compare(&mut self, now: &Directories, touched: &mut BTreeSet<Arc<str>>) -> Vec<(Key, Arc<Instance>)> {
        let mut vanished = Vec::new();
        let before = std::mem::replace(&mut self.seen, now.clone());
        for change in before.diff(now) {
            let (directory, old, new): (_, &[_], &[_]) = match change {
                DiffItem::Add(directory, new) => (directory, &[], &new[..]),
                DiffItem::Update { old: (_, old), new: (directory, new) } => (directory, &old[..], &new[..]),
                DiffItem::Remove(directory, old) => (directory, &old[..], &[]),
            };
            touched.insert(Arc::clone(directory));
            let (old, new) = differing(old, new);
            old.iter().for_each(|instance| self.count(instance, false));
            new.iter().for_each(|instance| self.count(instance, true));
            let present: BTreeSet<_> = new.iter().map(|one| (one.service.as_str(), one.id.as_str())).collect();
            let key = |one: &Instance| (Arc::clone(directory), one.service.as_str().into(), one.id.as_str().into());
            if !self.retained.is_empty() {
                new.iter().for_each(|instance| _ = self.retained.release(&key(instance)));
            }
            let gone = old.iter().filter(|one| !present.contains(&(one.service.as_str(), one.id.as_str())));
            vanished.extend(gone.map(|instance| (key(instance), Arc::clone(instance))));
        }
        vanished
    }

    fn count(&mut self, instance: &Instance, here: bool) {
        self.live = if here { self.live + 1 } else { self.live.saturating_sub(1) };
        let node = node(instance);
        if let Some(count) = self.live_of.get_mut(node) {
            *count = if here { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.live_of.remove(node);
            }
        } else if here {
            self.live_of.insert(node.into(), 1);
        }
    }

    /// Holds an instance that vanished, unless it is plain that it was taken away.
    fn retain(&mut self, key: Key, instance: Arc<Instance>, now: Instant) {
        let (node, gather) = (node(&instance), self.settings.gather);
        let lost_lately = || self.agents.last_loss().is_some_and(|at| now.duration_since(at) <= gather);
        let reason = match self.agents.of(node) {
            Agent::Leaving => return,
            // Agents that know no such key, and writers that are no agents, say nothing: only what others say is known.
            Agent::Unknown if lost_lately() || self.agents.is_silent() => Reason::Lost,
            Agent::Lost => Reason::Lost,
            Agent::Here | Agent::Unknown if instance.readiness == Readiness::Draining => return,
            // A host that is lost takes all its instances along in one revision.
            Agent::Here if self.live_of.contains_key(node) => return,
            Agent::Here | Agent::Unknown => Reason::Withdrawn,
        };
        let due = now + if reason == Reason::Lost { gather } else { MOMENT };
        self.retained.insert(key, instance, reason, due);
    }

    /// Looks again at what is retained of agents that said something or were lost.
    fn reclassify_nodes(&mut self, changed: &[Arc<str>], now: Instant) {
        let mut any_lost = false;
        for node in changed {
            let reason = match self.agents.of(node) {
                // Its word that it is there comes last, so what it did not register until then is gone.
                Agent::Here | Agent::Leaving => Reason::Withdrawn,
                Agent::Lost => {
                    any_lost = true;
                    Reason::Lost
                }
                Agent::Unknown => continue,
            };
            self.reclassify(node, reason, now);
            self.forget(node);
        }
        if any_lost {
            let silent = self.retained.nodes().filter(|node| self.agents.of(node) == Agent::Unknown);
            let silent: Vec<_> = silent.cloned().collect();
            silent.iter().for_each(|node| self.reclassify(node, Reason::Lost, now));
        }
    }

    /// Gives what is retained of a node another reason: one that is in self-preservation stays so until it is known to be withdrawn.
    fn reclassify(&mut self, node: &str, reason: Reason, now: Instant) {
        let wait = if reason == Reason::Withdrawn { MOMENT } else { self.settings.gather };
        for key in self.retained.of(node) {
            if self.retained.reason(&key).is_some_and(|retained| retained.is_loss() != reason.is_loss()) {
                self.retained.set(&key, reason, now + wait);
            }
        }
    }

    /// Lets go of what was retained long enough.
    fn expire(&mut self, now: Instant, touched: &mut BTreeSet<Arc<str>>) {
        let (mut preserved, mut lost) = (0, BTreeMap::new());
        while let Some(key) = self.retained.overdue(now) {
            touched.insert(Arc::clone(&key.0));
            let Some((instance, reason)) = self.retained.release(&key) else { continue };
            preserved += usize::from(reason == Reason::Preserved);
            if reason.is_loss() {
                *lost.entry(node(&instance).to_owned()).or_insert(0_usize) += 1;
            }
            self.forget(node(&instance));
        }
        for (host, instances) in lost {
            warn!(host, instances, "the lease of a host expired; its instances are removed");
        }
        if preserved > 0 {
            info!(instances = preserved, "preserved instances did not come back and are removed");
        }
    }

    /// Forgets that an agent is lost once nothing of it is left.
    fn forget(&mut self, node: &str) {
        if !self.live_of.contains_key(node) && !self.retained.has(node) {
            self.agents.forget(node);
        }
    }

    /// Starts self-preservation when too much was lost.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 instances")]
    fn evaluate(&mut self, now: Instant) {
        let (known, lost) = (self.live + self.retained.len(), self.retained.lost());
        let is_news = lost > self.retained.preserved() && known >= self.settings.least;
        if is_news && lost as f64 > self.settings.share * known as f64 {
            let until = now + self.settings.time;
            self.retained.all_lost().iter().for_each(|key| self.retained.set(key, Reason::Preserved, until));
        }
    }

    /// Brings what is shown up to date where something changed.
    fn show(&mut self, directories: &Directories, touched: &BTreeSet<Arc<str>>) {
        if self.retained.is_empty() {
            self.shown = directories.clone();
            return;
        }
        for directory in touched {
            let mut retained = self.retained.within(directory);
            match (directories.get(directory), retained.is_empty()) {
                (None, true) => _ = self.shown.remove(directory),
                (Some(live), true) => _ = self.shown.insert(Arc::clone(directory), Arc::clone(live)),
                (live, false) => {
                    retained.extend(live.into_iter().flat_map(|live| live.iter()).cloned());
                    self.shown.insert(Arc::clone(directory), retained.into());
                }
            }
        }
    }
}

/// What differs between two lists of a directory, without what they begin and end with in common.
fn differing<'a>(old: &'a [Arc<Instance>], new: &'a [Arc<Instance>]) -> (&'a [Arc<Instance>], &'a [Arc<Instance>]) {
    let same = |(one, other): &(&Arc<Instance>, &Arc<Instance>)| Arc::ptr_eq(one, other);
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    (&old[..old.len() - tail], &new[..new.len() - tail])
}
