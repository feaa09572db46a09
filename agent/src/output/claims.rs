//! Who has what only one service can have: a domain with its path, a port, the name of a section.
//!
//! **Who has a claim keeps it** as long as it asks for it and the agent knows. Rollouts, other instances and restarts change
//! nothing: `served-OUTPUT.redb` in the state directory says who had what. Others who ask for it wait. When the last
//! instance has left, the claim stays while the output keeps what leads to the service: then it goes to whoever asks for it
//! anew, and only when that time is over to those who waited.
//!
//! **A claim that nobody has goes to the oldest service, then to the first by name.** So decides an agent that starts with
//! nothing: on a new host, or after its state directory was lost. A service is as old as the oldest entry it is read from,
//! by the revision at which etcd created that key. Writing over an entry, or registering it again under another lease, makes it
//! no younger. So all agents that read the same layouts from the same etcd, and know nothing else, decide alike, whenever and
//! wherever they start. Services whose age is not known, as those that have left, come last.
//!
//! **A rollout keeps the age while the oldest entry stays.** That is an instance's, or the one that all hosts of a service
//! share, such as the `port` of the layout `backends`, which stays while one of them is there. When the oldest entry goes the
//! service is as old as the next one, and one whose entries were all replaced is new. Entries whose lease ended, and all of
//! an etcd that lost its data, are replaced too. Agents that start afresh after that may decide otherwise than those that
//! were there.
//!
//! **What the operator sees** then: on every host the service that goes without is a problem in log and `waypost catalog`,
//! which names the claim, who has it, and since when. Where two hosts name different holders, their agents disagree.
//!
//! **What to do:** let one service ask for it, whoever has it now; that settles it on all hosts at once. Where both have to
//! ask, stop the agent that decided otherwise, give it the `served-OUTPUT.redb` of one that was there, and start it; do the
//! same before the first start on a new host. To let age decide anew, stop the agent, delete the file, and start it: it then
//! also forgets services that have left, and what stays as it was because its new form is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Ages, Claim};
use crate::simulated::{Fault, has};

#[cfg(test)]
mod tests;

/// Who has a claim, since when, and who would have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The service that has it.
    pub holder: Arc<str>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Services that ask for it too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub waiting: BTreeSet<Arc<str>>,
}

/// All claims and who has them; a clone is free, and comparing two costs what differs.
pub(super) type Holders = imbl::OrdMap<Claim, Held>;

/// What a service asks for.
#[derive(Clone, Debug, Default)]
struct Asked {
    claims: Vec<Claim>,
    /// Its last instance left.
    gone: bool,
}

/// The claims of all services of one output.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// What is older goes first, and what has left, or is of unknown age, last.
    pub(super) ages: Ages,
    held: Holders,
    asked: BTreeMap<Arc<str>, Asked>,
    /// Claims without a holder, and who asks for them, until [`Claims::settle`].
    open: BTreeMap<Claim, BTreeSet<Arc<str>>>,
    /// Services whose denials may have changed since [`Claims::settle`].
    touched: BTreeSet<Arc<str>>,
}

impl Claims {
    /// Makes `claims`, sorted, all that a service asks for.
    pub(super) fn set(&mut self, service: &Arc<str>, claims: Vec<Claim>, gone: bool, now: u64) {
        self.put(service, Asked { claims, gone }, true, now);
    }

    /// As [`Claims::set`] for a service that asked for these before and lost them: it waits even for what a service has
    /// that left.
    pub(super) fn set_again(&mut self, service: &Arc<str>, claims: Vec<Claim>, now: u64) {
        self.put(service, Asked { claims, gone: false }, false, now);
    }

    fn put(&mut self, service: &Arc<str>, new: Asked, is_new: bool, now: u64) {
        let Asked { claims, gone } = new;
        let old = self.asked.remove(service).unwrap_or_default();
        for claim in old.claims.iter().filter(|claim| claims.binary_search(claim).is_err()) {
            self.release(service, claim);
        }
        for claim in claims.iter().filter(|claim| old.claims.binary_search(claim).is_err()) {
            self.ask(service, claim, is_new, now);
        }
        if !claims.is_empty() {
            self.asked.insert(Arc::clone(service), Asked { claims, gone });
        }
    }

    /// Takes up what an earlier agent knew: a claim and who had it.
    pub(super) fn restore(&mut self, claim: Claim, held: Held) {
        self.held.insert(claim, held);
    }

    /// Forgets restored claims of services that do not ask for them any more.
    pub(super) fn forget_unasked(&mut self) {
        let asks = |name: &Arc<str>, claim: &Claim| {
            self.asked.get(name).is_some_and(|asked| asked.claims.binary_search(claim).is_ok())
        };
        let stale: Vec<(Claim, Arc<str>)> = self
            .held
            .iter()
            .flat_map(|(claim, held)| held.waiting.iter().chain([&held.holder]).map(move |name| (claim, name)))
            .filter(|(claim, name)| !asks(name, claim))
            .map(|(claim, name)| (Claim::clone(claim), Arc::clone(name)))
            .collect();
        stale.iter().for_each(|(claim, name)| self.release(name, claim));
    }

    /// Gives claims without a holder away; the services whose denials may have changed.
    pub(super) fn settle(&mut self, now: u64) -> BTreeSet<Arc<str>> {
        for (claim, mut waiting) in std::mem::take(&mut self.open) {
            let age = |name: &Arc<str>| self.ages.get(name).copied().unwrap_or(u64::MAX);
            let Some(holder) = waiting.iter().min_by_key(|name| (age(name), Arc::clone(name))).cloned() else {
                continue;
            };
            waiting.remove(&holder);
            self.touched.extend(waiting.iter().cloned().chain([Arc::clone(&holder)]));
            self.held.insert(claim, Held { holder, since: now, waiting });
        }
        std::mem::take(&mut self.touched)
    }

    /// The claims of a service that another one has.
    pub(super) fn denied(&self, service: &str) -> Vec<Claim> {
        let asked = self.asked.get(service).into_iter().flat_map(|asked| &asked.claims);
        asked.filter(|claim| self.held.get(*claim).is_some_and(|held| *held.holder != *service)).cloned().collect()
    }

    /// Who has a claim.
    pub(super) fn held(&self, claim: &str) -> Option<&Held> {
        self.held.get(claim)
    }

    /// All claims and who has them.
    pub(super) fn all(&self) -> &Holders {
        &self.held
    }

    fn ask(&mut self, service: &Arc<str>, claim: &Claim, is_new: bool, now: u64) {
        let is_gone = |name: &str| self.asked.get(name).is_some_and(|asked| asked.gone);
        match self.held.get_mut(claim) {
            // An earlier agent knew of it.
            Some(held) if held.holder == *service || held.waiting.contains(service) => {}
            Some(held) if is_new && (is_gone(&held.holder) || (has(Fault::FirstByName) && *service < held.holder)) => {
                let gone = std::mem::replace(&mut held.holder, Arc::clone(service));
                held.since = now;
                self.touched.insert(Arc::clone(&gone));
                held.waiting.insert(gone);
            }
            Some(held) => _ = held.waiting.insert(Arc::clone(service)),
            None => _ = self.open.entry(Claim::clone(claim)).or_default().insert(Arc::clone(service)),
        }
        self.touched.insert(Arc::clone(service));
    }

    fn release(&mut self, service: &Arc<str>, claim: &Claim) {
        if let Some(waiting) = self.open.get_mut(claim) {
            waiting.remove(service);
        }
        let Some(held) = self.held.get_mut(claim) else { return };
        held.waiting.remove(service);
        if held.holder == *service {
            let waiting = std::mem::take(&mut held.waiting);
            self.held.remove(claim);
            if !waiting.is_empty() {
                self.open.entry(Claim::clone(claim)).or_default().extend(waiting);
            }
        }
    }
}
