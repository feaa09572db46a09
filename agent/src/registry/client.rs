//! Calls to etcd: with a time limit, over all endpoints, signed in, and with errors that say what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{
    GetOptions, GetResponse, KeyValue, KvClient, LeaseClient, LeaseTimeToLiveOptions, ResponseHeader, Txn, TxnOp,
    TxnOpResponse, TxnResponse, WatchClient,
};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::batch::MAX_OPERATIONS;
use super::options::{EtcdOptions, connect_options, endpoints};
use super::reason::{self, code, is_connection, is_token, naming, reason, remedy};
use super::{Error, RegistryStatus};

/// Longest answer that the client takes, in bytes: a watch that catches up gets a thousand revisions in one message,
/// and the library's own 4 MiB would then fail on every try.
pub(super) const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Until the end of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries for each endpoint on average before a call fails: the library may choose a dead one several times in a row.
const TRIES: usize = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// A connection to an etcd cluster; the first call makes it, and a call after it broke makes it again.
pub(super) struct Client {
    description: String,
    endpoints: usize,
    etcd: etcd_client::Client,
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    user: Option<(String, String)>,
    signed_in: OnceCell<()>,
    answered: AtomicBool,
    contact: Mutex<Option<Result<(), Error>>>,
}

/// What etcd says of a lease that has not ended.
pub(super) struct FoundLease {
    /// The cluster that granted it.
    pub(super) cluster: u64,
    /// The keys under it, without those that are no text.
    pub(super) keys: BTreeSet<String>,
}

impl Client {
    /// Prepares a connection without making one; fails on options that cannot work.
    pub(super) fn new(options: &EtcdOptions) -> Result<Client, Error> {
        let endpoints = endpoints(options)?;
        let description = format!("etcd {}", endpoints.join(","));
        let refused = |reason: String| Error::Refused {
            registry: description.clone(),
            what: "connect".into(),
            reason,
            remedy: "check registry.endpoints, ca-file, cert-file and key-file".into(),
        };
        // Without a user the library sends nothing, so the future is done at once.
        let etcd = etcd_client::Client::connect(&endpoints, Some(connect_options(options)))
            .now_or_never()
            .ok_or_else(|| refused("the client library waited".into()))?
            .map_err(|error| refused(reason(&error)))?;
        Ok(Client {
            kv: etcd.kv_client().max_decoding_message_size(MAX_ANSWER),
            watch: etcd.watch_client().max_decoding_message_size(MAX_ANSWER),
            lease: etcd.lease_client(),
            etcd,
            endpoints: endpoints.len(),
            user: options.username.clone().zip(options.password.clone()),
            signed_in: OnceCell::new(),
            answered: AtomicBool::new(false),
            contact: Mutex::new(None),
            description,
        })
    }

    pub(super) fn status(&self) -> RegistryStatus {
        let contact = self.contact.lock().clone();
        RegistryStatus {
            description: self.description.clone(),
            connected: contact.as_ref().is_some_and(|contact| !matches!(contact, Err(Error::Unavailable { .. }))),
            error: contact.and_then(Result::err).map(|error| error.to_string()),
            ..RegistryStatus::default()
        }
    }

    /// Calls etcd. When an endpoint is down or a connection broke, it calls again at once, because the library does
    /// not: so every request must bear to be carried out twice.
    pub(super) async fn call<T, F>(&self, what: &str, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let result = match self.sign_in().await {
            Ok(()) => self.attempts(what, request).await,
            Err(error) => Err(error),
        };
        let contact = match &result {
            Ok(_) | Err(Error::LeaseLost { .. }) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.clone()),
        };
        *self.contact.lock() = Some(contact);
        result
    }

    async fn attempts<T, F>(&self, what: &str, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match timeout(ANSWER_TIMEOUT, request()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if attempt <= self.endpoints * TRIES && is_connection(&error) => {
                    tokio::time::sleep(PAUSE).await;
                }
                // The library renews an expired token, but not one from before users or roles were changed.
                Ok(Err(error)) if attempt == 1 && self.user.is_some() && is_token(&reason(&error)) => {
                    self.etcd.refresh_token().await.map_err(|error| self.error("sign in again", &error))?;
                }
                Ok(Err(error)) => return Err(self.error(what, &error)),
                Err(_) => return Err(self.unavailable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
            }
        }
    }

    /// Signs in once; later the library renews the token when a call finds it expired.
    async fn sign_in(&self) -> Result<(), Error> {
        if self.user.is_none() {
            return Ok(());
        }
        let sign_in = || async { self.etcd.clone().update_user(self.user.clone()).await };
        self.signed_in.get_or_try_init(|| self.attempts("sign in", sign_in)).await.copied()
    }

    /// Renews the token, which a watch cannot do by itself.
    pub(super) async fn renew_token(&self) -> Result<(), Error> {
        self.call("sign in again", || self.etcd.refresh_token()).await
    }

    pub(super) async fn transact(&self, what: &str, txn: Txn) -> Result<TxnResponse, Error> {
        self.call(what, || async { self.kv.clone().txn(txn.clone()).await }).await
    }

    pub(super) async fn range(&self, key: &[u8], options: GetOptions) -> Result<GetResponse, Error> {
        let what = format!("list {}", String::from_utf8_lossy(key));
        self.call(&what, || async { self.kv.clone().get(key, Some(options.clone())).await }).await
    }

    /// Reads `keys`, in their order; `None` stands for a key that is not there.
    pub(super) async fn read<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Option<KeyValue>>, Error> {
        let keys: Vec<&str> = keys.into_iter().collect();
        let mut found = Vec::with_capacity(keys.len());
        // A value has up to half a megabyte, so this many always fit an answer.
        for keys in keys.chunks(MAX_OPERATIONS) {
            let what = naming("read", keys[0], keys.len());
            let reads: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(*key, None)).collect();
            let answer = self.transact(&what, Txn::new().and_then(reads)).await?;
            found.extend(answer.op_responses().into_iter().map(|answer| match answer {
                TxnOpResponse::Get(mut got) => got.take_kvs().pop(),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Reads those of `keys` that are under `lease`. Leaves out values that are no text.
    pub(super) async fn read_held<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a str>,
        lease: i64,
    ) -> Result<BTreeMap<String, Arc<str>>, Error> {
        let found = self.read(keys).await?;
        let mine = found.iter().flatten().filter(|kv| kv.lease() == lease);
        Ok(mine.filter_map(|kv| Some((kv.key_str().ok()?.to_owned(), kv.value_str().ok()?.into()))).collect())
    }

    /// Grants a lease; returns its id and the cluster's.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<(i64, u64), Error> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let granted = self.call("grant a lease", || async { self.lease.clone().grant(seconds, None).await });
        let answer = granted.await?;
        Ok((answer.id(), answer.header().map_or(0, ResponseHeader::cluster_id)))
    }

    /// Keeps a lease alive once; returns whether it is still there. An error says nothing about the lease.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<bool, Error> {
        let keep_alive = || async {
            match self.lease.clone().keep_alive(id).await {
                Ok(_) => Ok(true),
                Err(etcd_client::Error::LeaseKeepAliveError(text)) if text.contains("not found") => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.call("keep a lease alive", keep_alive).await
    }

    /// Looks at a lease; `None` when it has ended.
    pub(super) async fn find_lease(&self, id: i64) -> Result<Option<FoundLease>, Error> {
        let options = || Some(LeaseTimeToLiveOptions::new().with_keys());
        let found = self.call("look at a lease", || async { self.lease.clone().time_to_live(id, options()).await });
        let answer = found.await?;
        let cluster = answer.header().map_or(0, ResponseHeader::cluster_id);
        let keys = answer.keys().iter().filter_map(|key| String::from_utf8(key.clone()).ok()).collect();
        Ok((answer.ttl() > 0).then_some(FoundLease { cluster, keys }))
    }

    /// Revokes a lease, which deletes its keys in one revision; a lease that is gone already is fine.
    pub(super) async fn revoke(&self, id: i64) -> Result<(), Error> {
        match self.call("end a lease", || async { self.lease.clone().revoke(id).await }).await {
            Ok(_) | Err(Error::LeaseLost { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A client for opening a watch.
    pub(super) fn watch(&self) -> WatchClient {
        self.watch.clone()
    }

    /// The error of a call without an answer; has a hint while there never was one.
    pub(super) fn unavailable(&self, mut reason: String) -> Error {
        if !self.answered.load(Ordering::Relaxed) {
            reason.push_str(" (no answer so far: check the address, http or https, and client certificates)");
        }
        Error::Unavailable { registry: self.description.clone(), reason }
    }

    pub(super) fn lease_lost(&self) -> Error {
        Error::LeaseLost { registry: self.description.clone() }
    }

    pub(super) fn refused(&self, what: &str, reason: String, remedy: &str) -> Error {
        Error::Refused { registry: self.description.clone(), what: what.into(), reason, remedy: remedy.into() }
    }

    /// What an error of the library means for the caller.
    pub(super) fn error(&self, what: &str, error: &etcd_client::Error) -> Error {
        let text = reason(error);
        if text.contains("requested lease not found") {
            return self.lease_lost();
        }
        match (code(error), remedy(&text)) {
            (_, Some(remedy)) => self.refused(what, text, remedy),
            (Some(code), None) if reason::is_final(code) && !is_token(&text) => {
                self.refused(what, text, "see etcd's own log")
            }
            _ => self.unavailable(text),
        }
    }
}
