//! What the tests of the registry have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tokio::time::Instant;
use waypost::model::{LeaseKind, LeasedEntries, LeasedValue};
use waypost::registry::etcd::{EtcdOptions, connect};
use waypost::registry::{Registry, Source, WatchReceiver, plan};
use waypost_test_support::{eventually_async, holds};

use crate::server::Server;

/// Time to live of the leases in tests; etcd grants no less than two seconds.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// No test waits longer for one value.
pub(crate) const DEADLINE: Duration = Duration::from_mins(4);

/// Options for a server without users or TLS.
pub(crate) fn options(server: &Server) -> EtcdOptions {
    EtcdOptions { endpoints: vec![server.endpoint()], ttl: TTL, ..EtcdOptions::default() }
}

/// An agent's registry that remembers nothing on disk.
pub(crate) fn agent(server: &Server) -> Arc<dyn Registry> {
    connect(options(server)).unwrap()
}

/// An agent's registry that remembers its lease in `directory`.
pub(crate) fn agent_in(server: &Server, directory: &Path) -> Arc<dyn Registry> {
    connect(EtcdOptions { state_dir: Some(directory.to_owned()), ..options(server) }).unwrap()
}

/// A client of the tests' own.
pub(crate) async fn client(server: &Server) -> Client {
    Client::connect([server.endpoint()], None).await.unwrap()
}

/// Entries of the host's own.
pub(crate) fn own(entries: &[(&str, &str)]) -> LeasedEntries {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).into(), LeasedValue { value: (*value).into(), lease: LeaseKind::Host }))
        .collect()
}

/// The same with one shared entry more.
pub(crate) fn with_shared(mut desired: LeasedEntries, key: &str, value: &str) -> LeasedEntries {
    desired.insert(key.into(), LeasedValue { value: value.into(), lease: LeaseKind::Shared });
    desired
}

/// One turn of the register loop, as it is made after an event; the number of steps it took.
pub(crate) async fn register(registry: &dyn Registry, desired: &LeasedEntries, source: Source) -> usize {
    let steps = plan(&registry.owned_entries(source).await.unwrap(), desired);
    registry.apply(&steps).await.unwrap();
    steps.len()
}

/// Turns until one succeeds and leaves nothing to do.
pub(crate) async fn register_at_last(registry: &dyn Registry, desired: &LeasedEntries) {
    eventually_async(DEADLINE, "registered", async || {
        let held = registry.owned_entries(Source::Fresh).await?;
        let steps = plan(&held, desired);
        registry.apply(&steps).await?;
        holds(steps.is_empty(), steps)
    })
    .await;
}

/// Waits until etcd has a value of `key`, or none, that is as wanted.
pub(crate) async fn until_stored(what: &str, client: &Client, key: &str, is_wanted: impl Fn(Option<&str>) -> bool) {
    eventually_async(DEADLINE, what, async || {
        let seen = stored(client, key).await;
        holds(is_wanted(seen.as_ref().map(|(value, _)| value.as_str())), seen)
    })
    .await;
}

/// Waits until exactly these entries are watched.
pub(crate) async fn follows(watched: &mut WatchReceiver, expected: &[(&str, &str)]) {
    let mut seen = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(entries) = &*watched.borrow_and_update() {
            seen = entries.iter().map(|(key, stored)| (key.to_string(), stored.value.to_string())).collect::<Vec<_>>();
            let as_str: Vec<_> = seen.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            if as_str == expected {
                return;
            }
        }
        let changed = tokio::time::timeout_at(deadline, watched.changed()).await;
        assert!(matches!(changed, Ok(Ok(()))), "watched {seen:?} instead of {expected:?}");
    }
}

/// The keys that are watched, the oldest first.
pub(crate) fn by_age(watched: &WatchReceiver) -> Vec<String> {
    let shown = watched.borrow();
    let mut keys: Vec<_> = shown.iter().flatten().map(|(key, stored)| (stored.created, key.to_string())).collect();
    keys.sort();
    keys.into_iter().map(|(_, key)| key).collect()
}

/// A key's value and the revision it was written at, as etcd has it.
pub(crate) async fn stored(client: &Client, key: &str) -> Option<(String, i64)> {
    let answer = client.kv_client().get(key, None).await.ok()?;
    let kv = answer.kvs().first()?;
    Some((kv.value_str().unwrap().to_owned(), kv.mod_revision()))
}

/// The revision of the whole store.
pub(crate) async fn revision(client: &Client) -> i64 {
    client.kv_client().get("/", None).await.unwrap().header().unwrap().revision()
}
