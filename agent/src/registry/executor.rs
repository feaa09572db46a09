//! Carries steps out in as few transactions as etcd allows, so that what changes together shows together.
//!
//! The executor reads the facts that the [`Planner`] asks for, and carries out the actions that the planner returns. It
//! decides only how often to try.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::action::{Action, Change, Guard};
use super::batch::{batches, sort, split, value_size};
use super::client::{Client, KeepAlive};
use super::lease::Leases;
use super::planner::{Facts, Found, Listing, Plan, Planner, Questions, restore_shared, take_over};
use super::reason::naming;
use super::session::Session;
use super::{Error, Step};
use crate::model::{AGENTS, Node, Presence, VALUE_LIMIT, directory};

/// Tries after the first one, when other hosts change the same keys meanwhile.
const ATTEMPTS: usize = 4;

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

    /// Carries out all steps but those that etcd refuses; returns the first refusal.
    pub(super) async fn carry_out(&self, session: &mut Session, steps: &[Step]) -> Result<(), Error> {
        let mut unused = Vec::new();
        let done = self.carry_out_each(session, steps, &mut unused).await;
        // After a lost answer an entry may be under one of these leases, so they are left to expire.
        if matches!(done, Ok(()) | Err(Error::Refused { .. })) {
            self.revoke_unused(session, &unused).await;
        }
        done
    }

    async fn carry_out_each(&self, session: &mut Session, steps: &[Step], unused: &mut Vec<i64>) -> Result<(), Error> {
        let mut refused = Ok(());
        let sorted = sort(steps);
        for step in &sorted.detached {
            self.detach(session, step).await?;
        }
        if let Some(step) = sorted.too_long.first() {
            let reason = format!("the value has {} bytes, at most {VALUE_LIMIT} are taken", value_size(step));
            refused = Err(self.client.refused(&format!("put {}", step.key()), reason, "make it shorter"));
        }
        for batch in batches(&sorted.changes) {
            match self.commit(session, batch, unused).await {
                Err(error @ Error::Refused { .. }) if batch.len() == 1 => refused = refused.and(Err(error)),
                Err(Error::Refused { .. }) => refused = refused.and(self.one_by_one(session, batch, unused).await?),
                other => other?,
            }
        }
        for step in &sorted.releases {
            self.release(session, step.key()).await?;
        }
        refused
    }

    /// Finds out which of the steps etcd refuses; the outer error is any other.
    async fn one_by_one(
        &self,
        session: &mut Session,
        steps: &[Step],
        unused: &mut Vec<i64>,
    ) -> Result<Result<(), Error>, Error> {
        let mut refused = Ok(());
        for step in steps {
            match self.commit(session, std::slice::from_ref(step), unused).await {
                Err(error @ Error::Refused { .. }) => {
                    warn!(key = step.key(), %error, "the registry refused an entry");
                    refused = refused.and(Err(error));
                }
                other => other?,
            }
        }
        Ok(refused)
    }

    /// Carries the steps out in one transaction, which takes effect only while nobody else changes their keys. Adds
    /// leases that it granted in vain to `unused`.
    async fn commit(&self, session: &mut Session, steps: &[Step], unused: &mut Vec<i64>) -> Result<(), Error> {
        let Some(first) = steps.first() else { return Ok(()) };
        let what = naming("write", first.key(), steps.len());
        for attempt in 0..=ATTEMPTS {
            let Some(mut actions) = self.plan(session, steps, attempt == 0).await? else { continue };
            let done = self.transact(&what, session.lease, &mut actions).await;
            if !matches!(done, Ok(true)) {
                unused.extend(actions.iter().filter_map(Action::granted));
            }
            match done {
                Ok(true) => {
                    self.record(session, &actions);
                    return Ok(());
                }
                Ok(false) => {}
                Err(Error::LeaseLost { .. }) => self.check_alive(session.lease).await?,
                Err(error) => return Err(error),
            }
        }
        Err(self.client.unavailable(format!("other hosts kept changing the same entries, could not {what}")))
    }

    /// Moves an entry to a lease of its own, which nobody keeps alive. A failure does not revoke the lease: the client
    /// tries again after a lost answer, and the entry may be under the lease since the first try.
    async fn detach(&self, session: &mut Session, step: &Step) -> Result<(), Error> {
        let Some(mut actions) = self.plan(session, std::slice::from_ref(step), true).await? else { return Ok(()) };
        self.transact(&format!("put {}", step.key()), session.lease, &mut actions).await?;
        actions.iter().for_each(|action| action.record(session));
        Ok(())
    }

    /// Holds a shared entry no longer, and deletes it when nobody else does.
    pub(super) async fn release(&self, session: &mut Session, key: &str) -> Result<(), Error> {
        let step = Step::Release { key: key.to_owned() };
        for _ in 0..ATTEMPTS {
            let Some(mut actions) = self.plan(session, std::slice::from_ref(&step), false).await? else { continue };
            if self.transact(&format!("delete {key}"), session.lease, &mut actions).await? {
                break;
            }
        }
        // An entry that is still there ends with its lease, unless others keep it.
        session.shared.remove(key);
        Ok(())
    }

    /// Asks the planner, and reads the facts that it needs; `None` when they are out of date.
    async fn plan(&self, session: &Session, steps: &[Step], trusting: bool) -> Result<Option<Vec<Action>>, Error> {
        let mut facts = Facts::default();
        loop {
            let planner = Planner { session, node: self.node.as_deref(), facts: &facts, trusting };
            match planner.plan(steps) {
                Plan::Act(actions) => return Ok(Some(actions)),
                Plan::AskAgain => return Ok(None),
                Plan::Ask(questions) => self.answer(questions, &mut facts).await?,
            }
        }
    }

    /// Reads facts.
    async fn answer(&self, questions: Questions, facts: &mut Facts) -> Result<(), Error> {
        facts.keys.extend(self.read(&questions.keys).await?);
        for lease in questions.leases {
            facts.leases.insert(lease, self.client.keep_alive(lease).await? == KeepAlive::Alive);
        }
        for path in questions.directories {
            let options = GetOptions::new().with_prefix().with_keys_only();
            let answer = self.client.range(path.as_bytes(), options).await?;
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            let entry =
                |kv: &KeyValue| (String::from_utf8_lossy(kv.key()).into_owned(), (kv.lease(), kv.mod_revision()));
            facts.directories.insert(path, Listing { revision, keys: answer.kvs().iter().map(entry).collect() });
        }
        if questions.agents {
            let answer = self.client.range(AGENTS.as_bytes(), GetOptions::new().with_prefix()).await?;
            let agent = |kv: &KeyValue| {
                let node = Presence::node(kv.key_str().ok()?)?.to_owned();
                Some((kv.lease(), (node, Presence::from_text(kv.value_str().ok()?))))
            };
            facts.agents = Some(answer.kvs().iter().filter_map(agent).collect());
        }
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
        for lease in actions.iter_mut().filter_map(Action::granted_mut) {
            *lease = Some(self.leases.grant().await?);
        }
        let compares =
            |action: &Action| action.guards.iter().map(|guard| compare(&action.key, *guard)).collect::<Vec<_>>();
        let guards: Vec<Compare> = actions.iter().flat_map(compares).collect();
        let operations: Vec<TxnOp> = actions.iter().filter_map(|action| operation(action, own_lease)).collect();
        if operations.is_empty() {
            return Ok(true);
        }
        Ok(self.client.transact(what, Txn::new().when(guards).and_then(operations)).await?.succeeded())
    }

    /// Notes in the session what was done.
    fn record(&self, session: &mut Session, actions: &[Action]) {
        for action in actions {
            let key = &action.key;
            if let Change::Wait { value, other } = &action.change
                && !session.waits(key, value, other)
            {
                warn!(
                    key,
                    ours = &**value,
                    other,
                    "another host wrote a different value for a shared entry; keeping it"
                );
            }
            action.record(session);
        }
        session.note_siblings();
        self.show_contested(session);
    }

    /// Revokes leases that were granted for transactions in which another host was faster.
    async fn revoke_unused(&self, session: &Session, leases: &[i64]) {
        let used = session.shared_leases();
        for lease in leases.iter().filter(|lease| !used.contains(lease)) {
            if let Err(error) = self.client.revoke(*lease).await {
                debug!(lease = format_args!("{lease:x}"), %error, "cannot revoke an unused lease; it expires");
            }
        }
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
        let mut unsure = session.keep_only(keys);
        unsure.extend(self.overwritten(&session.own).await?);
        let held = self.client.read_held(unsure.iter().map(String::as_str), session.lease).await?;
        session.correct(&unsure, held);
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

    /// Reads the shared entries and restores those that are not as the agent left them.
    pub(super) async fn check_shared(&self, session: &mut Session) -> Result<(), Error> {
        let found = self.read(session.shared.keys()).await?;
        let steps = restore_shared(session, &found);
        self.carry_out(session, &steps).await
    }

    /// Takes over contested entries that their holder has left.
    pub(super) async fn check_contested(&self, session: &mut Session) -> Result<(), Error> {
        let found = self.read(session.contested.keys()).await?;
        let steps = take_over(session, &found);
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
    match &action.change {
        Change::Put { value } => Some(put(value, own_lease)),
        Change::PutShared { value, lease } | Change::Detach { value, lease } => Some(put(value, (*lease)?)),
        Change::DeleteShared => Some(TxnOp::delete(key, None)),
        // When another host has taken the key over, the rest of the transaction takes effect all the same.
        Change::Delete => {
            let mine = Compare::lease(key, CompareOp::Equal, own_lease);
            Some(TxnOp::txn(Txn::new().when([mine]).and_then([TxnOp::delete(key, None)])))
        }
        Change::LeaveTo(_) | Change::Join { .. } | Change::Accept { .. } | Change::Wait { .. } | Change::Release => {
            None
        }
    }
}
