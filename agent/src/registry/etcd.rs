//! The registry in etcd v3.
//!
//! One lease per agent holds the entries of its own; each shared entry has a lease of its own, which all hosts that
//! give the entry keep alive. Two tasks run while the agent's lease lives: one keeps it alive, one keeps the shared
//! entries there. They end when the registry is dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::claim::Contested;
use super::client::Client;
use super::lease::{Lease, values};
use super::shared::Shared;
use super::watch::watch_prefixes;
use super::{Error, Registry, RegistryStatus, ShutdownMode, Source, Step, WatchReceiver};
use crate::model::{LeaseKind, LeasedEntries, LeasedValue, Node};

/// Longest time that taking everything back may take; when etcd is away the entries end with the lease.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach etcd, and as whom.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`, all of one cluster.
    pub endpoints: Vec<String>,
    /// Time to live of the leases, in whole seconds; etcd grants no less than 2.
    pub ttl: Duration,
    /// User to sign in as; needs `password`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Certificates of the authority that signed etcd's, PEM; needed for `https`.
    pub ca_pem: Option<Vec<u8>>,
    /// Certificate to present to etcd, PEM; needs `key_pem`.
    pub cert_pem: Option<Vec<u8>>,
    /// Its private key, PEM.
    pub key_pem: Option<Vec<u8>>,
    /// Where the lease is remembered for the next process; nowhere when absent.
    pub state_dir: Option<PathBuf>,
    /// The host, by which an agent that is started again knows its own keys from those of others.
    pub node: Option<Arc<Node>>,
}

/// Prepares a registry in etcd without waiting for it; refuses options that cannot work. Call it within a tokio runtime.
pub fn connect(options: EtcdOptions) -> Result<Arc<dyn Registry>, Error> {
    let endpoints = check(&options)?;
    let dropped = CancellationToken::new();
    let inner = Inner {
        client: Client::new(&options, &endpoints)?,
        ttl: options.ttl,
        state_dir: options.state_dir,
        node: options.node,
        contested: watch::Sender::default(),
        state: Mutex::default(),
        lease: watch::Sender::new(Lease::None),
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
    pub(super) client: Client,
    pub(super) ttl: Duration,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) node: Option<Arc<Node>>,
    /// What is left to other hosts, in words.
    pub(super) contested: watch::Sender<BTreeMap<String, String>>,
    /// What is believed to be held; locked for the whole of an operation, so that they do not cross.
    pub(super) state: Mutex<State>,
    pub(super) lease: watch::Sender<Lease>,
    /// Fires when the registry is dropped.
    pub(super) dropped: CancellationToken,
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
        watch_prefixes(self.inner.clone(), prefixes)
    }

    async fn owned_entries(&self, source: Source) -> Result<LeasedEntries, Error> {
        let mut state = self.inner.state.lock().await;
        let current = *self.inner.lease.borrow();
        match (current, source) {
            (Lease::Alive(_), Source::Cached) => {}
            (Lease::Alive(id), Source::Fresh) => self.inner.verify(&mut state, id).await?,
            (Lease::None | Lease::Lost, _) => {
                // From here on there is none, so that a caller who waits for the loss does not spin while etcd is away.
                self.inner.lease.send_replace(Lease::None);
                self.inner.open(&mut state).await?;
            }
        }
        Ok(state.owned_entries())
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), Error> {
        let mut state = self.inner.state.lock().await;
        let current = *self.inner.lease.borrow();
        match current {
            Lease::Alive(id) => self.inner.carry_out(&mut state, id, steps).await,
            Lease::None | Lease::Lost => Err(self.inner.client.lease_lost()),
        }
    }

    async fn lease_lost(&self) {
        let mut lease = self.inner.lease.subscribe();
        // The sender lives as long as `self`, so this cannot end early.
        drop(lease.wait_for(|lease| *lease == Lease::Lost).await);
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
    /// Compares what is believed with what etcd has: one look at the lease, one at the shared keys, and values only
    /// of what is new under the lease or was written over.
    async fn verify(self: &Arc<Self>, state: &mut State, id: i64) -> Result<(), Error> {
        let found = self.client.time_to_live(id).await?;
        if found.ttl() <= 0 {
            self.open(state).await?;
            return Ok(());
        }
        let keys: BTreeMap<&str, &Vec<u8>> =
            found.keys().iter().filter_map(|key| Some((std::str::from_utf8(key).ok()?, key))).collect();
        state.own.retain(|key, _| keys.contains_key(key.as_str()));
        let unknown = keys.iter().filter(|(key, _)| !state.own.contains_key(**key)).map(|(_, key)| (*key).clone());
        let mut unsure: Vec<Vec<u8>> = unknown.collect();
        unsure.extend(self.overwritten(&state.own).await?);
        let known = values(&self.client, &unsure, id).await?;
        for key in unsure.iter().filter_map(|key| std::str::from_utf8(key).ok()) {
            state.own.remove(key);
        }
        state.own.extend(known);
        self.check_shared(state, id).await?;
        self.check_contested(state, id).await
    }

    /// Ends the tasks, and takes everything back or gives the next process all the time there is.
    async fn shut_down(&self, mode: ShutdownMode) -> Result<(), Error> {
        let Lease::Alive(id) = self.lease.send_replace(Lease::None) else { return Ok(()) };
        if mode == ShutdownMode::KeepLease {
            self.client.keep_alive(id).await?;
            let state = self.state.lock().await;
            return self.keep_shared_alive(&state).await;
        }
        self.client.revoke(id).await?;
        self.forget().await;
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

/// The endpoints in full, or why the options cannot work.
fn check(options: &EtcdOptions) -> Result<Vec<String>, Error> {
    let refused = |reason: String, remedy: &str| Error::Refused {
        registry: "etcd".into(),
        what: "connect".into(),
        reason,
        remedy: remedy.into(),
    };
    let tls = options.ca_pem.is_some();
    if options.endpoints.is_empty() {
        return Err(refused(
            "no endpoint is given".into(),
            "set registry.endpoints, for example [\"http://10.0.0.1:2379\"]",
        ));
    }
    if options.cert_pem.is_some() != options.key_pem.is_some() || (options.cert_pem.is_some() && !tls) {
        return Err(refused(
            "a part of the TLS files is missing".into(),
            "set ca-file, cert-file and key-file together",
        ));
    }
    for (name, pem, word) in [
        ("ca-file", &options.ca_pem, "CERTIFICATE-----"),
        ("cert-file", &options.cert_pem, "CERTIFICATE-----"),
        ("key-file", &options.key_pem, "PRIVATE KEY-----"),
    ] {
        let text = pem.as_deref().map(String::from_utf8_lossy);
        if text.is_some_and(|text| !text.contains("-----BEGIN ") || !text.contains(word)) {
            return Err(refused(format!("{name} has no line that ends in {word}"), "give the file in PEM form"));
        }
    }
    if options.username.is_some() != options.password.is_some() {
        return Err(refused("user or password is missing".into(), "set username and password-file together"));
    }
    let endpoints = options.endpoints.iter().map(|endpoint| {
        let endpoint = endpoint.trim().trim_end_matches('/');
        match endpoint.split_once("://") {
            Some(("https", _)) if !tls => Err(refused(
                format!("endpoints has {endpoint}, which needs TLS"),
                "set ca-file to the authority that signed etcd's certificate",
            )),
            Some(("http", _)) if tls => Err(refused(
                format!("endpoints has {endpoint}, which is without TLS"),
                "write https://, or remove ca-file",
            )),
            Some(("http" | "https", host)) if !host.is_empty() => Ok(endpoint.to_owned()),
            None if !endpoint.is_empty() => Ok(format!("{}://{endpoint}", if tls { "https" } else { "http" })),
            _ => Err(refused(format!("{endpoint:?} is no endpoint"), "write http://host:port or https://host:port")),
        }
    });
    endpoints.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: &str) -> EtcdOptions {
        EtcdOptions { endpoints: vec![endpoint.into()], ttl: Duration::from_secs(15), ..EtcdOptions::default() }
    }

    #[test]
    fn endpoints_are_completed() {
        for (given, full) in [
            ("http://10.0.0.1:2379", "http://10.0.0.1:2379"),
            ("10.0.0.1:2379", "http://10.0.0.1:2379"),
            (" http://etcd:2379/ ", "http://etcd:2379"),
        ] {
            assert_eq!(check(&options(given)).unwrap(), [full]);
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused_with_a_remedy() {
        let with_user = EtcdOptions { username: Some("root".into()), ..options("http://etcd:2379") };
        let ca = Some(b"-----BEGIN CERTIFICATE-----".to_vec());
        let with_ca = EtcdOptions { ca_pem: ca, ..options("http://etcd:2379") };
        let with_other = EtcdOptions { ca_pem: Some(b"\x30\x82".to_vec()), ..options("https://etcd:2379") };
        for (given, word) in [
            (EtcdOptions::default(), "registry.endpoints"),
            (options("https://etcd:2379"), "ca-file"),
            (options("ftp://etcd"), "http://host:port"),
            (options(""), "http://host:port"),
            (with_user, "password-file"),
            (with_ca, "https://"),
            (with_other, "PEM"),
        ] {
            let error = check(&given).unwrap_err();
            assert!(error.is_permanent() && error.to_string().contains(word), "{error}");
        }
    }

    #[tokio::test]
    async fn connecting_needs_no_etcd() {
        let registry = connect(options("http://127.0.0.1:1")).unwrap();
        let error = registry.owned_entries(Source::Cached).await.unwrap_err();
        assert!(!error.is_permanent() && error.to_string().contains("http://127.0.0.1:1"), "{error}");
        assert!(!registry.status().connected);
        registry.withdraw(ShutdownMode::Revoke).await.unwrap();
    }
}
