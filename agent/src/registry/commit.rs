//! Carries steps out in as few transactions as etcd allows, so that what changes together shows together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tracing::warn;

use super::claim::{Contested, assume_owned};
use super::client::MAX_OPERATIONS;
use super::etcd::{Inner, State};
use super::reason::naming;
use super::shared::{Share, Shared};
use super::{Error, Step};
use crate::model::{VALUE_LIMIT, directory};

/// Most bytes of keys and values in one request; etcd takes 1.5 MiB.
const MAX_REQUEST: usize = 1024 * 1024;
/// How often a transaction is tried again because another host was faster.
const ATTEMPTS: usize = 4;

impl Inner {
    /// Carries out all steps but those that etcd refuses, the first refusal of which is the result.
    pub(super) async fn carry_out(&self, state: &mut State, lease: i64, steps: &[Step]) -> Result<(), Error> {
        let mut refused = Ok(());
        let (notes, steps): (Vec<_>, Vec<_>) =
            steps.iter().cloned().partition(|step| matches!(step, Step::PutDetached { .. }));
        for step in &notes {
            self.leave(state, lease, step).await?;
        }
        let (releases, changes): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| matches!(step, Step::Release { .. }));
        let (changes, too_long): (Vec<_>, Vec<_>) = changes.into_iter().partition(|step| size(step) <= VALUE_LIMIT);
        if let Some(step) = too_long.first() {
            let reason = format!("the value has {} bytes, at most {VALUE_LIMIT} are taken", size(step));
            refused = Err(self.client.refused(&format!("put {}", step.key()), reason, "make it shorter"));
        }
        for batch in batches(&changes) {
            match self.commit(state, lease, batch).await {
                Err(error @ Error::Refused { .. }) if batch.len() == 1 => refused = refused.and(Err(error)),
                Err(Error::Refused { .. }) => refused = refused.and(self.one_by_one(state, lease, batch).await?),
                other => other?,
            }
        }
        for step in &releases {
            self.release(state, lease, step.key()).await?;
        }
        refused
    }

    /// Finds out which of the steps are refused; the outer error is any other.
    async fn one_by_one(&self, state: &mut State, lease: i64, steps: &[Step]) -> Result<Result<(), Error>, Error> {
        let mut refused = Ok(());
        for step in steps {
            match self.commit(state, lease, std::slice::from_ref(step)).await {
                Err(error @ Error::Refused { .. }) => {
                    warn!(key = step.key(), %error, "the registry refused an entry");
                    refused = refused.and(Err(error));
                }
                other => other?,
            }
        }
        Ok(refused)
    }

    /// Carries the steps out in one transaction, which only takes effect while nobody else has changed their keys. At first
    /// nothing is looked at that need not be; keys that another host holds are left to it.
    pub(super) async fn commit(&self, state: &mut State, lease: i64, steps: &[Step]) -> Result<(), Error> {
        let Some(first) = steps.first() else { return Ok(()) };
        let what = naming("write", first.key(), steps.len());
        for attempt in 0..=ATTEMPTS {
            let Some(shares) = self.look(state, lease, steps).await? else { continue };
            let claims =
                if attempt == 0 { assume_owned(state, lease, steps) } else { self.claims(state, lease, steps).await? };
            let (mut guards, mut operations) = (claims.guards, Vec::new());
            for (key, share) in &shares {
                share.draft(key, &mut guards, &mut operations);
            }
            for step in steps.iter().filter(|step| !claims.contested.contains_key(step.key())) {
                operations.extend(operation(step, lease));
            }
            let done = match operations.is_empty() {
                true => Ok(true),
                false => self
                    .client
                    .transact(&what, Txn::new().when(guards).and_then(operations))
                    .await
                    .map(|answer| answer.succeeded()),
            };
            match done {
                Ok(true) => {
                    state.remember(steps, &shares, claims.contested);
                    self.show_contested(state);
                    return Ok(());
                }
                Ok(false) => {}
                Err(Error::LeaseLost { .. }) => self.still_alive(lease).await?,
                Err(error) => return Err(error),
            }
        }
        Err(self.client.unavailable(format!("other hosts kept changing the same entries, could not {what}")))
    }

    /// Moves an entry to a lease of its own, which nobody keeps alive.
    async fn leave(&self, state: &mut State, lease: i64, step: &Step) -> Result<(), Error> {
        let Step::PutDetached { key, value } = step else { return Ok(()) };
        let last = self.leases.grant().await?;
        let put = TxnOp::put(key.as_str(), &**value, Some(PutOptions::new().with_lease(last)));
        let mine = Compare::lease(key.as_str(), CompareOp::Equal, lease);
        self.client.transact(&format!("put {key}"), Txn::new().when([mine]).and_then([put])).await?;
        state.own.remove(key);
        Ok(())
    }

    /// Tells the loss of the agent's lease from that of a shared entry's.
    async fn still_alive(&self, lease: i64) -> Result<(), Error> {
        if self.client.living(lease).await?.is_some() {
            return Ok(());
        }
        self.leases.lost(lease);
        Err(self.client.lease_lost())
    }

    /// Keys whose value is not the believed one any more. Compares on etcd's side, so no value travels back.
    pub(super) async fn overwritten(&self, own: &BTreeMap<String, Arc<str>>) -> Result<Vec<String>, Error> {
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
}

/// The operation for an entry of the host's own. A key that another host has taken over meanwhile is not deleted.
fn operation(step: &Step, lease: i64) -> Option<TxnOp> {
    match step {
        Step::Put { key, value } => Some(TxnOp::put(key.as_str(), &**value, Some(PutOptions::new().with_lease(lease)))),
        Step::Delete { key } => {
            let mine = Compare::lease(key.as_str(), CompareOp::Equal, lease);
            Some(TxnOp::txn(Txn::new().when([mine]).and_then([TxnOp::delete(key.as_str(), None)])))
        }
        Step::Share { .. } | Step::Release { .. } | Step::PutDetached { .. } => None,
    }
}

impl State {
    /// Takes over what a transaction has done.
    fn remember(&mut self, steps: &[Step], shares: &[(String, Share)], contested: BTreeMap<String, Contested>) {
        for step in steps {
            self.contested.remove(step.key());
            match step {
                Step::Put { key, .. } if contested.contains_key(key) => {
                    self.own.remove(key);
                }
                Step::Put { key, value } => {
                    self.shared.remove(key);
                    self.own.insert(key.clone(), value.clone());
                }
                Step::Delete { key }
                | Step::Share { key, .. }
                | Step::Release { key }
                | Step::PutDetached { key, .. } => {
                    self.own.remove(key);
                }
            }
        }
        self.contested.extend(contested);
        for (key, share) in shares {
            let before = self.shared.remove(key);
            self.shared.insert(key.clone(), Shared::new(key, share, before));
        }
        for (key, shared) in &mut self.shared {
            shared.has_own_sibling |= holds_in(&self.own, directory(key));
        }
    }
}

/// Whether one of the entries is in that directory.
pub(super) fn holds_in(own: &BTreeMap<String, Arc<str>>, path: &str) -> bool {
    let mut below =
        own.range::<str, _>((Bound::Included(path), Bound::Unbounded)).take_while(|(key, _)| key.starts_with(path));
    below.any(|(key, _)| directory(key) == path)
}

fn size(step: &Step) -> usize {
    match step {
        Step::Put { value, .. } | Step::Share { value, .. } | Step::PutDetached { value, .. } => value.len(),
        Step::Delete { .. } | Step::Release { .. } => 0,
    }
}

/// Cuts steps into what one transaction takes; a shared entry counts double because it may need two comparisons.
fn batches(steps: &[Step]) -> Vec<&[Step]> {
    split(steps, |step| (if matches!(step, Step::Share { .. }) { 2 } else { 1 }, size(step) + 2 * step.key().len()))
}

/// Cuts `items` into slices within the limits of operations and bytes; `weigh` gives both for one item.
fn split<T>(items: &[T], weigh: impl Fn(&T) -> (usize, usize)) -> Vec<&[T]> {
    let (mut slices, mut start, mut operations, mut bytes) = (Vec::new(), 0, 0, 0);
    for (index, item) in items.iter().enumerate() {
        let weight = weigh(item);
        if index > start && (operations + weight.0 > MAX_OPERATIONS || bytes + weight.1 > MAX_REQUEST) {
            slices.push(&items[start..index]);
            (start, operations, bytes) = (index, 0, 0);
        }
        operations += weight.0;
        bytes += weight.1;
    }
    if start < items.len() {
        slices.push(&items[start..]);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_cut_by_number_and_by_size() {
        let put =
            |number: usize, size: usize| Step::Put { key: format!("/a/{number}"), value: "x".repeat(size).into() };
        let small: Vec<Step> = (0..250).map(|number| put(number, 1)).collect();
        assert_eq!(batches(&small).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let large: Vec<Step> = (0..5).map(|number| put(number, 400_000)).collect();
        assert_eq!(batches(&large).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(batches(&[]).is_empty());
    }

    #[test]
    fn a_nested_directory_is_another_one() {
        let own = BTreeMap::from([("/a/b/c".to_owned(), Arc::from("1"))]);
        assert!(holds_in(&own, "/a/b/"));
        assert!(!holds_in(&own, "/a/"));
        assert!(!holds_in(&own, "/a/b/c/"));
    }
}
