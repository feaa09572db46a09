//! Which conversation with the proxy is due.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use super::super::compare::change;
use super::{Kind, Running, Talk};
use crate::model::Change;
use crate::output::Accepted;

/// Most services, and most of their instances, of one conversation.
const BATCH: (usize, usize) = (32, 4_000);
/// Most services of a conversation that only makes sure: a change that comes meanwhile waits for its end.
const VERIFY_BATCH: usize = 8;

impl Running {
    /// Whether the conversation that is under way or due tells which process answers. A reload waits for it, since nobody
    /// could tell the old process from the new one after it.
    pub(in super::super) fn is_learning(&self, due: bool) -> bool {
        self.is_process_unidentified && (self.is_talking || due)
    }

    /// The next conversation, when one is due and none is under way, and else when one is.
    pub(in super::super) fn next(
        &self,
        accepted: &Accepted,
        is_loaded: bool,
        is_on_trial: &dyn Fn(&str) -> bool,
        now: Instant,
    ) -> (Option<Talk>, Option<Instant>) {
        if self.is_talking {
            return (None, None);
        }
        let is_open = is_loaded || self.is_open;
        let changes = if is_open { self.changes(accepted, is_on_trial) } else { Vec::new() };
        if self.is_to_probe && changes.is_empty() && self.talk_at <= now {
            return (Some(Talk { changes, after: Vec::new(), kind: Kind::Probe, epoch: self.epoch, old: None }), None);
        }
        if !is_open {
            return (None, None);
        }
        let due = if changes.is_empty() { self.verify_at.max(self.talk_at) } else { self.talk_at };
        if due > now {
            return (None, Some(due));
        }
        let kind = if changes.is_empty() { Kind::Verify } else { Kind::Changes };
        let chosen = if kind == Kind::Verify { self.to_verify(accepted, is_on_trial) } else { changes };
        if chosen.is_empty() {
            return (None, None);
        }
        let after = chosen.iter().map(|(name, _)| accepted.get(name).cloned()).collect();
        (Some(Talk { changes: chosen, after, kind, epoch: self.epoch, old: self.old(now) }), None)
    }

    /// The process that was replaced, as long as it may go on answering.
    fn old(&self, now: Instant) -> Option<String> {
        self.old.as_ref().filter(|(_, until)| *until > now).map(|(process, _)| process.clone())
    }

    /// A conversation begins.
    pub(in super::super) fn began(&mut self, talk: &Talk, accepted: &Accepted, now: Instant) {
        self.is_talking = true;
        self.is_to_probe &= talk.kind != Kind::Probe;
        if talk.kind == Kind::Verify && self.unsure.is_empty() {
            self.mark_all_unsure(accepted, now);
        }
    }

    /// Services that the proxy was told otherwise, but for those that only a reload brings.
    fn changes(&self, accepted: &Accepted, is_on_trial: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, Change)> {
        if self.told.ptr_eq(accepted) {
            return Vec::new();
        }
        let mut instances = 0;
        let differences = self.told.diff(accepted).map(|difference| match difference {
            DiffItem::Add(name, new) => (name, None, Some(new)),
            DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
            DiffItem::Remove(name, old) => (name, Some(old), None),
        });
        differences
            .filter(|(name, ..)| !is_on_trial(name))
            .filter(|(name, _, after)| self.stuck.get(*name).is_none_or(|version| version.as_ref() != *after))
            .map(|(name, before, after)| (Arc::clone(name), change(before, after)))
            .take(BATCH.0)
            .take_while(|(_, change)| fits(&mut instances, change))
            .collect()
    }

    /// Services to make sure of; all when there is none in particular.
    fn to_verify(&self, accepted: &Accepted, is_on_trial: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, Change)> {
        let mut instances = 0;
        let all: &mut dyn Iterator<Item = &Arc<str>> =
            if self.unsure.is_empty() { &mut accepted.keys() } else { &mut self.unsure.keys() };
        let change = |name: &Arc<str>| {
            let after = accepted.get(name);
            let form = self.unsure.get(name).and_then(|unsure| unsure.forms.last());
            (Arc::clone(name), change(form.or(after), after))
        };
        let free = all.filter(|name| !self.stuck.contains_key(*name) && !is_on_trial(name));
        free.map(change).take(VERIFY_BATCH).take_while(|(_, change)| fits(&mut instances, change)).collect()
    }
}

/// Whether one more change is not too much for one call.
fn fits(instances: &mut usize, change: &Change) -> bool {
    let is_first = *instances == 0;
    let sides = [&change.before, &change.after].into_iter().flatten();
    *instances += sides.map(|service| service.instances.len()).sum::<usize>();
    is_first || *instances <= BATCH.1
}
