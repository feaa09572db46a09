//! What watchers and holders see when etcd goes away, comes back, forgets, or is told nonsense.

use std::time::Duration;

use etcd_client::{CompactionOptions, TxnOp};
use tokio::time::{Instant, timeout};
use waypost::registry::etcd::{EtcdOptions, connect};
use waypost::registry::{ShutdownMode, Source, Step, WatchReceiver};
use waypost_test_support::{eventually_async, free_port, holds};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::tools::{
    DEADLINE, TTL, agent, client, follows, options, own, register, register_at_last, stored, with_shared,
};

/// Fails when less than `least` entries are shown while `work` is done.
async fn never_below(watched: &WatchReceiver, least: usize, work: impl Future<Output = ()>) {
    let mut watched = watched.clone();
    let watching = async {
        while watched.changed().await.is_ok() {
            let shown = watched.borrow_and_update().as_ref().map_or(0, waypost::model::Entries::len);
            assert!(shown >= least, "only {shown} entries are shown");
        }
    };
    tokio::select! {
        () = watching => panic!("the watcher ended"),
        () = work => {}
    }
}

#[tokio::test]
async fn etcd_restarted() {
    let mut server = Server::start().await;
    let agent = agent(&server);
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/a", "1"), ("/s/port", "80")]).await;
    let written = stored(&client(&server).await, "/s/a").await;

    let shown = watched.clone();
    never_below(&shown, 2, async {
        server.down();
        assert!(agent.owned_entries(Source::Fresh).await.is_err());
        assert!(!agent.status().connected);
        server.up().await;
        let etcd = client(&server).await;
        let back = Instant::now();
        eventually_async(DEADLINE, "etcd is back for longer than a lease", async || {
            holds(back.elapsed() > 2 * TTL, back.elapsed())
        })
        .await;
        assert_eq!(stored(&etcd, "/s/a").await, written, "the lease was kept, so nothing was written again");
        assert_eq!(register(&*agent, &desired, Source::Fresh).await, 0);
        etcd.kv_client().put("/s/b", "2", None).await.unwrap();
        follows(&mut watched, &[("/s/a", "1"), ("/s/b", "2"), ("/s/port", "80")]).await;
    })
    .await;
}

#[tokio::test]
async fn etcd_away_for_longer_than_the_lease_and_empty_afterwards() {
    let mut server = Server::start().await;
    let agent = agent(&server);
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/a", "1"), ("/s/port", "80")]).await;
    server.wipe();
    let began = Instant::now();
    eventually_async(DEADLINE, "the lease is over", async || holds(began.elapsed() > 2 * TTL, began.elapsed())).await;
    assert_eq!(watched.borrow_and_update().as_ref().unwrap().len(), 2, "nothing is emptied while etcd is away");
    server.up().await;
    timeout(Duration::from_secs(20), agent.lease_lost()).await.unwrap();
    register_at_last(&*agent, &desired).await;
    client(&server).await.put("/s/b", "2", None).await.unwrap();
    follows(&mut watched, &[("/s/a", "1"), ("/s/b", "2"), ("/s/port", "80")]).await;
}

#[tokio::test]
async fn etcd_frozen() {
    let server = Server::start().await;
    let agent = agent(&server);
    register(&*agent, &own(&[("/s/a", "1")]), Source::Cached).await;
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/a", "1")]).await;
    server.freeze();
    let began = Instant::now();
    assert!(agent.owned_entries(Source::Fresh).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(11), "a call hangs for {:?}", began.elapsed());
    let began = Instant::now();
    assert!(agent.withdraw(ShutdownMode::Revoke).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(4), "withdrawing hangs for {:?}", began.elapsed());
    assert_eq!(watched.borrow_and_update().as_ref().unwrap().len(), 1);
    server.thaw();
    register_at_last(&*agent, &own(&[("/s/a", "1"), ("/s/b", "1")])).await;
    follows(&mut watched, &[("/s/a", "1"), ("/s/b", "1")]).await;
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let agent = connect(EtcdOptions { endpoints: vec![proxy.endpoint()], ..options(&server) }).unwrap();
    let etcd = client(&server).await;
    let desired = with_shared(own(&[("/s/a", "0")]), "/s/port", "80");
    register_at_last(&*agent, &desired).await;
    let written = stored(&etcd, "/s/a").await;
    let mut watched = agent.watch(vec!["/s/".into(), "/t/".into()]);
    follows(&mut watched, &[("/s/a", "0"), ("/s/port", "80")]).await;
    let shown = watched.clone();
    never_below(&shown, 2, async {
        for turn in 0..8 {
            proxy.cut();
            let turn = turn.to_string();
            etcd.kv_client().put("/t/x", turn.as_str(), None).await.unwrap();
            proxy.cut();
            etcd.kv_client().put("/t/y", turn.as_str(), None).await.unwrap();
            follows(&mut watched, &[("/s/a", "0"), ("/s/port", "80"), ("/t/x", &turn), ("/t/y", &turn)]).await;
        }
    })
    .await;
    assert_eq!(stored(&etcd, "/s/a").await, written);
}

#[tokio::test]
async fn compacted_while_the_watch_was_away() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let agent = connect(EtcdOptions { endpoints: vec![proxy.endpoint()], ..options(&server) }).unwrap();
    let mut etcd = client(&server).await;
    etcd.put("/s/a", "1", None).await.unwrap();
    etcd.put("/s/b", "1", None).await.unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/a", "1"), ("/s/b", "1")]).await;
    let shown = watched.clone();
    never_below(&shown, 1, async {
        proxy.shut();
        etcd.delete("/s/a", None).await.unwrap();
        etcd.put("/s/b", "2", None).await.unwrap();
        let last = etcd.put("/elsewhere", "1", None).await.unwrap().header().unwrap().revision();
        etcd.compact(last, Some(CompactionOptions::new().with_physical())).await.unwrap();
        proxy.open();
        follows(&mut watched, &[("/s/b", "2")]).await;
    })
    .await;
}

#[tokio::test]
async fn one_transaction_is_one_snapshot_and_no_change_is_none() {
    let server = Server::start().await;
    let agent = agent(&server);
    let mut etcd = client(&server).await;
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[]).await;
    let mut seen = watched.clone();
    let puts: Vec<TxnOp> = (0..100).map(|n| TxnOp::put(format!("/s/{n:03}"), "1", None)).collect();
    etcd.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    seen.changed().await.unwrap();
    assert_eq!(seen.borrow_and_update().as_ref().unwrap().len(), 100);
    // The same value again, then a marker: only the marker is a change.
    etcd.put("/s/000", "1", None).await.unwrap();
    etcd.put("/s/zzz", "1", None).await.unwrap();
    seen.changed().await.unwrap();
    assert_eq!(seen.borrow_and_update().as_ref().unwrap().len(), 101);
}

#[tokio::test]
async fn values_nobody_could_read_are_left_out() {
    let server = Server::start().await;
    let agent = agent(&server);
    let mut etcd = client(&server).await;
    let big = vec![b'x'; 1024 * 1024];
    for n in 0..70 {
        etcd.put(format!("/s/big-{n:02}"), big.clone(), None).await.unwrap();
    }
    etcd.put("/s/bytes", vec![0xff, 0xfe], None).await.unwrap();
    etcd.put(b"/s/key-\xff".to_vec(), "1", None).await.unwrap();
    etcd.put("/s/good", "1", None).await.unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/good", "1")]).await;
    // One that turns bad while it is watched leaves; one that turns good joins.
    etcd.put("/s/good", vec![0xff], None).await.unwrap();
    etcd.put("/s/bytes", "2", None).await.unwrap();
    follows(&mut watched, &[("/s/bytes", "2")]).await;
}

#[tokio::test]
async fn etcd_is_full() {
    let server = Server::start_with(&["--quota-backend-bytes", "400000"]).await;
    let (mut etcd, agent) = (client(&server).await, agent(&server));
    let mut watched = agent.watch(vec!["/s/".into()]);
    register(&*agent, &own(&[("/s/a", "1"), ("/s/b", "1")]), Source::Cached).await;
    while etcd.put("/big", vec![b'x'; 100_000], None).await.is_ok() {}
    let steps = [Step::Delete { key: "/s/a".into() }, Step::Put { key: "/s/c".into(), value: "1".into() }];
    let error = agent.apply(&steps).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("alarm disarm"), "{error}");
    // What takes no room is done, and what is held is kept.
    follows(&mut watched, &[("/s/b", "1")]).await;
    assert!(timeout(2 * TTL, agent.lease_lost()).await.is_err());
    assert_eq!(watched.borrow().as_ref().unwrap().len(), 1);
}

#[tokio::test]
async fn many_changes_while_the_watch_was_away() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let agent = connect(EtcdOptions { endpoints: vec![proxy.endpoint()], ..options(&server) }).unwrap();
    let mut etcd = client(&server).await;
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[]).await;
    // Together far above the 4 MiB that the client library takes in one message by itself.
    let value = "x".repeat(100_000);
    proxy.shut();
    for n in 0..120 {
        etcd.put(format!("/s/{n:03}"), value.as_str(), None).await.unwrap();
    }
    proxy.open();
    let expected: Vec<String> = (0..120).map(|n| format!("/s/{n:03}")).collect();
    let expected: Vec<(&str, &str)> = expected.iter().map(|key| (key.as_str(), value.as_str())).collect();
    follows(&mut watched, &expected).await;
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_live_one_does_no_harm() {
    let server = Server::start().await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let endpoints = vec![dead, server.endpoint()];
    let agent = connect(EtcdOptions { endpoints, ..options(&server) }).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    for turn in 0..20 {
        let turn = turn.to_string();
        register_at_last(&*agent, &own(&[("/s/a", &turn)])).await;
        follows(&mut watched, &[("/s/a", &turn)]).await;
    }
}

#[tokio::test]
async fn everything_ends_with_the_registry() {
    let server = Server::start().await;
    let agent = agent(&server);
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[]).await;
    drop(agent);
    let ended = timeout(TTL, watched.changed()).await.expect("the watcher's task goes on");
    assert!(ended.is_err());
}
