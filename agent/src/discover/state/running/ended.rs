//! What the end of a conversation tells of what a proxy runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::compare::same;
use super::{End, Ended, Kind, Running, Talk};
use crate::output::{Accepted, Served};
use crate::simulated::{Fault, has};

/// How often the proxy is asked about a service whose state it cannot explain before that costs a reload: an old
/// process may go on answering for a moment after a reload.
const ATTEMPTS: u8 = 3;
/// Time between two such queries.
const VERIFY_AGAIN: Duration = Duration::from_millis(500);
/// How long before the beginning of a reload is told something may have been said to the new process.
const RECENT: Duration = Duration::from_secs(2);
/// Time between two queries while a process that was replaced answers.
const OLD_AGAIN: Duration = Duration::from_millis(50);

impl Running {
    pub(in super::super) fn talked(
        &mut self,
        talk: &Talk,
        ended: Option<&Ended>,
        accepted: &Accepted,
        loaded: Option<&Accepted>,
        now: Instant,
    ) {
        (self.is_talking, self.is_process_unidentified) = (false, false);
        self.remember(talk, accepted, now);
        // What was said may have reached the process before a reload, the one after it, or both.
        if talk.epoch != self.epoch && !self.is_reloading {
            return;
        }
        let Some(ended) = ended else {
            self.unanswered += u32::from(!self.is_reloading);
            self.talk_at = now + self.away.next_delay();
            return;
        };
        if !self.is_right_process(&ended.processes, now) {
            // Without services nothing else would be asked.
            (self.talk_at, self.is_to_probe) = (now + OLD_AGAIN, true);
            return;
        }
        if self.is_away() {
            self.mark_all_unsure(accepted, now);
        }
        self.unanswered = 0;
        self.away.reset();
        self.talk_at = now;
        let mut again = false;
        for (name, after) in talk.changes.iter().map(|(name, _)| name).zip(&talk.after) {
            let end = ended.services.get(name).copied().unwrap_or(End::Unknown);
            again |= self.ended(name, after.as_ref(), end, talk.kind == Kind::Verify, loaded);
        }
        self.share(accepted);
        if talk.kind == Kind::Verify {
            self.verify_at = if again { now + VERIFY_AGAIN } else { now };
        } else if again {
            self.talk_at = now + VERIFY_AGAIN;
        }
        if talk.kind == Kind::Verify && self.unsure.is_empty() {
            self.verify_at = self.all_at;
            if !self.is_wrong() {
                self.repair_backoff.reset();
            }
        }
    }

    /// Makes what was told the same value as what is accepted once they are equal. Comparing values that share nothing
    /// costs all services; comparing these costs what changes next.
    fn share(&mut self, accepted: &Accepted) {
        if same(&self.told, accepted) {
            self.told = accepted.clone();
        }
    }

    /// Whether the process that is to be spoken to gave all answers.
    fn is_right_process(&mut self, answered: &BTreeSet<String>, now: Instant) -> bool {
        let outlived = self.old.take_if(|(_, until)| *until <= now);
        let Some(process) = answered.first() else { return true };
        self.is_lost |= outlived.is_some_and(|(old, _)| old == *process) && !has(Fault::LostIsBelieved);
        if answered.len() > 1 || self.old.as_ref().is_some_and(|(old, _)| old == process) {
            return false;
        }
        let before = self.process.replace(process.clone()).filter(|before| before != process);
        self.was_replaced = before.is_some() && !self.is_reloading;
        if self.was_replaced {
            self.before = before;
        }
        !self.was_replaced
    }

    /// Whether another process answers than before, without a reload; said once.
    pub(in super::super) fn was_replaced(&mut self) -> bool {
        std::mem::take(&mut self.was_replaced)
    }

    /// Notes what was said; while a reload is under way, or might be, nobody knows to which process.
    fn remember(&mut self, talk: &Talk, accepted: &Accepted, now: Instant) {
        while !self.is_reloading && self.recent.front().is_some_and(|(at, ..)| *at + RECENT < now) {
            self.recent.pop_front();
        }
        for ((name, _), after) in talk.changes.iter().zip(&talk.after).filter(|_| talk.kind != Kind::Verify) {
            let Some(form) = after else { continue };
            if talk.epoch == self.epoch || self.is_reloading {
                self.recent.push_back((now, Arc::clone(name), Arc::clone(form)));
            } else {
                self.mark_unsure(Arc::clone(name), Arc::clone(form), accepted);
                self.verify_at = now;
            }
        }
    }

    /// Takes in how one service ended; says whether it is to be asked about again in a moment.
    fn ended(
        &mut self,
        name: &Arc<str>,
        after: Option<&Arc<Served>>,
        end: End,
        is_verifying: bool,
        loaded: Option<&Accepted>,
    ) -> bool {
        if let End::Settled { reload_soon } = end {
            self.soon |= reload_soon;
            match after {
                Some(served) if self.told.get(name) == Some(served) => {}
                Some(served) => _ = self.told.insert(Arc::clone(name), Arc::clone(served)),
                None => _ = self.told.remove(name),
            }
            if let Some(unsure) = self.unsure.get_mut(name) {
                unsure.attempts = 0;
                if is_verifying {
                    unsure.forms.pop();
                }
                if unsure.forms.is_empty() {
                    self.unsure.remove(name);
                }
            }
            return false;
        }
        // The files brought exactly this: an old process may still be answering, or a hand was on the socket.
        let is_odd = loaded.is_some_and(|loaded| loaded.get(name) == after);
        let is_about_form = is_verifying && self.unsure.get(name).is_some_and(|unsure| !unsure.forms.is_empty());
        if end == End::Reload && !is_odd && !is_about_form {
            self.stuck.insert(Arc::clone(name), after.cloned());
            self.unsure.remove(name);
            return false;
        }
        let unsure = self.unsure.entry(Arc::clone(name)).or_default();
        unsure.attempts += 1;
        if unsure.attempts < ATTEMPTS {
            return true;
        }
        // What cannot be changed live may be a form that it only might have had: what it has then tells without it.
        if is_verifying && unsure.forms.pop().is_some() {
            unsure.attempts = 0;
            return false;
        }
        self.unsure.remove(name);
        self.stuck.insert(Arc::clone(name), after.cloned());
        if is_odd {
            self.odd.insert(Arc::clone(name));
        }
        false
    }
}
