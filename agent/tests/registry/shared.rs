//! Entries that several hosts give: they outlive each of them and go with the last.

use tokio::time::Instant;
use waypost::registry::{Registry, ShutdownMode, Source};
use waypost_test_support::{eventually_async, holds};

use crate::server::Server;
use crate::tools::{DEADLINE, TTL, agent, client, own, register, stored, until_stored, with_shared};

const PORT: &str = "/backends/web/port";

/// A host with one instance of the service.
async fn host(server: &Server, instance: &str, port: &str) -> std::sync::Arc<dyn Registry> {
    let agent = agent(server);
    register(&*agent, &with_shared(own(&[(instance, "10.0.0.1:80")]), PORT, port), Source::Cached).await;
    agent
}

#[tokio::test]
async fn a_shared_entry_outlives_the_host_that_wrote_it() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let first = host(&server, "/backends/web/1", "8000").await;
    let written = stored(&etcd, PORT).await.unwrap();
    let second = host(&server, "/backends/web/2", "8000").await;
    let third = host(&server, "/backends/web/3", "8000").await;
    assert_eq!(stored(&etcd, PORT).await.unwrap(), written, "those who come later write nothing");

    // Gracefully, then by a crash: the entry is the same one all the time.
    first.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, "/backends/web/1").await, None);
    assert_eq!(stored(&etcd, PORT).await.unwrap(), written);
    drop(first);
    drop(second);
    let crashed = Instant::now();
    eventually_async(DEADLINE, "several leases long", async || {
        assert_eq!(stored(&etcd, PORT).await.unwrap(), written);
        holds(crashed.elapsed() > 3 * TTL, crashed.elapsed())
    })
    .await;
    assert_eq!(stored(&etcd, "/backends/web/2").await, None);

    // The last one takes it along at once.
    third.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, PORT).await, None);
}

#[tokio::test]
async fn a_shared_entry_goes_with_the_last_crash_too() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let first = host(&server, "/backends/web/1", "8000").await;
    let second = host(&server, "/backends/web/2", "8000").await;
    drop((first, second));
    until_stored("the entry is gone", &etcd, PORT, |seen| seen.is_none()).await;
}

#[tokio::test]
async fn releasing_one_service_leaves_it_to_the_others() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let first = host(&server, "/backends/web/1", "8000").await;
    let second = host(&server, "/backends/web/2", "8000").await;
    register(&*first, &own(&[]), Source::Cached).await;
    assert!(stored(&etcd, PORT).await.is_some());
    register(&*second, &own(&[]), Source::Cached).await;
    assert_eq!(stored(&etcd, PORT).await, None);
}

#[tokio::test]
async fn hosts_that_come_and_go_at_once_end_up_right() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let (one, two) = (agent(&server), agent(&server));
    let (none, web) = (own(&[]), |key: &str| with_shared(own(&[(key, "10.0.0.1:80")]), PORT, "8000"));
    let (web_one, web_two) = (web("/backends/web/1"), web("/backends/web/2"));
    register(&*one, &web_one, Source::Cached).await;
    for _ in 0..50 {
        tokio::join!(register(&*one, &none, Source::Cached), register(&*two, &web_two, Source::Cached));
        assert!(stored(&etcd, PORT).await.is_some(), "the second host has just come");
        tokio::join!(register(&*one, &web_one, Source::Cached), register(&*two, &none, Source::Cached));
        assert!(stored(&etcd, PORT).await.is_some(), "the first host has just come back");
    }
}

#[tokio::test]
async fn another_value_waits_for_the_present_one() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let first = host(&server, "/backends/web/1", "8000").await;
    let second = host(&server, "/backends/web/2", "9000").await;
    let desired = with_shared(own(&[("/backends/web/2", "10.0.0.1:80")]), PORT, "9000");
    assert_eq!(register(&*second, &desired, Source::Fresh).await, 0, "it is not tried at every turn");
    assert_eq!(stored(&etcd, PORT).await.unwrap().0, "8000");
    first.withdraw(ShutdownMode::Revoke).await.unwrap();
    until_stored("the other value's turn", &etcd, PORT, |seen| seen == Some("9000")).await;
}

#[tokio::test]
async fn the_only_holder_may_change_the_value() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let agent = host(&server, "/backends/web/1", "8000").await;
    register(&*agent, &with_shared(own(&[("/backends/web/2", "10.0.0.1:81")]), PORT, "9000"), Source::Cached).await;
    assert_eq!(stored(&etcd, PORT).await.unwrap().0, "9000");
}

#[tokio::test]
async fn an_entry_without_a_lease_is_left_alone() {
    let server = Server::start().await;
    let mut etcd = client(&server).await;
    etcd.put(PORT, "8000", None).await.unwrap();
    let written = stored(&etcd, PORT).await;
    let agent = host(&server, "/backends/web/1", "8000").await;
    agent.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, PORT).await, written);
}

#[tokio::test]
async fn a_deleted_shared_entry_comes_back_by_itself() {
    let server = Server::start().await;
    let mut etcd = client(&server).await;
    let _agent = host(&server, "/backends/web/1", "8000").await;
    etcd.delete(PORT, None).await.unwrap();
    until_stored("the entry is back", &etcd, PORT, |seen| seen.is_some()).await;
    // With its lease ended, which takes the entry along.
    let kv = etcd.get(PORT, None).await.unwrap().kvs()[0].lease();
    etcd.lease_revoke(kv).await.unwrap();
    until_stored("the entry is back again", &etcd, PORT, |seen| seen.is_some()).await;
}

#[tokio::test]
async fn a_directory_of_shared_entries_only_is_left_to_its_lease() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    let (first, second) = (agent(&server), agent(&server));
    for agent in [&first, &second] {
        register(&**agent, &with_shared(own(&[]), PORT, "8000"), Source::Cached).await;
    }
    let written = stored(&etcd, PORT).await;
    // Nothing shows whether the other host still gives it, so it is not deleted.
    first.withdraw(ShutdownMode::Revoke).await.unwrap();
    assert_eq!(stored(&etcd, PORT).await, written);
    second.withdraw(ShutdownMode::Revoke).await.unwrap();
    until_stored("the entry is gone", &etcd, PORT, |seen| seen.is_none()).await;
}
