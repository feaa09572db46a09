//! The registry in etcd v3.
//!
//! One lease per agent holds the entries of its own; each shared entry has a lease of its own, which all hosts that
//! give the entry keep alive. Two tasks run while the agent's lease lives: one keeps it alive, one keeps the shared
//! entries there. They end when the registry is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::claim::Contested;
use super::client::Client;
use super::lease::{Lease, Leases};
use super::shared::Shared;
use super::watch::watch_prefixes;
use super::{Error, Registry, RegistryStatus, ShutdownMode, Source, Step, WatchReceiver};
use crate::backoff::Backoff;
use crate::model::{LeaseKind, LeasedEntries, LeasedValue, Node};

/// Longest time that taking everything back may take; when etcd is away the entries end with the lease.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

pub use super::options::EtcdOptions;

/// Prepares a registry in etcd without waiting for it; refuses options that cannot work. Call it within a tokio runtime.
pub fn connect(options: EtcdOptions) -> Result<Arc<dyn Registry>, Error> {
    let client = Arc::new(Client::new(&options)?);
    let dropped = CancellationToken::new();
    let inner = Inner {
        leases: Leases::new(client.clone(), options.ttl, options.state_dir),
        client,
        node: options.node,
        contested: watch::Sender::default(),
        state: Mutex::default(),
        dropped: dropped.clone(),
    };
    Ok(Arc::new(Etcd { inner: Arc::new(inner), _dropped: dropped.drop_guard() }))
}

struct Etcd {
    inner: Arc<Inner>,
    _dropped: DropGuard,
}

/// What the registry and its tasks share.
pub(super) struct Inner {
    pub(super) client: Arc<Client>,
    pub(super) leases: Leases,
    pub(super) node: Option<Arc<Node>>,
    /// What is left to other hosts, in words.
    pub(super) contested: watch::Sender<BTreeMap<String, String>>,
    /// What is believed to be held; locked for the whole of an operation, so that they do not cross.
    state: Mutex<State>,
    /// Fires when the registry is dropped.
    dropped: CancellationToken,
}

/// What this agent holds, as far as it knows.
#[derive(Default)]
pub(super) struct State {
    /// Under the agent's own lease.
    pub(super) own: BTreeMap<String, Arc<str>>,
    /// Together with other hosts.
    pub(super) shared: BTreeMap<String, Shared>,
    /// Left to other hosts while they hold it.
    pub(super) contested: BTreeMap<String, Contested>,
}

#[async_trait::async_trait]
impl Registry for Etcd {
    fn watch(&self, prefixes: Vec<String>) -> WatchReceiver {
        watch_prefixes(self.inner.client.clone(), self.inner.dropped.clone(), prefixes)
    }

    async fn owned_entries(&self, source: Source) -> Result<LeasedEntries, Error> {
        let mut state = self.inner.state.lock().await;
        match (self.inner.leases.current(), source) {
            (Lease::Alive(_), Source::Cached) => {}
            (Lease::Alive(id), Source::Fresh) => self.inner.verify(&mut state, id).await?,
            (Lease::None | Lease::Lost, _) => {
                // From here on there is none, so that a caller who waits for the loss does not spin while etcd is away.
                self.inner.leases.set(Lease::None);
                self.inner.open(&mut state).await?;
            }
        }
        Ok(state.owned_entries())
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), Error> {
        let mut state = self.inner.state.lock().await;
        match self.inner.leases.current() {
            Lease::Alive(id) => self.inner.carry_out(&mut state, id, steps).await,
            Lease::None | Lease::Lost => Err(self.inner.client.lease_lost()),
        }
    }

    async fn lease_lost(&self) {
        self.inner.leases.until(|lease| lease == Lease::Lost).await;
    }

    async fn withdraw(&self, mode: ShutdownMode) -> Result<(), Error> {
        let done = timeout(SHUTDOWN_TIMEOUT, self.inner.shut_down(mode)).await;
        done.unwrap_or_else(|_| Err(self.inner.client.unavailable(format!("no answer within {SHUTDOWN_TIMEOUT:?}"))))
    }

    fn status(&self) -> RegistryStatus {
        RegistryStatus { contested: self.inner.contested.borrow().clone(), ..self.inner.client.status() }
    }
}

impl State {
    fn owned_entries(&self) -> LeasedEntries {
        let own = self.own.iter().map(|(key, value)| (key, value, LeaseKind::Host));
        let shared = self.shared.iter().map(|(key, shared)| (key, &shared.value, LeaseKind::Shared));
        // Contested entries are watched by the registry itself, so that they are not put again at every turn.
        let contested = self.contested.iter().map(|(key, contested)| (key, &contested.value, LeaseKind::Host));
        own.chain(shared)
            .chain(contested)
            .map(|(key, value, lease)| (key.clone(), LeasedValue { value: value.clone(), lease }))
            .collect()
    }
}

impl Inner {
    /// Resumes or grants the lease, and keeps it and the shared entries alive from now on.
    async fn open(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        *state = State::default();
        self.show_contested(state);
        let (id, own) = self.leases.open().await?;
        state.own = own;
        self.leases.set(Lease::Alive(id));
        let inner = self.clone();
        tokio::spawn(self.clone().while_alive(id, async move { inner.leases.keep_alive(id).await }));
        let inner = self.clone();
        tokio::spawn(self.clone().while_alive(id, async move { inner.keep_entries(id).await }));
        Ok(())
    }

    /// Runs `task` until the lease is another's or the registry is dropped.
    async fn while_alive(self: Arc<Self>, id: i64, task: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => {}
            () = self.leases.until(|lease| lease != Lease::Alive(id)) => {}
            () = task => {}
        }
    }

    /// Keeps the shared entries there: keeps their leases alive and puts back what is gone; takes over what others leave.
    async fn keep_entries(&self, id: i64) {
        let interval = self.leases.interval();
        let mut backoff = Backoff::new(interval / 16, interval);
        let mut pause = interval;
        loop {
            sleep(pause).await;
            match self.keep_entries_once(id).await {
                Ok(()) => {
                    backoff.reset();
                    pause = interval;
                }
                Err(error) => {
                    debug!(%error, "cannot keep the shared entries; retrying");
                    pause = backoff.next_delay();
                }
            }
        }
    }

    async fn keep_entries_once(&self, id: i64) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        self.keep_shared_alive(&state).await?;
        self.check_shared(&mut state, id).await?;
        self.check_contested(&mut state, id).await
    }

    /// Compares what is believed with what etcd has: one look at the lease, one at the shared keys, and values only
    /// of what is new under the lease or was written over.
    async fn verify(self: &Arc<Self>, state: &mut State, id: i64) -> Result<(), Error> {
        let Some(found) = self.client.living(id).await? else { return self.open(state).await };
        state.own.retain(|key, _| found.keys.contains(key));
        let unknown = found.keys.iter().filter(|key| !state.own.contains_key(*key)).cloned();
        let mut unsure: Vec<String> = unknown.collect();
        unsure.extend(self.overwritten(&state.own).await?);
        let known = self.client.held(unsure.iter().map(String::as_str), id).await?;
        for key in &unsure {
            state.own.remove(key);
        }
        state.own.extend(known);
        self.check_shared(state, id).await?;
        self.check_contested(state, id).await
    }

    /// Ends the tasks, and takes everything back or gives the next process all the time there is.
    async fn shut_down(&self, mode: ShutdownMode) -> Result<(), Error> {
        let Lease::Alive(id) = self.leases.set(Lease::None) else { return Ok(()) };
        if mode == ShutdownMode::KeepLease {
            self.client.keep_alive(id).await?;
            let state = self.state.lock().await;
            return self.keep_shared_alive(&state).await;
        }
        self.client.revoke(id).await?;
        self.leases.forget().await;
        let mut state = self.state.lock().await;
        state.own.clear();
        state.contested.clear();
        self.show_contested(&state);
        while let Some(key) = state.shared.keys().next().cloned() {
            self.release(&mut state, id, &key).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connecting_needs_no_etcd() {
        let registry = connect(options("http://127.0.0.1:1")).unwrap();
        let error = registry.owned_entries(Source::Cached).await.unwrap_err();
        assert!(!error.is_permanent() && error.to_string().contains("http://127.0.0.1:1"), "{error}");
        assert!(!registry.status().connected);
        registry.withdraw(ShutdownMode::Revoke).await.unwrap();
    }
}
