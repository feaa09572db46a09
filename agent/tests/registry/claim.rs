//! Keys that two hosts write: whoever has one keeps it, the other says so and waits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;
use waypost::model::{AGENTS, LeasedEntries, Node, Presence, PresenceState};
use waypost::registry::etcd::{EtcdOptions, connect};
use waypost::registry::{Registry, ShutdownMode, Source, Step};
use waypost_test_support::{eventually_async, holds};

use crate::server::Server;
use crate::tools::{DEADLINE, TTL, client, options, own, register, revision, stored, until_stored};

const KEY: &str = "/announce/web";

fn node(name: &str, address: &str) -> Node {
    Node { name: name.into(), address: address.into(), attributes: BTreeMap::new() }
}

/// A host's registry, which knows whose it is.
fn host(server: &Server, node: &Node, state_dir: Option<&Path>) -> Arc<dyn Registry> {
    let (node, state_dir) = (Some(Arc::new(node.clone())), state_dir.map(Path::to_owned));
    connect(EtcdOptions { node, state_dir, ..options(server) }).unwrap()
}

/// `KEY` with this value, and the agent's own key.
fn desired(node: &Node, value: &str) -> LeasedEntries {
    own(&[(KEY, value), (&Presence::key(&node.name), &Presence::new(node, PresenceState::Here).to_text())])
}

fn contested(registry: &dyn Registry) -> Vec<String> {
    registry.status().contested.into_iter().map(|(key, text)| format!("{key}: {text}")).collect()
}

#[tokio::test]
async fn the_first_host_keeps_a_key_until_it_leaves() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let (a, b) = (node("a", "10.0.0.1"), node("b", "10.0.0.2"));
    let (one, two) = (host(&server, &a, None), host(&server, &b, None));
    register(&*one, &desired(&a, "one"), Source::Cached).await;
    register(&*two, &desired(&b, "two"), Source::Cached).await;
    let told = contested(&*two);
    assert!(told.len() == 1 && told[0].starts_with("/announce/web: host a at 10.0.0.1 holds it"), "{told:?}");
    assert_eq!(contested(&*one), [""; 0]);
    assert!(stored(&etcd, &Presence::key("b")).await.is_some(), "what is not contested is written");

    // Neither writes over the other, however often they compare.
    let before = revision(&etcd).await;
    let began = Instant::now();
    eventually_async(DEADLINE, "three times the lease", async || {
        assert_eq!(register(&*one, &desired(&a, "one"), Source::Fresh).await, 0);
        assert_eq!(register(&*two, &desired(&b, "two"), Source::Fresh).await, 0);
        holds(began.elapsed() > 3 * TTL, began.elapsed())
    })
    .await;
    assert_eq!(revision(&etcd).await, before);
    assert_eq!(stored(&etcd, KEY).await.unwrap().0, "one");

    one.withdraw(ShutdownMode::Revoke).await.unwrap();
    until_stored("the other takes it over", &etcd, KEY, |seen| seen == Some("two")).await;
    eventually_async(DEADLINE, "nothing is contested", async || holds(contested(&*two).is_empty(), contested(&*two)))
        .await;
    assert_eq!(register(&*two, &desired(&b, "two"), Source::Fresh).await, 0);
    two.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, KEY).await, None, "it hung on the other's lease");
}

#[tokio::test]
async fn a_killed_holder_is_followed_after_its_lease() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let (a, b) = (node("a", "10.0.0.1"), node("b", "10.0.0.2"));
    let (one, two) = (host(&server, &a, None), host(&server, &b, None));
    register(&*one, &desired(&a, "one"), Source::Cached).await;
    register(&*two, &desired(&b, "two"), Source::Cached).await;
    drop(one);
    until_stored("the other takes it over", &etcd, KEY, |seen| seen == Some("two")).await;
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_left_to_its_holder() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let (a, b) = (node("a", "10.0.0.1"), node("b", "10.0.0.2"));
    let (one, two) = (host(&server, &a, None), host(&server, &b, None));
    register(&*one, &desired(&a, "one"), Source::Cached).await;
    register(&*two, &desired(&b, "two"), Source::Cached).await;
    register(&*two, &own(&[]), Source::Cached).await;
    assert_eq!(contested(&*two), [""; 0]);
    assert_eq!(stored(&etcd, KEY).await.unwrap().0, "one");
}

#[tokio::test]
async fn an_agent_started_again_without_its_state_takes_its_keys_over_at_once() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let a = node("a", "10.0.0.1");
    let first = host(&server, &a, None);
    register(&*first, &desired(&a, "one"), Source::Cached).await;
    drop(first);
    // Its container has another port by now.
    let second = host(&server, &a, None);
    register(&*second, &desired(&a, "two"), Source::Cached).await;
    assert_eq!(stored(&etcd, KEY).await.unwrap().0, "two");
    assert_eq!(contested(&*second), [""; 0]);
    let began = Instant::now();
    eventually_async(DEADLINE, "the first lease has ended", async || {
        assert!(stored(&etcd, KEY).await.is_some(), "the key went with the lease of the first life");
        holds(began.elapsed() > 2 * TTL, began.elapsed())
    })
    .await;
}

#[tokio::test]
async fn an_agent_with_its_state_resumes_what_is_contested_elsewhere() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (node("a", "10.0.0.1"), node("b", "10.0.0.2"));
    let (one, two) = (host(&server, &a, Some(state.path())), host(&server, &b, None));
    register(&*one, &desired(&a, "one"), Source::Cached).await;
    register(&*two, &desired(&b, "two"), Source::Cached).await;
    let before = stored(&etcd, KEY).await;
    one.withdraw(ShutdownMode::KeepLease).await.unwrap();
    drop(one);
    let one = host(&server, &a, Some(state.path()));
    assert_eq!(register(&*one, &desired(&a, "one"), Source::Cached).await, 0);
    assert_eq!(stored(&etcd, KEY).await, before, "it never left");
    assert_eq!(contested(&*two).len(), 1);
}

#[tokio::test]
async fn two_hosts_of_one_name_are_told() {
    let server = Server::start().await;
    let (a, twin) = (node("a", "10.0.0.1"), node("a", "10.0.0.2"));
    let (one, two) = (host(&server, &a, None), host(&server, &twin, None));
    register(&*one, &desired(&a, "one"), Source::Cached).await;
    register(&*two, &desired(&twin, "two"), Source::Cached).await;
    let told = contested(&*two);
    assert!(told.len() == 2 && told[1].contains("another host of this name is there, at 10.0.0.1"), "{told:?}");
}

#[tokio::test]
async fn a_last_word_outlives_what_was_withdrawn_and_goes_by_itself() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let a = node("a", "10.0.0.1");
    let agent = host(&server, &a, None);
    register(&*agent, &desired(&a, "one"), Source::Cached).await;
    let mut watched = agent.watch(vec!["/announce/".into(), AGENTS.into()]);
    crate::tools::follows(
        &mut watched,
        &[(KEY, "one"), (&Presence::key("a"), &desired(&a, "one")[&Presence::key("a")].value)],
    )
    .await;
    let value: Arc<str> = Presence::new(&a, PresenceState::Leaving).to_text().into();
    agent.apply(&[Step::PutDetached { key: Presence::key("a"), value: value.clone() }]).await.unwrap();
    agent.withdraw(ShutdownMode::Revoke).await.unwrap();
    let left = Instant::now();
    assert_eq!(stored(&etcd, KEY).await, None);
    assert_eq!(stored(&etcd, &Presence::key("a")).await.unwrap().0, *value);
    // An agent that is started meanwhile is no other host.
    let again = host(&server, &a, None);
    register(&*again, &desired(&a, "one"), Source::Cached).await;
    assert!(stored(&etcd, &Presence::key("a")).await.unwrap().0.contains("here"));
    assert_eq!(contested(&*again), [""; 0]);
    again.apply(&[Step::PutDetached { key: Presence::key("a"), value }]).await.unwrap();
    again.withdraw(ShutdownMode::Revoke).await.unwrap();
    until_stored("the last word is gone", &etcd, &Presence::key("a"), |seen| seen.is_none()).await;
    assert!(left.elapsed() > TTL / 2, "it went before others could read it");
}
