//! Stage: registry. Where all hosts write down what they provide.
//!
//! A registry maps keys to values. An agent *watches* what is under some prefixes, and *holds* entries of its
//! own there for as long as it lives. [`plan()`] computes the [`Step`]s from what the agent holds to what it desires,
//! [`Registry::apply`] carries them out, and neither does the other's work.
//!
//! It has two implementations: [`etcd`], where other hosts see the entries, and [`memory`], where
//! one process is both ends. Nothing outside this module knows an etcd type.
//!
//! Both promise:
//! - a watcher gets a complete listing first and every change after it, and a broken connection never takes an entry
//!   away;
//! - the agent does not write an entry again that it holds and that has not changed;
//! - the agent leaves an entry to another host that holds it, reports that, and takes it over when that host leaves it;
//! - a host's own entries ([`Host`](crate::model::LeaseKind::Host)) go when the host withdraws or has been silent for
//!   the lease's time to live; a shared entry ([`Shared`](crate::model::LeaseKind::Shared)) goes with the last of the
//!   hosts that give it.

use std::collections::BTreeMap;

use tokio::sync::watch::Receiver;

use crate::model::{Entries, LeasedEntries};

mod action;
mod batch;
mod client;
pub mod etcd;
mod executor;
mod lease;
pub mod memory;
mod options;
mod plan;
mod planner;
mod reason;
mod session;
mod snapshot;
mod watch;

pub use plan::{Step, plan};

/// Everything under the watched prefixes at one moment; `None` until the first complete listing.
pub type WatchReceiver = Receiver<Option<Entries>>;

/// Where entries are written and watched.
#[async_trait::async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Watches `prefixes` (each ends in `/`) without a gap until every receiver is dropped; the receivers keep the last
    /// entries while the registry is away.
    fn watch(&self, prefixes: Vec<String>) -> WatchReceiver;

    /// What this agent holds. Grants or resumes the lease first when there is none.
    async fn owned_entries(&self, source: Source) -> Result<LeasedEntries, Error>;

    /// Carries the steps out, in order but releases, which come last; remembers what succeeded even when a later step
    /// fails. A refused step does not keep it from the others.
    async fn apply(&self, steps: &[Step]) -> Result<(), Error>;

    /// Pends until the lease is lost; then the agent holds nothing, and [`Registry::owned_entries`] grants a new lease.
    /// Pends while there is no lease.
    async fn lease_lost(&self);

    /// Takes everything back at once, or leaves it to be resumed by the next process; ends within
    /// [`etcd::SHUTDOWN_TIMEOUT`] also when the registry is away.
    async fn withdraw(&self, mode: ShutdownMode) -> Result<(), Error>;

    /// What to tell people about the registry.
    fn status(&self) -> RegistryStatus;
}

/// Where [`Registry::owned_entries`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In memory.
    Cached,
    /// In the registry, so that what others deleted or overwrote shows.
    Fresh,
}

/// What becomes of the entries when the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// They go at once.
    Revoke,
    /// They stay until the lease ends, so that the next process resumes them.
    KeepLease,
}

/// What to tell people about a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryStatus {
    /// Kind and endpoints, for example `etcd http://10.0.0.1:2379`.
    pub description: String,
    /// Whether the last call was answered; `false` before the first one.
    pub connected: bool,
    /// Why the last call was not answered, or was refused.
    pub error: Option<String>,
    /// Keys that other hosts hold, and what to do about it.
    pub contested: BTreeMap<String, String>,
}

/// Why a registry did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer, or no leader; the same call succeeds when the registry is back.
    #[error("{registry} does not answer: {reason}")]
    Unavailable {
        /// Kind and endpoints.
        registry: String,
        /// What the last attempt met.
        reason: String,
    },
    /// The lease is gone, and what it held with it; [`Registry::owned_entries`] grants a new one.
    #[error("{registry} has ended this agent's lease; its entries have to be put again")]
    LeaseLost {
        /// Kind and endpoints.
        registry: String,
    },
    /// The registry refuses; a person has to change something.
    #[error("cannot {what} ({registry}): {reason}; {remedy}")]
    Refused {
        /// Kind and endpoints.
        registry: String,
        /// What was asked, with the key where there is one.
        what: String,
        /// The registry's own words.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Error {
    /// Whether a person has to act; anything else passes when it is tried again.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Error::Refused { .. })
    }
}
