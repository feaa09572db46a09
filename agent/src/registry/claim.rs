//! Keys that another host writes too: whoever has one keeps it, the other says so and waits.
//!
//! Only a key under another living lease is left alone. It is this agent's all the same when that lease is one of its own
//! earlier lives: then the agent's own key hangs on it, or the value is the very same.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue};
use tracing::info;

use super::etcd::{Inner, State};
use super::shared::{Shared, unchanged};
use super::{Error, Step};
use crate::model::{AGENTS, Presence, PresenceState};

/// A key of this host's own that another host holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contested {
    /// The value this agent would give it.
    pub(super) value: Arc<str>,
    /// The lease it hangs on.
    lease: i64,
    /// Whose that is, where its agent says so: node and address.
    by: Option<(String, String)>,
}

/// What is to be written, and what is left to others.
#[derive(Default)]
pub(super) struct Claims {
    /// Hold while everything is as it was looked at.
    pub(super) guards: Vec<Compare>,
    /// By key.
    pub(super) contested: BTreeMap<String, Contested>,
}

/// Agents by the lease that they hold.
type Holders = BTreeMap<i64, (String, Presence)>;

/// What can be claimed without a look: what is held by the agent itself, by nobody, or without a lease.
pub(super) fn assume_owned(state: &State, lease: i64, steps: &[Step]) -> Claims {
    let guard = |key: &String| Compare::lease(key.as_str(), CompareOp::Equal, assumed_lease(state, lease, key));
    Claims { guards: puts(steps).map(|(key, _)| guard(key)).collect(), contested: BTreeMap::new() }
}

/// The lease that a key hangs on as far as is known; 0 is none, also for a key that is not there.
fn assumed_lease(state: &State, own: i64, key: &str) -> i64 {
    match state.shared.get(key).and_then(Shared::lease) {
        _ if state.own.contains_key(key) => own,
        shared => shared.unwrap_or(0),
    }
}

fn puts(steps: &[Step]) -> impl Iterator<Item = (&String, &Arc<str>)> {
    steps.iter().filter_map(|step| match step {
        Step::Put { key, value } => Some((key, value)),
        _ => None,
    })
}

impl Inner {
    /// Looks who holds the keys that are to be put.
    pub(super) async fn claims(&self, state: &State, own: i64, steps: &[Step]) -> Result<Claims, Error> {
        let found = self.client.read(puts(steps).map(|(key, _)| key.as_str())).await?;
        let is_foreign = |key: &str, kv: &KeyValue| ![0, own, assumed_lease(state, own, key)].contains(&kv.lease());
        let any_foreign =
            puts(steps).zip(&found).any(|((key, _), kv)| kv.as_ref().is_some_and(|kv| is_foreign(key, kv)));
        let holders = if any_foreign { self.holders().await? } else { Holders::new() };
        let mut claims = Claims::default();
        for ((key, value), kv) in puts(steps).zip(found) {
            let Some(kv) = kv else {
                claims.guards.push(Compare::create_revision(key.as_str(), CompareOp::Equal, 0));
                continue;
            };
            let holder = holders.get(&kv.lease());
            if is_foreign(key, &kv) && !self.is_earlier_life(holder, &kv, value) {
                let by = holder.map(|(node, presence)| (node.clone(), presence.address.clone()));
                claims.contested.insert(key.clone(), Contested { value: value.clone(), lease: kv.lease(), by });
            } else {
                claims.guards.push(unchanged(&kv));
            }
        }
        Ok(claims)
    }

    fn is_earlier_life(&self, holder: Option<&(String, Presence)>, kv: &KeyValue, value: &Arc<str>) -> bool {
        match (holder, &self.node) {
            (Some((name, presence)), Some(node)) => {
                let is_leaving = presence.state == PresenceState::Leaving;
                *name == node.name && (is_leaving || presence.address == node.address)
            }
            (Some(_), None) => false,
            // An agent that says nothing of itself, or another program.
            (None, _) => kv.value() == value.as_bytes(),
        }
    }

    async fn holders(&self) -> Result<Holders, Error> {
        let answer = self.client.range(AGENTS.as_bytes(), GetOptions::new().with_prefix()).await?;
        let holder = |kv: &KeyValue| {
            let node = Presence::node(kv.key_str().ok()?)?.to_owned();
            Some((kv.lease(), (node, Presence::from_text(kv.value_str().ok()?))))
        };
        Ok(answer.kvs().iter().filter_map(holder).collect())
    }

    /// Takes over what its holder has left.
    pub(super) async fn check_contested(&self, state: &mut State, own: i64) -> Result<(), Error> {
        if state.contested.is_empty() {
            return Ok(());
        }
        let found = self.client.read(state.contested.keys().map(String::as_str)).await?;
        let moved = state.contested.iter().zip(found).filter(|((_, contested), kv)| {
            let lease = kv.as_ref().map(KeyValue::lease);
            lease != Some(contested.lease)
        });
        let put = |key: &String, contested: &Contested| Step::Put { key: key.clone(), value: contested.value.clone() };
        let steps: Vec<Step> = moved.map(|((key, contested), _)| put(key, contested)).collect();
        self.carry_out(state, own, &steps).await?;
        for step in steps.iter().filter(|step| state.own.contains_key(step.key())) {
            info!(key = step.key(), "took over an entry that its host has left");
        }
        Ok(())
    }

    /// Shows people what is left to others.
    pub(super) fn show_contested(&self, state: &State) {
        let text = |(key, contested): (&String, &Contested)| (key.clone(), contested.text(key));
        let shown: BTreeMap<String, String> = state.contested.iter().map(text).collect();
        self.contested.send_if_modified(|known| {
            let differs = *known != shown;
            *known = shown;
            differs
        });
    }
}

impl Contested {
    fn text(&self, key: &str) -> String {
        let holder = match &self.by {
            Some((node, address)) if Presence::node(key) == Some(node) => {
                return format!(
                    "another host of this name is there, at {address}: give one of them another agent.node; until then both \
                     write the same keys"
                );
            }
            Some((node, address)) => format!("host {node} at {address}"),
            None => format!("another writer, under lease {:x},", self.lease),
        };
        format!(
            "{holder} holds it with another value, so ours is not written: two containers make one key, as when both have \
             the same host name; give one another name, or it is taken over when the other leaves"
        )
    }
}
