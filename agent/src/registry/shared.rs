//! Entries that belong to every host that gives them, such as the `port` of a service.
//!
//! Each has a lease of its own, which all its holders keep alive: whoever comes first grants it, the others join. So it
//! outlives every one of them, gracefully or not, and is never written twice. Who leaves deletes it only when no other
//! host has an entry in the same directory, in a transaction that fails when one comes in between.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp};
use tracing::warn;

use super::client::KeepAlive;
use super::commit::holds_in;
use super::etcd::{Inner, State};
use super::{Error, Step};
use crate::model::directory;

/// How often a release is tried again because the directory changed.
const ATTEMPTS: usize = 4;

/// A shared entry of this agent.
pub(super) struct Shared {
    /// The value this agent gives it.
    pub(super) value: Arc<str>,
    hold: Hold,
    /// This agent has, or had, an entry of its own in the same directory: so does every other holder, and where there
    /// is none of theirs nobody else holds it.
    pub(super) has_own_sibling: bool,
}

/// What keeps a shared entry there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// This lease, which its holders keep alive.
    Lease(i64),
    /// A person: it has no lease.
    Permanent,
    /// Another host, with this other value; ours has to wait.
    Contested(String),
}

/// What a look at a shared key leads to.
pub(super) enum Share {
    /// It is written under a lease of its own, unless a guard says that it changed.
    Write { value: Arc<str>, lease: i64, guards: Vec<Compare> },
    /// It is there; its lease is kept alive too.
    Join { value: Arc<str>, lease: i64, revision: i64 },
    /// It is left as it is.
    Permanent { value: Arc<str> },
    /// It is there with another value.
    Contested { value: Arc<str>, other: String },
}

impl Share {
    /// Adds what it takes to a transaction.
    pub(super) fn draft(&self, key: &str, guards: &mut Vec<Compare>, operations: &mut Vec<TxnOp>) {
        match self {
            Share::Write { value, lease, guards: own } => {
                guards.extend(own.iter().cloned());
                operations.push(TxnOp::put(key, &**value, Some(PutOptions::new().with_lease(*lease))));
            }
            Share::Join { revision, .. } => guards.push(Compare::mod_revision(key, CompareOp::Equal, *revision)),
            Share::Permanent { .. } | Share::Contested { .. } => {}
        }
    }
}

impl Shared {
    /// What is held after `share`; says once when another host's value is in the way.
    pub(super) fn new(key: &str, share: &Share, before: Option<Shared>) -> Shared {
        let (value, hold) = match share {
            Share::Write { value, lease, .. } | Share::Join { value, lease, .. } => (value, Hold::Lease(*lease)),
            Share::Permanent { value } => (value, Hold::Permanent),
            Share::Contested { value, other } => (value, Hold::Contested(other.clone())),
        };
        let said = before.as_ref().is_some_and(|before| before.hold == hold && before.value == *value);
        if let (Hold::Contested(other), false) = (&hold, said) {
            warn!(key, ours = &**value, other, "another host wrote a different value for a shared entry; keeping it");
        }
        Shared { value: value.clone(), hold, has_own_sibling: before.is_some_and(|before| before.has_own_sibling) }
    }

    /// Whether the key is as this agent left it.
    fn matches(&self, found: Option<&KeyValue>) -> bool {
        let Some(kv) = found else { return false };
        let same = kv.value() == self.value.as_bytes();
        match &self.hold {
            Hold::Lease(lease) => same && kv.lease() == *lease,
            Hold::Permanent => same && kv.lease() == 0,
            // The other host may be gone.
            Hold::Contested(_) => false,
        }
    }
}

/// What a directory holds besides the shared key in question.
struct Neighbours {
    /// The revision of the listing.
    revision: i64,
    /// Revision of the shared key, when it is there.
    key: Option<i64>,
    /// Whether another host has an entry there.
    others: bool,
}

impl Inner {
    /// Renews the leases of the shared entries. One that is gone shows when the keys are checked.
    pub(super) async fn keep_shared_alive(&self, state: &State) -> Result<(), Error> {
        self.leases.keep_all_alive(state.shared.values().filter_map(Shared::lease).collect()).await
    }

    /// Reads the shared keys and settles those that are not as they were left.
    pub(super) async fn check_shared(&self, state: &mut State, lease: i64) -> Result<(), Error> {
        if state.shared.is_empty() {
            return Ok(());
        }
        let found = self.client.read(state.shared.keys().map(String::as_str)).await?;
        let astray = state.shared.iter().zip(found).filter(|((_, shared), found)| !shared.matches(found.as_ref()));
        let steps: Vec<Step> =
            astray.map(|((key, shared), _)| Step::Share { key: key.clone(), value: shared.value.clone() }).collect();
        self.carry_out(state, lease, &steps).await
    }

    /// Reads the keys that `steps` share and says what to do; `None` when it has to be read again.
    pub(super) async fn look(
        &self,
        state: &State,
        own_lease: i64,
        steps: &[Step],
    ) -> Result<Option<Vec<(String, Share)>>, Error> {
        let wanted: Vec<(&String, &Arc<str>)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Share { key, value } => Some((key, value)),
                _ => None,
            })
            .collect();
        let found = self.client.read(wanted.iter().map(|(key, _)| key.as_str())).await?;
        let mut shares = Vec::with_capacity(wanted.len());
        for ((key, value), kv) in wanted.into_iter().zip(found) {
            let value = value.clone();
            let share = match kv {
                None => self.write(value, vec![Compare::create_revision(key.as_str(), CompareOp::Equal, 0)]).await?,
                // An entry of this host's own that is shared from now on.
                Some(kv) if kv.lease() == own_lease => self.write(value, vec![unchanged(&kv)]).await?,
                Some(kv) if kv.value() != value.as_bytes() => {
                    let has_own_sibling = state.shared.get(key).is_some_and(|shared| shared.has_own_sibling)
                        || holds_in(&state.own, directory(key))
                        || steps
                            .iter()
                            .any(|step| matches!(step, Step::Put { key: put, .. } if directory(put) == directory(key)));
                    self.differing(state, own_lease, &kv, key, value, has_own_sibling).await?
                }
                Some(kv) if kv.lease() == 0 => Share::Permanent { value },
                Some(kv) => {
                    let joined = state.shared.get(key).and_then(Shared::lease) == Some(kv.lease());
                    // Its holders may be gone, and it about to end.
                    if !joined && self.client.keep_alive(kv.lease()).await? == KeepAlive::Lost {
                        return Ok(None);
                    }
                    Share::Join { value, lease: kv.lease(), revision: kv.mod_revision() }
                }
            };
            shares.push((key.clone(), share));
        }
        Ok(Some(shares))
    }

    /// Another value is there: it is written over only when no other host can be holding it.
    async fn differing(
        &self,
        state: &State,
        own_lease: i64,
        kv: &KeyValue,
        key: &str,
        value: Arc<str>,
        has_own_sibling: bool,
    ) -> Result<Share, Error> {
        if has_own_sibling && kv.lease() != 0 {
            let found = self.neighbours(state, own_lease, key).await?;
            if !found.others {
                return self.write(value, vec![unchanged(kv), quiet(key, found.revision)]).await;
            }
        }
        Ok(Share::Contested { value, other: String::from_utf8_lossy(kv.value()).into_owned() })
    }

    async fn write(&self, value: Arc<str>, guards: Vec<Compare>) -> Result<Share, Error> {
        let lease = self.leases.grant().await?;
        Ok(Share::Write { value, lease, guards })
    }

    /// Holds a shared entry no longer, and deletes it when nobody else does.
    pub(super) async fn release(&self, state: &mut State, own_lease: i64, key: &str) -> Result<(), Error> {
        let Some(shared) = state.shared.get(key) else { return Ok(()) };
        if shared.lease().is_some() && shared.has_own_sibling {
            for _ in 0..ATTEMPTS {
                let found = self.neighbours(state, own_lease, key).await?;
                let Some(revision) = found.key.filter(|_| !found.others) else { break };
                let same = Compare::mod_revision(key, CompareOp::Equal, revision);
                let delete = Txn::new().when([same, quiet(key, found.revision)]).and_then([TxnOp::delete(key, None)]);
                if self.client.transact(&format!("delete {key}"), delete).await?.succeeded() {
                    break;
                }
            }
        }
        // Otherwise it ends with its lease, unless others keep it.
        state.shared.remove(key);
        Ok(())
    }

    async fn neighbours(&self, state: &State, own_lease: i64, key: &str) -> Result<Neighbours, Error> {
        let options = GetOptions::new().with_prefix().with_keys_only();
        let answer = self.client.range(directory(key).as_bytes(), options).await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let mut found = Neighbours { revision, key: None, others: false };
        for kv in answer.kvs() {
            let name = String::from_utf8_lossy(kv.key());
            if name == key {
                found.key = Some(kv.mod_revision());
            } else if directory(&name) == directory(key) {
                found.others |= kv.lease() != own_lease && !state.shared.contains_key(&*name);
            }
        }
        Ok(found)
    }
}

impl Shared {
    /// The lease that keeps it there.
    pub(super) fn lease(&self) -> Option<i64> {
        match self.hold {
            Hold::Lease(lease) => Some(lease),
            Hold::Permanent | Hold::Contested(_) => None,
        }
    }
}

/// Holds when nobody has written the key since.
pub(super) fn unchanged(kv: &KeyValue) -> Compare {
    Compare::mod_revision(kv.key(), CompareOp::Equal, kv.mod_revision())
}

/// Holds when nobody has written to the key's directory since `revision`.
fn quiet(key: &str, revision: i64) -> Compare {
    Compare::mod_revision(directory(key), CompareOp::Less, revision + 1).with_prefix()
}
