//! What the agent believes of one proxy, and what follows from it.
//!
//! Five states, each a value, and nothing else is believed:
//!
//! | state | what it is | who changes it |
//! |---|---|---|
//! | wanted | the services this output takes, and those that left it not long ago | the catalog |
//! | accepted | wanted without what must not be served, each service as it was last good or absent | rendering, claims, check |
//! | written | the files on disk, their base and the addresses they bind | the writer |
//! | loaded | what was written when the reload that succeeded began | the reload |
//! | running | loaded, and what was changed live since; every service known or to be asked about | live updates |
//!
//! Events are methods that change a state. [`State::next`] is pure and says what to do; tasks only carry it out. So it
//! holds: only what is accepted is said to the proxy; a reload is owed when written and loaded differ in something that
//! live updates cannot bring; the output is up to date when nothing is owed and the proxy runs what is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use crate::model::Services;
use crate::output::{Accepted, Base, Served};
use crate::proxy::{Bind, ReloadStatus};
use crate::simulated::{Fault, has};

mod agree;
mod compare;
mod due;
mod files;
mod running;
#[cfg(test)]
mod tests;

pub use compare::change;
use compare::same;
pub use files::Pace;
use files::Writing;
use running::Running;
pub use running::{End, Ended, Talk};

/// Sets of files that are remembered: a reload takes up the last or the one before, somebody else's restart of the proxy
/// is noticed with the next files.
const HISTORY: usize = 4;

/// Files as they are, or were, on disk.
#[derive(Debug)]
pub struct Written {
    /// Counts sets of files; 0 for what was there before the agent.
    pub number: u64,
    /// The services in them.
    pub services: Accepted,
    /// The fragments that are there whatever the services, all of them.
    pub base: Base,
    /// Keys of those that are left out because somebody else has an address of theirs.
    pub left_out: BTreeSet<String>,
    /// The addresses that they bind.
    pub binds: BTreeSet<Bind>,
}

impl Written {
    /// Whether a proxy that has one set of files has all of the other's that no service wrote.
    fn has_base_of(&self, other: &Written) -> bool {
        self.left_out == other.left_out && (Arc::ptr_eq(&self.base, &other.base) || self.base == other.base)
    }
}

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// Find out what may be served of what is wanted.
    Accept,
    /// Let in again what was refused and may pass.
    TryAgain,
    /// Bring the running proxy to these, or make sure of them.
    Talk(Talk),
    /// Check these services and write them down.
    Write(Job),
    /// Have the proxy take up the files.
    Reload,
}

/// A set of files to be written.
#[derive(Clone, Debug)]
pub struct Job {
    /// The services.
    pub services: Accepted,
    /// The fragments that are there whatever the services.
    pub base: Base,
    /// The services that are written now, as they were last good.
    pub good: Accepted,
    /// What was accepted first of services that are not written yet, where that changed.
    pub earlier: BTreeMap<Arc<str>, Arc<Served>>,
    /// Services that were refused before and are tried again.
    pub retried: BTreeSet<Arc<str>>,
    /// Addresses that the proxy listens on.
    pub binds: BTreeSet<Bind>,
}

/// The five states of one proxy, and what is under way.
#[derive(Debug)]
pub struct State {
    /// The services this output takes.
    pub wanted: Services,
    /// What may be served of them.
    pub accepted: Accepted,
    /// The files on disk; none before the first turn that wrote some.
    pub written: Option<Arc<Written>>,
    /// What the proxy took up; none while that is not known.
    pub loaded: Option<Arc<Written>>,
    /// What it runs; none where it takes no live updates.
    running: Option<Running>,
    /// Something is wanted that was not accepted or refused yet.
    is_new: bool,
    /// When to find out again what may be served.
    accept_at: Option<Instant>,
    base: Option<Base>,
    /// What was accepted first of services that are not written yet, where that changed.
    earlier: BTreeMap<Arc<str>, Arc<Served>>,
    /// Services that are not served as they are wanted.
    behind: BTreeSet<Arc<str>>,
    writing: Writing,
    /// Files by number: those that are loaded, and the last ones.
    history: BTreeMap<u64, Arc<Written>>,
    /// What the files have that were there before the agent: addresses, and services that were to stay as they were.
    found: (BTreeSet<Bind>, Accepted),
    /// How reloading stood last.
    reloads: ReloadStatus,
    /// The files that the last request for a reload was made for.
    requested: Option<u64>,
}

/// What to do now, and when to ask again if nothing happens.
pub type Next = (Vec<Action>, Option<Instant>);

impl State {
    /// Nothing is known; `resync` is how often a proxy that takes live updates is asked about everything, and `found`
    /// the addresses that the files have which are there, and the services that were to stay as they are in them.
    pub fn new(pace: Pace, resync: Option<Duration>, found: (BTreeSet<Bind>, Accepted)) -> Self {
        State {
            wanted: Services::new(),
            accepted: Accepted::new(),
            written: None,
            loaded: None,
            running: resync.map(Running::new),
            is_new: false,
            accept_at: None,
            base: None,
            earlier: BTreeMap::new(),
            behind: BTreeSet::new(),
            writing: Writing::new(pace),
            history: BTreeMap::new(),
            found,
            reloads: ReloadStatus::default(),
            requested: None,
        }
    }

    /// The catalog, or what containers of this host want, changed.
    pub fn want(&mut self, wanted: &Services) {
        self.is_new |= !self.is_known() || self.wanted.diff(wanted).next().is_some();
        self.wanted = wanted.clone();
    }

    /// Whether it was ever said what is wanted.
    fn is_known(&self) -> bool {
        self.base.is_some() || self.is_new
    }

    /// What may be served was found out, which services are not served as they are wanted, and which were refused in the
    /// form that they have now; `again_at` is when it may become something else by itself.
    pub fn accept(
        &mut self,
        accepted: &Accepted,
        base: Option<&Base>,
        [behind, on_trial]: [BTreeSet<Arc<str>>; 2],
        again_at: Option<Instant>,
        now: Instant,
    ) {
        self.is_new = false;
        self.writing.suspect(on_trial);
        self.accept_at = again_at;
        self.behind = behind;
        if !same(&self.accepted, accepted) || self.base.as_ref() != base {
            self.writing.changed(now);
        }
        for change in self.accepted.diff(accepted) {
            let DiffItem::Update { old: (name, form), .. } = change else { continue };
            if self.written.as_ref().is_none_or(|written| !written.services.contains_key(name)) {
                self.earlier.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(form));
            }
        }
        let before = std::mem::replace(&mut self.accepted, accepted.clone());
        self.base = base.cloned();
        if let Some(running) = &mut self.running {
            running.forget_outdated(&before, &self.accepted);
        }
    }

    /// A conversation about `talk` ended: how for each service, or nobody answered.
    pub fn talked(&mut self, talk: &Talk, ended: Option<&Ended>, now: Instant) {
        let (loaded, accepted) = (self.loaded.as_ref().map(|loaded| &loaded.services), &self.accepted);
        if let Some(running) = &mut self.running {
            running.talked(talk, ended, accepted, loaded, now);
            if let (true, Some(written)) = (running.was_replaced(), &self.written) {
                // Somebody else restarted it, and it has what is on disk, or was not long ago.
                running.reloaded(&written.services, &self.accepted, now);
                for earlier in self.history.values() {
                    running.mark_what_left_unsure(&earlier.services, &self.accepted);
                }
                self.loaded = Some(Arc::clone(written));
            }
        }
    }

    /// Files are in place, or why they are not; `again_at` is when to try again what was refused and may pass.
    pub fn wrote(&mut self, outcome: Result<Arc<Written>, String>, again_at: Option<Instant>, now: Instant) {
        self.writing.ended(outcome.as_ref().err().cloned(), again_at, now);
        let Ok(written) = outcome else {
            if let (None, Some(running)) = (&self.loaded, &mut self.running) {
                // A proxy of an earlier agent goes on with what that told it.
                running.open(&self.accepted, now);
            }
            return;
        };
        // A proxy that took up the files of this number took up these.
        let is_loaded = self.reloads.loaded == Some(written.number) || has(Fault::LoadedIsWritten);
        if is_loaded && self.loaded.is_none() {
            self.loaded = Some(Arc::clone(&written));
            if let Some(running) = &mut self.running {
                running.reloaded(&written.services, &self.accepted, now);
            }
        }
        self.history.insert(written.number, Arc::clone(&written));
        let loaded = self.loaded.as_ref().map(|loaded| loaded.number);
        if let (true, Some(first)) =
            (self.history.len() > HISTORY, self.history.keys().copied().find(|number| Some(*number) != loaded))
        {
            self.history.remove(&first);
        }
        self.earlier.retain(|name, _| !written.services.contains_key(name) && self.accepted.contains_key(name));
        self.written = Some(written);
        let is_owed = self.owed(now);
        if let Some(running) = self.running.as_mut().filter(|_| !is_owed) {
            running.probe();
        }
    }

    /// Something about reloading changed.
    pub fn reloading(&mut self, status: &ReloadStatus, now: Instant) {
        let before = std::mem::replace(&mut self.reloads, status.clone());
        if status.begun != before.begun
            && let Some(running) = &mut self.running
        {
            running.reload_began();
        }
        if status.last_error.is_some() && status.last_error != before.last_error {
            // An address may have been taken since it was looked at.
            self.writing.look_again();
        }
        if status.reloads == before.reloads {
            if status.last_error.is_some()
                && self.loaded.is_none()
                && let Some(running) = &mut self.running
            {
                // It goes on with what an earlier agent told it, and can be told more.
                running.open(&self.accepted, now);
            }
            return;
        }
        let Some(number) = status.loaded else { return };
        let Some(loaded) = self.history.get(&number).cloned() else {
            // What was on disk before this agent wrote anything.
            self.running.iter_mut().for_each(|running| running.reload_ended(now));
            return;
        };
        self.loaded = Some(loaded);
        if let Some(running) = &mut self.running {
            let loaded = self.loaded.as_ref().map(|loaded| loaded.services.clone()).unwrap_or_default();
            running.reloaded(&loaded, &self.accepted, now);
        }
    }

    /// What to do now, each as soon as [`State::begin`] was told.
    pub fn next(&self, now: Instant) -> Next {
        if self.is_new || self.accept_at.is_some_and(|at| at <= now) {
            return (vec![Action::Accept], None);
        }
        let (mut actions, mut is_learning) = (Vec::new(), false);
        let mut wake = vec![self.accept_at];
        if self.writing.again_at().is_some_and(|at| at <= now) {
            return (vec![Action::TryAgain], None);
        }
        if let Some(running) = &self.running {
            let (talk, due) =
                running.next(&self.accepted, self.loaded.is_some(), &|name| self.writing.is_on_trial(name), now);
            is_learning = running.is_learning(talk.is_some());
            actions.extend(talk.map(Action::Talk));
            wake.extend([due, running.next_repair_at(now)]);
        }
        wake.push(self.writing.again_at());
        if let (Some(base), Some(due)) = (&self.base, self.write_due(now)) {
            if due <= now {
                actions.push(Action::Write(self.job(Arc::clone(base))));
            } else {
                wake.push(Some(due));
            }
        }
        if self.owed(now) && !is_learning && !self.writing.is_under_way() && self.requests_reload() {
            actions.push(Action::Reload);
        }
        (actions, wake.into_iter().flatten().filter(|at| *at > now).min())
    }

    /// An action begins.
    pub fn begin(&mut self, action: &Action, now: Instant) {
        match (action, &mut self.running) {
            (Action::Accept, _) => (self.is_new, self.accept_at) = (false, None),
            (Action::TryAgain, _) => {
                self.writing.try_again();
                self.is_new = true;
            }
            (Action::Write(_), _) => self.writing.began(now),
            (Action::Talk(talk), running) => {
                running.iter_mut().for_each(|running| running.began(talk, &self.accepted, now));
            }
            (Action::Reload, running) => {
                self.requested = self.written.as_ref().map(|written| written.number);
                self.reloads.wanted += 1;
                running.iter_mut().for_each(|running| running.reload_requested(now));
            }
        }
    }

    fn job(&self, base: Base) -> Job {
        let mut binds = self.loaded.as_ref().map_or_else(|| self.found.0.clone(), |loaded| loaded.binds.clone());
        if self.reloads.is_down {
            binds.clear();
        } else if self.loaded.is_none() {
            binds.extend(self.written.iter().flat_map(|written| &written.binds).copied());
        }
        if has(Fault::OwnIsForeign) {
            binds.clear();
        }
        let retried = self.writing.retried();
        let good = self.written.as_ref().map_or(&self.found.1, |written| &written.services).clone();
        let earlier = self.earlier.clone();
        Job { services: self.accepted.clone(), base, good, earlier, retried, binds }
    }

    /// Whether nobody was asked yet for a reload with the files that are in place, or it was done.
    fn requests_reload(&self) -> bool {
        let number = self.written.as_ref().map(|written| written.number);
        self.requested != number || self.reloads.done == self.reloads.wanted
    }
}
