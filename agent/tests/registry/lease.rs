//! The agent's lease: what stays, what goes, and when.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use waypost::registry::{Error, ShutdownMode, Source, Step};
use waypost_test_support::{eventually_async, holds};

use crate::server::Server;
use crate::tools::{
    DEADLINE, TTL, agent, agent_in, client, follows, own, register, register_at_last, revision, stored, until_stored,
    with_shared,
};

#[tokio::test]
async fn nothing_is_written_while_nothing_changes() {
    let server = Server::start().await;
    let (etcd, agent) = (client(&server).await, agent(&server));
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    let before = revision(&etcd).await;
    let began = Instant::now();
    eventually_async(DEADLINE, "three times the lease", async || {
        assert_eq!(register(&*agent, &desired, Source::Fresh).await, 0);
        holds(began.elapsed() > 3 * TTL, began.elapsed())
    })
    .await;
    assert_eq!(revision(&etcd).await, before);
}

#[tokio::test]
async fn a_killed_agents_entries_go_after_the_lease_and_not_before() {
    let server = Server::start().await;
    let (etcd, agent) = (client(&server).await, agent(&server));
    register(&*agent, &own(&[("/s/a", "1")]), Source::Cached).await;
    let killed = Instant::now();
    drop(agent);
    until_stored("the entry is gone", &etcd, "/s/a", |seen| seen.is_none()).await;
    let lasted = killed.elapsed();
    // The last keep-alive was up to a third of the lease before.
    assert!(lasted > TTL / 2 && lasted < TTL + Duration::from_secs(2), "{lasted:?}");
}

#[tokio::test]
async fn a_restarted_agent_resumes_without_a_write() {
    let server = Server::start().await;
    let state = tempfile::tempdir().unwrap();
    let etcd = client(&server).await;
    let desired = with_shared(own(&[("/s/a", "1"), ("/s/b", "1")]), "/s/port", "80");
    let first = agent_in(&server, state.path());
    register(&*first, &desired, Source::Cached).await;
    let before = (stored(&etcd, "/s/a").await, stored(&etcd, "/s/port").await, revision(&etcd).await);
    first.withdraw(ShutdownMode::KeepLease).await.unwrap();
    drop(first);

    let second = agent_in(&server, state.path());
    assert_eq!(register(&*second, &desired, Source::Cached).await, 1, "only the shared entry is looked at again");
    assert_eq!((stored(&etcd, "/s/a").await, stored(&etcd, "/s/port").await, revision(&etcd).await), before);
    // What is no longer wanted is known from the last life, and goes.
    register(&*second, &with_shared(own(&[("/s/a", "1")]), "/s/port", "80"), Source::Cached).await;
    assert_eq!(stored(&etcd, "/s/b").await, None);

    // Killed, not stopped: the same.
    drop(second);
    let third = agent_in(&server, state.path());
    register(&*third, &with_shared(own(&[("/s/a", "1")]), "/s/port", "80"), Source::Cached).await;
    assert_eq!(stored(&etcd, "/s/a").await, before.0);

    third.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!((stored(&etcd, "/s/a").await, stored(&etcd, "/s/port").await), (None, None));
    assert!(!state.path().join("lease").exists());
}

#[tokio::test]
async fn an_agent_without_its_lease_puts_everything_again() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let desired = own(&[("/s/a", "1")]);
    let first = agent(&server);
    register(&*first, &desired, Source::Cached).await;
    let second = agent(&server);
    assert_eq!(register(&*second, &desired, Source::Cached).await, 1);
    // The entry has moved to the second lease, so the end of the first does not take it along.
    first.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert!(stored(&etcd, "/s/a").await.is_some());
}

#[tokio::test]
async fn a_lost_lease_is_said_and_everything_put_again() {
    let server = Server::start().await;
    let state = tempfile::tempdir().unwrap();
    let (mut etcd, agent) = (client(&server).await, agent_in(&server, state.path()));
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    assert!(timeout(TTL, agent.lease_lost()).await.is_err(), "lost without a cause");

    for lease in etcd.leases().await.unwrap().leases() {
        etcd.lease_revoke(lease.id()).await.unwrap();
    }
    timeout(TTL, agent.lease_lost()).await.unwrap();
    assert_eq!(register(&*agent, &desired, Source::Cached).await, 2);
    assert!(stored(&etcd, "/s/a").await.is_some() && stored(&etcd, "/s/port").await.is_some());
    assert!(timeout(TTL, agent.lease_lost()).await.is_err(), "the new lease is kept");
}

#[tokio::test]
async fn a_put_notices_that_the_lease_is_lost() {
    let server = Server::start().await;
    let (mut etcd, agent) = (client(&server).await, agent(&server));
    agent.owned_entries(Source::Cached).await.unwrap();
    let leases = etcd.leases().await.unwrap();
    etcd.lease_revoke(leases.leases()[0].id()).await.unwrap();
    let put = Step::Put { key: "/s/a".into(), value: "1".into() };
    let error = agent.apply(&[put]).await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    timeout(TTL, agent.lease_lost()).await.unwrap();
    register_at_last(&*agent, &own(&[("/s/a", "1")])).await;
}

#[tokio::test]
async fn what_others_delete_or_overwrite_is_put_again() {
    let server = Server::start().await;
    let (mut etcd, agent) = (client(&server).await, agent(&server));
    let entries = [("/s/a", "1"), ("/s/b", "1"), ("/s/c", "1"), ("/s/d", "1")];
    let desired = with_shared(own(&entries), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    etcd.delete("/s/a", None).await.unwrap();
    etcd.put("/s/b", "by hand", None).await.unwrap();
    let same_lease = etcd_client::PutOptions::new().with_ignore_lease();
    etcd.put("/s/c", "by hand", Some(same_lease)).await.unwrap();
    assert_eq!(register(&*agent, &desired, Source::Fresh).await, 3);
    let mut watched = agent.watch(vec!["/s/".into()]);
    let expected = [&entries[..], &[("/s/port", "80")]].concat();
    follows(&mut watched, &expected).await;
    // They are under the lease again.
    agent.withdraw(ShutdownMode::Revoke).await.unwrap();
    follows(&mut watched, &[]).await;
}

#[tokio::test]
async fn a_key_that_moved_to_another_host_is_not_deleted() {
    let server = Server::start().await;
    let (etcd, one, two) = (client(&server).await, agent(&server), agent(&server));
    register(&*one, &own(&[("/s/a", "1")]), Source::Cached).await;
    // The very same entry cannot be told from that of an earlier life.
    register(&*two, &own(&[("/s/a", "1")]), Source::Cached).await;
    assert_eq!(register(&*one, &own(&[]), Source::Cached).await, 1);
    assert!(stored(&etcd, "/s/a").await.is_some());
    two.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, "/s/a").await, None);
}

#[tokio::test]
async fn one_refused_entry_does_not_keep_the_others() {
    let server = Server::start().await;
    let (etcd, agent) = (client(&server).await, agent(&server));
    agent.owned_entries(Source::Cached).await.unwrap();
    let put = |key: &str, value: &str| Step::Put { key: key.into(), value: value.into() };
    let long = "x".repeat(2 * 1024 * 1024);
    let error = agent.apply(&[put("/s/a", "1"), put("/s/b", &long), put("/s/c", "1")]).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("/s/b"), "{error}");
    assert!(stored(&etcd, "/s/a").await.is_some() && stored(&etcd, "/s/c").await.is_some());
    assert_eq!(agent.owned_entries(Source::Cached).await.unwrap().len(), 2);
}
