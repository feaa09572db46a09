//! The registry in etcd v3.
//!
//! One lease per agent holds the entries of its own; each shared entry has a lease of its own, which all hosts that
//! give the entry keep alive. A task runs while the agent's lease lives: it keeps that lease alive and the shared
//! entries there. It ends when the registry is dropped.
//!
//! A file uses only files before it: `options`; `client`, the calls to etcd; `lease`; `session`, what the agent holds;
//! `planner`, which decides and returns actions; `executor`, which carries the actions out; `watch`; and this one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::client::Client;
use super::executor::Executor;
use super::lease::{Lease, Leases};
use super::session::Session;
use super::watch::watch_prefixes;
use super::{Error, Registry, RegistryStatus, ShutdownMode, Source, Step, WatchReceiver};
use crate::backoff::Backoff;
use crate::model::LeasedEntries;

pub use super::options::EtcdOptions;

/// Longest time of a withdrawal; when etcd is away the entries end with the lease.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Prepares a registry in etcd without waiting for it; refuses options that cannot work. Needs a tokio runtime.
pub fn connect(options: EtcdOptions) -> Result<Arc<dyn Registry>, Error> {
    let client = Arc::new(Client::new(&options)?);
    let dropped = CancellationToken::new();
    let leases = Arc::new(Leases::new(client.clone(), options.ttl, options.state_dir));
    let executor = Executor::new(client.clone(), leases.clone(), options.node);
    let inner = Inner { client, leases, executor, session: Mutex::default(), dropped: dropped.clone() };
    Ok(Arc::new(Etcd { inner: Arc::new(inner), _dropped: dropped.drop_guard() }))
}

struct Etcd {
    inner: Arc<Inner>,
    _dropped: DropGuard,
}

/// What the registry and its task share.
struct Inner {
    client: Arc<Client>,
    leases: Arc<Leases>,
    executor: Executor,
    /// Locked for the whole of an operation, so that operations do not cross.
    session: Mutex<Session>,
    /// Fires when the registry is dropped.
    dropped: CancellationToken,
}

#[async_trait::async_trait]
impl Registry for Etcd {
    fn watch(&self, prefixes: Vec<String>) -> WatchReceiver {
        watch_prefixes(self.inner.client.clone(), self.inner.dropped.clone(), prefixes)
    }

    async fn owned_entries(&self, source: Source) -> Result<LeasedEntries, Error> {
        let mut session = self.inner.session.lock().await;
        match (self.inner.leases.current(), source) {
            (Lease::Alive(_), Source::Cached) => {}
            (Lease::Alive(id), Source::Fresh) => self.inner.verify(&mut session, id).await?,
            (Lease::None | Lease::Lost, _) => {
                // A caller who waits for the loss must not spin while etcd is away.
                self.inner.leases.set(Lease::None);
                self.inner.open(&mut session).await?;
            }
        }
        Ok(session.owned_entries())
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), Error> {
        let mut session = self.inner.session.lock().await;
        match self.inner.leases.current() {
            Lease::Alive(_) => self.inner.executor.carry_out(&mut session, steps).await,
            Lease::None | Lease::Lost => Err(self.inner.client.lease_lost()),
        }
    }

    async fn lease_lost(&self) {
        self.inner.leases.wait_until(|lease| lease == Lease::Lost).await;
    }

    async fn withdraw(&self, mode: ShutdownMode) -> Result<(), Error> {
        let done = timeout(SHUTDOWN_TIMEOUT, self.inner.shut_down(mode)).await;
        done.unwrap_or_else(|_| Err(self.inner.client.unavailable(format!("no answer within {SHUTDOWN_TIMEOUT:?}"))))
    }

    fn status(&self) -> RegistryStatus {
        RegistryStatus { contested: self.inner.executor.contested(), ..self.inner.client.status() }
    }
}

impl Inner {
    /// Resumes or grants the lease; starts the task that keeps it and the shared entries alive.
    async fn open(self: &Arc<Self>, session: &mut Session) -> Result<(), Error> {
        *session = Session::default();
        self.executor.show_contested(session);
        let (id, own) = self.leases.open().await?;
        *session = Session::new(id, own);
        self.leases.set(Lease::Alive(id));
        let inner = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = inner.dropped.cancelled() => {}
                () = inner.leases.wait_until(|lease| lease != Lease::Alive(id)) => {}
                () = inner.leases.keep_alive(id) => {}
                () = inner.keep_entries() => {}
            }
        });
        Ok(())
    }

    /// Keeps the leases of shared entries alive, restores what is gone, and takes over what others leave.
    async fn keep_entries(&self) {
        let interval = self.leases.interval();
        let mut backoff = Backoff::new(interval / 16, interval);
        let mut pause = interval;
        loop {
            sleep(pause).await;
            pause = match self.keep_entries_once().await {
                Ok(()) => {
                    backoff.reset();
                    interval
                }
                Err(error) => {
                    debug!(%error, "cannot keep the shared entries; retrying");
                    backoff.next_delay()
                }
            };
        }
    }

    async fn keep_entries_once(&self) -> Result<(), Error> {
        let mut session = self.session.lock().await;
        self.leases.keep_all_alive(session.shared_leases()).await?;
        self.executor.restore(&mut session).await
    }

    /// Compares the session with what etcd has: looks at the lease and at the shared keys, and reads only the values
    /// that are new under the lease or that others have written over.
    async fn verify(self: &Arc<Self>, session: &mut Session, id: i64) -> Result<(), Error> {
        let Some(found) = self.client.find_lease(id).await? else { return self.open(session).await };
        self.executor.check_own(session, &found.keys).await?;
        self.executor.restore(session).await
    }

    /// Ends the task; revokes everything, or keeps all leases alive once more for the next process.
    async fn shut_down(&self, mode: ShutdownMode) -> Result<(), Error> {
        let Lease::Alive(id) = self.leases.set(Lease::None) else { return Ok(()) };
        if mode == ShutdownMode::KeepLease {
            self.client.keep_alive(id).await?;
            let session = self.session.lock().await;
            return self.leases.keep_all_alive(session.shared_leases()).await;
        }
        self.client.revoke(id).await?;
        self.leases.forget().await;
        let mut session = self.session.lock().await;
        session.own.clear();
        session.contested.clear();
        self.executor.show_contested(&session);
        let releases: Vec<Step> = session.shared.keys().map(|key| Step::Release { key: key.clone() }).collect();
        self.executor.carry_out(&mut session, &releases).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connecting_needs_no_etcd() {
        let endpoints = vec!["http://127.0.0.1:1".into()];
        let options = EtcdOptions { endpoints, ttl: Duration::from_secs(15), ..EtcdOptions::default() };
        let registry = connect(options).unwrap();
        let error = registry.owned_entries(Source::Cached).await.unwrap_err();
        assert!(!error.is_permanent() && error.to_string().contains("http://127.0.0.1:1"), "{error}");
        assert!(!registry.status().connected);
        registry.withdraw(ShutdownMode::Revoke).await.unwrap();
    }
}
