//! Carries steps out in as few transactions as etcd allows, so that what changes together shows together.
//!
//! The executor reads the facts that the [`Planner`] asks for, and carries out the actions that the planner returns. It
//! decides only how often to try.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, ResponseHeader, Txn, TxnOp};
use tokio::sync::watch;
use tracing::{info, warn};

use super::action::{Action, Change, Guard, record};
use super::batch::{batches, split};
use super::client::Client;
use super::lease::Leases;
use super::planner::{ATTEMPTS, Facts, Found, Listing, Planner, Question, restore};
use super::reason::naming;
use super::session::Session;
use super::{Error, Step};
use crate::model::{AGENTS, Node, Presence, VALUE_LIMIT, directory};

/// Changes the agent's entries in etcd, and the session with them.
pub(super) struct Executor {
    client: Arc<Client>,
    leases: Arc<Leases>,
    node: Option<Arc<Node>>,
    /// What the agent leaves to other hosts, in words.
    contested: watch::Sender<BTreeMap<String, String>>,
}

impl Executor {
    pub(super) fn new(client: Arc<Client>, leases: Arc<Leases>, node: Option<Arc<Node>>) -> Executor {
        Executor { client, leases, node, contested: watch::Sender::default() }
    }

    /// What the agent leaves to other hosts, in words.
    pub(super) fn contested(&self) -> BTreeMap<String, String> {
        self.contested.borrow().clone()
    }

    /// Shows people what the agent leaves to other hosts.
    pub(super) fn show_contested(&self, session: &Session) {
        self.contested.send_replace(session.contested_texts());
    }

    /// Carries out all steps but those that etcd refuses, the releases last; returns the first refusal.
    pub(super) async fn carry_out(&self, session: &mut Session, steps: &[Step]) -> Result<(), Error> {
        let mut refused = Ok(());
        let (mut changes, mut releases) = (Vec::new(), Vec::new());
        for step in steps.iter().cloned() {
            let size = step.value().map_or(0, |value| value.len());
            if size > VALUE_LIMIT {
                let reason = format!("the value has {size} bytes, at most {VALUE_LIMIT} are taken");
                let error = self.client.refused(&format!("put {}", step.key()), reason, "make it shorter");
                refused = refused.and(Err(error));
            } else if matches!(step, Step::Release { .. }) {
                releases.push(step);
            } else {
                changes.push(step);
            }
        }
        let mut left: VecDeque<&[Step]> = batches(&changes).into_iter().chain(releases.chunks(1)).collect();
        while let Some(batch) = left.pop_front() {
            match self.commit(session, batch).await {
                // Most of the steps may be fine.
                Err(Error::Refused { .. }) if batch.len() > 1 => {
                    batch.chunks(1).rev().for_each(|step| left.push_front(step));
                }
                Err(error @ Error::Refused { .. }) => {
                    warn!(key = batch[0].key(), %error, "the registry refused an entry");
                    refused = refused.and(Err(error));
                }
                done => done?,
            }
        }
        refused
    }

    /// Carries the steps out in one transaction, which takes effect only while nobody else changes their keys.
    async fn commit(&self, session: &mut Session, steps: &[Step]) -> Result<(), Error> {
        let what = naming("write", steps[0].key(), steps.len());
        for failures in 0..=ATTEMPTS {
            let mut actions = self.plan(session, steps, failures).await?;
            match self.transact(&what, session.lease, &mut actions).await {
                Ok(true) => {
                    record(session, actions);
                    self.show_contested(session);
                    return Ok(());
                }
                Ok(false) => {}
                Err(Error::LeaseLost { .. }) => self.check_alive(session.lease).await?,
                Err(error) => return Err(error),
            }
        }
        Err(self.client.unavailable(format!("other hosts kept changing the same entries, could not {what}")))
    }

    /// Asks the planner, and reads the facts that it needs.
    async fn plan(&self, session: &Session, steps: &[Step], failures: usize) -> Result<Vec<Action>, Error> {
        let mut facts = Facts::default();
        loop {
            match (Planner { session, node: self.node.as_deref(), facts: &facts, failures }).plan(steps) {
                Ok(actions) => return Ok(actions),
                Err(questions) => self.answer(questions, &mut facts).await?,
            }
        }
    }

    async fn answer(&self, questions: BTreeSet<Question>, facts: &mut Facts) -> Result<(), Error> {
        let mut keys = Vec::new();
        for question in questions {
            match question {
                Question::Key(key) => keys.push(key),
                Question::Lease(lease) => {
                    facts.leases.insert(lease, self.client.keep_alive(lease).await?);
                }
                Question::Directory(path) => {
                    let options = GetOptions::new().with_prefix().with_keys_only();
                    let answer = self.client.range(path.as_bytes(), options).await?;
                    let revision = answer.header().map_or(0, ResponseHeader::revision);
                    let key = |kv: &KeyValue| String::from_utf8_lossy(kv.key()).into_owned();
                    let keys = answer.kvs().iter().map(|kv| (key(kv), (kv.lease(), kv.mod_revision()))).collect();
                    facts.directories.insert(path, Listing { revision, keys });
                }
                Question::Agents => {
                    let answer = self.client.range(AGENTS.as_bytes(), GetOptions::new().with_prefix()).await?;
                    let agent = |kv: &KeyValue| {
                        let node = Presence::node(kv.key_str().ok()?)?.to_owned();
                        Some((kv.lease(), (node, Presence::from_text(kv.value_str().ok()?))))
                    };
                    facts.agents = Some(answer.kvs().iter().filter_map(agent).collect());
                }
            }
        }
        facts.keys.extend(self.read(&keys).await?);
        Ok(())
    }

    /// Reads keys; `None` stands for a key that is not there.
    async fn read<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Option<Found>>, Error> {
        let keys: Vec<&String> = keys.into_iter().collect();
        let found = self.client.read(keys.iter().map(|key| key.as_str())).await?;
        let found = found.into_iter().map(|kv| kv.as_ref().map(Found::from));
        Ok(keys.into_iter().cloned().zip(found).collect())
    }

    /// Carries out actions in one transaction, and grants the leases that they need; returns whether all guards held.
    async fn transact(&self, what: &str, own_lease: i64, actions: &mut [Action]) -> Result<bool, Error> {
        for lease in actions.iter_mut().filter_map(Action::granted) {
            *lease = Some(self.leases.grant().await?);
        }
        let compares = actions.iter().flat_map(|action| action.guards.iter().map(|guard| compare(&action.key, *guard)));
        let guards: Vec<Compare> = compares.collect();
        let operations: Vec<TxnOp> = actions.iter().filter_map(|action| operation(action, own_lease)).collect();
        if operations.is_empty() {
            return Ok(true);
        }
        Ok(self.client.transact(what, Txn::new().when(guards).and_then(operations)).await?.succeeded())
    }

    /// Fails when the lost lease was the agent's, and not that of a shared entry.
    async fn check_alive(&self, lease: i64) -> Result<(), Error> {
        if self.client.find_lease(lease).await?.is_some() {
            return Ok(());
        }
        self.leases.mark_lost(lease);
        Err(self.client.lease_lost())
    }

    /// Compares own entries with `keys`, those under the agent's lease. Reads only values that are new or that others
    /// have written over.
    pub(super) async fn check_own(&self, session: &mut Session, keys: &BTreeSet<String>) -> Result<(), Error> {
        session.own.retain(|key, _| keys.contains(key));
        let mut unsure: Vec<String> = keys.iter().filter(|key| !session.own.contains_key(*key)).cloned().collect();
        unsure.extend(self.overwritten(&session.own).await?);
        let held = self.client.read_held(unsure.iter().map(String::as_str), session.lease).await?;
        unsure.iter().for_each(|key| drop(session.own.remove(key)));
        session.own.extend(held);
        Ok(())
    }

    /// Keys whose value may differ from the session's. etcd compares, so no value travels back.
    async fn overwritten(&self, own: &BTreeMap<String, Arc<str>>) -> Result<Vec<String>, Error> {
        let entries: Vec<(&String, &Arc<str>)> = own.iter().collect();
        let mut changed = Vec::new();
        for batch in split(&entries, |(key, value)| (1, key.len() + value.len())) {
            let equal = |(key, value): &(&String, &Arc<str>)| Compare::value(key.as_str(), CompareOp::Equal, &***value);
            let same = Txn::new().when(batch.iter().map(equal).collect::<Vec<_>>());
            if !self.client.transact("compare own entries", same).await?.succeeded() {
                changed.extend(batch.iter().map(|(key, _)| (*key).clone()));
            }
        }
        Ok(changed)
    }

    /// Restores shared entries that are not as the agent left them, and takes over contested entries that their holder
    /// has left.
    pub(super) async fn restore(&self, session: &mut Session) -> Result<(), Error> {
        let found = self.read(session.shared.keys().chain(session.contested.keys())).await?;
        let steps = restore(session, &found);
        self.carry_out(session, &steps).await?;
        for step in steps.iter().filter(|step| session.own.contains_key(step.key())) {
            info!(key = step.key(), "took over an entry that its host has left");
        }
        Ok(())
    }
}

impl From<&KeyValue> for Found {
    fn from(kv: &KeyValue) -> Self {
        Found { value: kv.value().to_vec(), lease: kv.lease(), revision: kv.mod_revision() }
    }
}

/// What must hold for a key, in etcd's terms.
fn compare(key: &str, guard: Guard) -> Compare {
    match guard {
        Guard::Lease(lease) => Compare::lease(key, CompareOp::Equal, lease),
        Guard::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
        Guard::Unchanged(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
        Guard::QuietDirectory(revision) => {
            Compare::mod_revision(directory(key), CompareOp::Less, revision + 1).with_prefix()
        }
    }
}

/// What happens to a key, in etcd's terms.
fn operation(action: &Action, own_lease: i64) -> Option<TxnOp> {
    let key = action.key.as_str();
    let put = |value: &str, lease| TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
    // When another host has taken the key over, the rest of the transaction takes effect all the same.
    let if_own = |operation| {
        let is_own = Compare::lease(key, CompareOp::Equal, own_lease);
        TxnOp::txn(Txn::new().when([is_own]).and_then([operation]))
    };
    match &action.change {
        Change::Put { value } => Some(put(value, own_lease)),
        Change::PutShared { value, lease } => Some(put(value, (*lease)?)),
        Change::Detach { value, lease } => Some(if_own(put(value, (*lease)?))),
        Change::Delete => Some(if_own(TxnOp::delete(key, None))),
        Change::DeleteShared => Some(TxnOp::delete(key, None)),
        Change::LeaveTo(_) | Change::HoldShared { .. } | Change::Release => None,
    }
}
