//! A cluster of three whose leader goes away.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tokio::time::{Instant, timeout};
use waypost::registry::etcd::{EtcdOptions, connect};
use waypost::registry::{Registry, Source, WatchReceiver};
use waypost_test_support::{eventually_async, holds};

use crate::server::Server;
use crate::tools::{DEADLINE, TTL, client, follows, options, own, register, register_at_last, stored, with_shared};

/// A cluster, and an agent that holds `/s/a` and `/s/port` in it and follows them.
async fn start(ttl: Duration) -> (Vec<Server>, Arc<dyn Registry>, WatchReceiver) {
    let servers = Server::start_three().await;
    let endpoints = servers.iter().map(Server::endpoint).collect();
    let agent = connect(EtcdOptions { endpoints, ttl, ..options(&servers[0]) }).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    register(&*agent, &with_shared(own(&[("/s/a", "1")]), "/s/port", "80"), Source::Cached).await;
    follows(&mut watched, &[("/s/a", "1"), ("/s/port", "80")]).await;
    (servers, agent, watched)
}

/// Index of the leader, and clients of the others.
async fn leader(servers: &[Server]) -> (usize, Vec<Client>) {
    let (mut leader, mut others) = (0, Vec::new());
    for (index, server) in servers.iter().enumerate() {
        let mut etcd = client(server).await;
        let status = etcd.status().await.unwrap();
        if status.header().unwrap().member_id() == status.leader() {
            leader = index;
        } else {
            others.push(etcd);
        }
    }
    (leader, others)
}

/// Nothing was written again and no lease lost, `time` later; then a change goes through.
async fn goes_on(
    agent: &dyn Registry,
    watched: &mut WatchReceiver,
    etcd: &Client,
    written: Option<&(String, i64)>,
    time: Duration,
) {
    let began = Instant::now();
    eventually_async(DEADLINE, "time passes", async || holds(began.elapsed() > time, began.elapsed())).await;
    assert!(timeout(Duration::from_millis(1), agent.lease_lost()).await.is_err(), "the lease was lost");
    let desired = with_shared(own(&[("/s/a", "1"), ("/s/b", "1")]), "/s/port", "80");
    register_at_last(agent, &desired).await;
    follows(watched, &[("/s/a", "1"), ("/s/b", "1"), ("/s/port", "80")]).await;
    assert_eq!(stored(etcd, "/s/a").await.as_ref(), written);
}

#[tokio::test]
async fn the_leader_is_killed() {
    let (mut servers, agent, mut watched) = start(2 * TTL).await;
    let (leader, others) = leader(&servers).await;
    let written = stored(&others[0], "/s/a").await;
    servers[leader].down();
    goes_on(&*agent, &mut watched, &others[0], written.as_ref(), 3 * TTL).await;
}

#[tokio::test]
async fn the_leader_is_frozen() {
    let (servers, agent, mut watched) = start(4 * TTL).await;
    let (leader, others) = leader(&servers).await;
    let written = stored(&others[0], "/s/a").await;
    servers[leader].freeze();
    goes_on(&*agent, &mut watched, &others[0], written.as_ref(), 6 * TTL).await;
    servers[leader].thaw();
}
