//! What every registry promises, shown on each of them.

use std::sync::Arc;

use waypost::model::LeaseKind;
use waypost::registry::{Registry, ShutdownMode, Source, Step, memory};

use crate::server::Server;
use crate::tools::{agent, by_age, follows, own, register, with_shared};

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&memory::new()).await;
}

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let server = Server::start().await;
    contract(&agent(&server)).await;
}

async fn contract(registry: &Arc<dyn Registry>) {
    a_change_is_followed(registry).await;
    what_is_held_is_known(registry).await;
    an_entry_keeps_its_age_while_it_is_there(registry).await;
    many_entries_are_taken(registry).await;
    withdrawing_takes_everything_back(registry).await;
}

async fn a_change_is_followed(registry: &Arc<dyn Registry>) {
    let mut all = registry.watch(vec!["/s/".into(), "/t/".into()]);
    let mut one = registry.watch(vec!["/t/".into()]);
    assert_eq!(register(&**registry, &own(&[]), Source::Cached).await, 0);
    follows(&mut all, &[]).await;
    follows(&mut one, &[]).await;

    let desired = with_shared(own(&[("/s/a", "1"), ("/t/b", "ü")]), "/s/port", "80");
    assert_eq!(register(&**registry, &desired, Source::Cached).await, 3);
    follows(&mut all, &[("/s/a", "1"), ("/s/port", "80"), ("/t/b", "ü")]).await;
    follows(&mut one, &[("/t/b", "ü")]).await;
    follows(&mut registry.watch(vec!["/s/".into()]), &[("/s/a", "1"), ("/s/port", "80")]).await;

    let desired = with_shared(own(&[("/s/a", "2")]), "/s/port", "80");
    assert_eq!(register(&**registry, &desired, Source::Cached).await, 2);
    follows(&mut all, &[("/s/a", "2"), ("/s/port", "80")]).await;
    follows(&mut one, &[]).await;
}

async fn what_is_held_is_known(registry: &Arc<dyn Registry>) {
    let desired = with_shared(own(&[("/s/a", "2")]), "/s/port", "80");
    for source in [Source::Cached, Source::Fresh] {
        let held = registry.owned_entries(source).await.unwrap();
        let held: Vec<_> = held.iter().map(|(key, entry)| (key.as_str(), &*entry.value, entry.lease)).collect();
        assert_eq!(held, [("/s/a", "2", LeaseKind::Host), ("/s/port", "80", LeaseKind::Shared)]);
        assert_eq!(register(&**registry, &desired, source).await, 0);
    }
    assert!(registry.status().connected);
    // A lease that changes takes the entry along.
    let desired = with_shared(own(&[("/s/port", "80")]), "/s/a", "2");
    let mut watched = registry.watch(vec!["/s/".into()]);
    follows(&mut watched, &[("/s/a", "2"), ("/s/port", "80")]).await;
    assert_eq!(register(&**registry, &desired, Source::Cached).await, 2);
    assert_eq!(register(&**registry, &desired, Source::Fresh).await, 0);
    follows(&mut watched, &[("/s/a", "2"), ("/s/port", "80")]).await;
    registry.apply(&[Step::Release { key: "/s/a".into() }, Step::Delete { key: "/s/port".into() }]).await.unwrap();
    follows(&mut watched, &[]).await;
}

async fn an_entry_keeps_its_age_while_it_is_there(registry: &Arc<dyn Registry>) {
    let mut watched = registry.watch(vec!["/age/".into()]);
    for entries in [&[("/age/b", "1")][..], &[("/age/a", "1"), ("/age/b", "1")], &[("/age/a", "1"), ("/age/b", "2")]] {
        register(&**registry, &own(entries), Source::Cached).await;
        follows(&mut watched, entries).await;
    }
    assert_eq!(by_age(&watched), ["/age/b", "/age/a"], "writing over it makes no entry younger");
    let mut fresh = registry.watch(vec!["/age/".into()]);
    follows(&mut fresh, &[("/age/a", "1"), ("/age/b", "2")]).await;
    assert_eq!(*fresh.borrow(), *watched.borrow(), "who begins to follow sees the same ages");

    register(&**registry, &own(&[("/age/a", "1")]), Source::Cached).await;
    register(&**registry, &own(&[("/age/a", "1"), ("/age/b", "2")]), Source::Cached).await;
    let mut fresh = registry.watch(vec!["/age/".into()]);
    follows(&mut fresh, &[("/age/a", "1"), ("/age/b", "2")]).await;
    assert_eq!(by_age(&fresh), ["/age/a", "/age/b"], "one that was away is younger");
    let mut same = watched.clone();
    let all = fresh.borrow().clone();
    let deadline = std::time::Duration::from_mins(1);
    tokio::time::timeout(deadline, same.wait_for(|shown| *shown == all)).await.expect("the watcher sees that").unwrap();
    register(&**registry, &own(&[]), Source::Cached).await;
}

async fn many_entries_are_taken(registry: &Arc<dyn Registry>) {
    let entries: Vec<(String, String)> = (0..350).map(|n| (format!("/m/{n:03}"), "x".repeat(10_000))).collect();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut watched = registry.watch(vec!["/m/".into()]);
    register(&**registry, &own(&entries), Source::Cached).await;
    follows(&mut watched, &entries).await;
    assert_eq!(register(&**registry, &own(&entries), Source::Fresh).await, 0);
}

async fn withdrawing_takes_everything_back(registry: &Arc<dyn Registry>) {
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&**registry, &desired, Source::Cached).await;
    let mut watched = registry.watch(vec!["/".into()]);
    follows(&mut watched, &[("/s/a", "1"), ("/s/port", "80")]).await;
    registry.withdraw(ShutdownMode::Revoke).await.unwrap();
    follows(&mut watched, &[]).await;
    assert!(registry.owned_entries(Source::Cached).await.unwrap().is_empty());
}
