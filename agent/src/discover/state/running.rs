//! What a proxy that takes live updates runs: every service known, or to be asked about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::model::Change;
use crate::output::{Accepted, Served};
use crate::simulated::{Fault, has};

mod ended;
mod next;

/// How long a process that was replaced may go on answering.
const OLD_LIMIT: Duration = Duration::from_secs(5);

/// How a conversation about a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The proxy has it as it is accepted.
    Settled {
        /// A reload should follow soon: only a reload can remove what is left over.
        reload_soon: bool,
    },
    /// Only a reload can apply it.
    Reload,
    /// It is not known what the proxy has.
    Unknown,
}

/// How a conversation ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// For each service.
    pub services: BTreeMap<Arc<str>, End>,
    /// The processes that answered, as far as they say.
    pub processes: BTreeSet<String>,
}

/// What a conversation is about.
#[derive(Clone, Debug)]
pub struct Talk {
    /// Services as they were last, and as they are accepted.
    pub changes: Vec<(Arc<str>, Change)>,
    /// What is accepted of them.
    after: Vec<Option<Arc<Served>>>,
    kind: Kind,
    /// Reloads begun and ended before it.
    epoch: u64,
    /// A process that was replaced: it may still answer, and is told nothing.
    pub old: Option<String>,
}

impl Talk {
    /// Whether it is only to learn which process answers.
    pub fn is_probe(&self) -> bool {
        self.kind == Kind::Probe
    }
}

/// What a conversation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Something changed.
    Changes,
    /// Nothing changed; it verifies what the proxy has.
    Verify,
    /// Which process answers.
    Probe,
}

/// A service that is to be asked about.
#[derive(Clone, Debug, Default)]
struct Unsure {
    /// Forms that the process may have beside what is accepted.
    forms: Vec<Arc<Served>>,
    /// How often it was asked about in vain.
    attempts: u8,
}

/// What a proxy runs.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all of them go together")]
pub(super) struct Running {
    resync: Duration,
    /// Services as last sent to the proxy, or as it loaded them.
    told: Accepted,
    unsure: BTreeMap<Arc<str>, Unsure>,
    /// Services that only a reload can apply, as they are accepted.
    stuck: BTreeMap<Arc<str>, Option<Arc<Served>>>,
    /// Services that the proxy runs otherwise than its files say, and that live updates cannot correct.
    odd: BTreeSet<Arc<str>>,
    /// A reload soon would be good.
    soon: bool,
    /// What was said lately, or since a reload began.
    recent: VecDeque<(Instant, Arc<str>, Arc<Served>)>,
    is_reloading: bool,
    epoch: u64,
    /// The process that answers.
    process: Option<String>,
    /// A probe must identify the process: at the start, before the first reload, and after every set of files.
    is_to_probe: bool,
    /// No answer since the last reload has identified the process.
    is_process_unidentified: bool,
    /// The one that answered when a reload began, or until another one answered without a reload.
    before: Option<String>,
    /// The one that was replaced, and until when it may go on answering.
    old: Option<(String, Instant)>,
    /// Another process answered, and no reload explains it.
    was_replaced: bool,
    /// The last reload was reported as successful, but the old process still answers.
    is_lost: bool,
    is_talking: bool,
    /// It may be spoken to although it is not known what it loaded.
    is_open: bool,
    /// Times in a row that nobody answered.
    unanswered: u32,
    away: Backoff,
    talk_at: Instant,
    verify_at: Instant,
    /// When it is asked about everything next.
    all_at: Instant,
    /// Pauses between corrective reloads, so that one in vain is not followed by many.
    repair_backoff: Backoff,
    next_repair_at: Instant,
}

impl Running {
    pub(super) fn new(resync: Duration) -> Self {
        let now = Instant::now();
        Running {
            resync,
            told: Accepted::new(),
            unsure: BTreeMap::new(),
            stuck: BTreeMap::new(),
            odd: BTreeSet::new(),
            soon: false,
            recent: VecDeque::new(),
            is_reloading: false,
            epoch: 0,
            process: None,
            is_to_probe: true,
            is_process_unidentified: true,
            before: None,
            old: None,
            was_replaced: false,
            is_lost: false,
            is_talking: false,
            is_open: false,
            unanswered: 0,
            away: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            talk_at: now,
            verify_at: now + resync,
            all_at: now + resync,
            repair_backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(10)),
            next_repair_at: now,
        }
    }

    /// Whether live updates reach nobody.
    pub(super) fn is_away(&self) -> bool {
        self.unanswered > 1
    }

    pub(super) fn soon(&self) -> bool {
        self.soon
    }

    /// Services that only a reload can apply, as they are accepted.
    pub(super) fn stuck(&self) -> &BTreeMap<Arc<str>, Option<Arc<Served>>> {
        &self.stuck
    }

    /// Whether the last reload was reported as successful, but the old process still answers.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether only another reload puts right what the proxy has.
    fn is_wrong(&self) -> bool {
        self.is_lost || !self.odd.is_empty()
    }

    /// Whether a reload is to put right what the proxy has, now.
    pub(super) fn is_repair_due(&self, now: Instant) -> bool {
        self.is_wrong() && self.next_repair_at <= now
    }

    /// When the next corrective reload is allowed.
    pub(super) fn next_repair_at(&self, now: Instant) -> Option<Instant> {
        (self.is_wrong() && self.next_repair_at > now).then_some(self.next_repair_at)
    }

    /// How many services the proxy is still to be told or asked about.
    pub(super) fn open_queries(&self, accepted: &Accepted) -> usize {
        let changes = if self.told.ptr_eq(accepted) { 0 } else { self.told.diff(accepted).count() };
        changes + self.unsure.len()
    }

    /// What was accepted changed: what only a reload would have brought is tried again.
    pub(super) fn forget_outdated(&mut self, before: &Accepted, accepted: &Accepted) {
        // The proxy may have the previously accepted form of a service that it is to be asked about.
        for change in before.diff(accepted) {
            if let DiffItem::Update { old: (name, form), .. } | DiffItem::Remove(name, form) = change
                && let Some(unsure) = self.unsure.get_mut(name)
                && !unsure.forms.contains(form)
            {
                unsure.forms.push(Arc::clone(form));
            }
        }
        self.stuck.retain(|name, version| accepted.get(name) == version.as_ref());
        let stuck = &self.stuck;
        self.odd.retain(|name| stuck.contains_key(name));
    }

    pub(super) fn reload_requested(&mut self, now: Instant) {
        self.soon = false;
        if self.is_wrong() {
            self.next_repair_at = now + self.repair_backoff.next_delay();
        }
    }

    pub(super) fn reload_began(&mut self) {
        self.is_reloading = true;
        self.before = self.process.clone();
        self.epoch += 1;
    }

    /// It may be spoken to, and has what an earlier agent told it.
    pub(super) fn open(&mut self, accepted: &Accepted, now: Instant) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.told = accepted.clone();
            self.mark_all_unsure(accepted, now);
        }
    }

    /// A reload ended: a new process answers now or will shortly.
    pub(super) fn reload_ended(&mut self, now: Instant) {
        (self.is_reloading, self.is_process_unidentified, self.is_to_probe) = (false, true, true);
        self.epoch += 1;
        // It may have answered already, before the end of the reload was known.
        let before = self.before.take().or_else(|| self.process.clone());
        self.process.take_if(|process| before.as_ref() == Some(process));
        self.old = before.map(|process| (process, now + OLD_LIMIT));
        (self.is_lost, self.unanswered, self.talk_at) = (false, 0, now);
    }

    /// The proxy took up files with these services: both directions are to be asked about, what should be there and what
    /// was removed or changed since.
    pub(super) fn reloaded(&mut self, loaded: &Accepted, accepted: &Accepted, now: Instant) {
        let told = std::mem::replace(&mut self.told, loaded.clone());
        let mut forms: Vec<(Arc<str>, Arc<Served>)> =
            self.recent.drain(..).map(|(_, name, form)| (name, form)).collect();
        for change in told.diff(loaded) {
            match change {
                DiffItem::Update { old: (name, form), .. } | DiffItem::Remove(name, form) => {
                    forms.push((Arc::clone(name), Arc::clone(form)));
                }
                DiffItem::Add(..) => {}
            }
        }
        self.reload_ended(now);
        if !has(Fault::StuckForEver) {
            self.stuck.clear();
        }
        self.odd.clear();
        // Whatever the new process has otherwise is asked about, and then it is known whether another one is due.
        self.soon = false;
        self.mark_all_unsure(accepted, now);
        if has(Fault::RemovedIsForgotten) {
            self.told = accepted.clone();
            forms.clear();
        }
        forms.into_iter().for_each(|(name, form)| self.mark_unsure(name, form, accepted));
    }

    fn mark_all_unsure(&mut self, accepted: &Accepted, now: Instant) {
        let free = accepted.keys().filter(|name| !self.stuck.contains_key(*name));
        self.unsure = free.map(|name| (Arc::clone(name), Unsure::default())).collect();
        self.all_at = now + self.resync;
        self.verify_at = now;
    }

    /// The process may have loaded these services instead of those in `told`.
    pub(super) fn mark_what_left_unsure(&mut self, earlier: &Accepted, accepted: &Accepted) {
        for change in earlier.diff(&self.told.clone()) {
            if let DiffItem::Update { old: (name, form), .. } | DiffItem::Remove(name, form) = change {
                self.mark_unsure(Arc::clone(name), Arc::clone(form), accepted);
            }
        }
    }

    /// Requests a probe of which process answers.
    pub(super) fn probe(&mut self) {
        self.is_to_probe = true;
    }

    /// The process may have this form of a service.
    fn mark_unsure(&mut self, name: Arc<str>, form: Arc<Served>, accepted: &Accepted) {
        let is_known = accepted.get(&name) == Some(&form) || self.told.get(&name) == Some(&form);
        let unsure = self.unsure.entry(name).or_default();
        if !is_known && !unsure.forms.contains(&form) {
            unsure.forms.push(form);
        }
    }
}
