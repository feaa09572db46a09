//! Servers and services that join, change and leave without a reload.

use std::time::Duration;

use serde_json::json;
use waypost_test_support::free_port;

use super::running::{say, state};
use super::test_proxy::{Offers, TestProxy, http, server};

fn at(service: &str, id: &str) -> (String, String) {
    (service.to_owned(), id.to_owned())
}

const NEVER: Duration = Duration::from_hours(1);

/// A site whose `HAProxy` serves one service, and that service.
async fn serving(resync: Duration) -> (TestProxy, Offers) {
    let site = TestProxy::start("haproxy.sock", resync, json!({})).await;
    let offers = Offers::from([(at("web", "1"), http(server("web 1").await, "web.test"))]);
    site.offer(&offers);
    site.until("the first service is served", || site.get("web.test") == "web 1").await;
    site.until("it has settled", || site.output().settled).await;
    (site, offers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_join_change_and_leave_without_a_reload() {
    let (site, mut offers) = serving(NEVER).await;
    let reloads = site.output().reloads;
    offers.insert(at("web", "2"), http(server("web 2").await, "web.test"));
    site.offer(&offers);
    site.until("a second one joins", || site.answers("web.test") == ["web 1", "web 2"]).await;
    offers.get_mut(&at("web", "1")).unwrap().draining = true;
    site.offer(&offers);
    site.until("the first one drains", || site.answers("web.test") == ["web 2"]).await;
    offers.remove(&at("web", "1"));
    site.offer(&offers);
    site.until("it leaves", || {
        state(&site.path("haproxy.sock")).is_some_and(|(servers, _)| servers["web"].keys().eq(["2"]))
    })
    .await;
    offers.get_mut(&at("web", "2")).unwrap().port = server("web 2, moved").await;
    site.offer(&offers);
    site.until("it moves", || site.answers("web.test") == ["web 2, moved"]).await;
    offers.insert(at("web", "1"), http(server("web 1, again").await, "web.test"));
    site.offer(&offers);
    site.until("one comes back", || site.answers("web.test") == ["web 1, again", "web 2, moved"]).await;
    site.until("the file follows", || site.file().matches("    server ").count() == 2).await;
    assert_eq!(site.output().reloads, reloads, "{:?}", site.output());
    assert!(site.problems().is_empty(), "{:?}", site.problems());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_instance_of_a_new_http_service_needs_no_reload() {
    let (site, mut offers) = serving(NEVER).await;
    let reloads = site.output().reloads;
    for number in 0..5 {
        let (name, domain) = (format!("new-{number}"), format!("new-{number}.test"));
        offers.insert(at(&name, "1"), http(server(&name).await, &domain));
        site.offer(&offers);
        site.until("the new service is served", || site.get(&domain) == name).await;
    }
    offers.insert(at("new-3", "2"), http(server("new-3, second").await, "new-3.test"));
    site.offer(&offers);
    site.until("a second one joins", || site.answers("new-3.test") == ["new-3", "new-3, second"]).await;
    offers.retain(|(service, _), _| service != "new-2");
    site.offer(&offers);
    site.until("one leaves", || site.get("new-2.test") == "503").await;
    assert_eq!(site.output().reloads, reloads, "{:?}", site.output());
    site.until("the file follows", || site.file().contains("backend new-4\n")).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_live_is_reloaded() {
    let (site, mut offers) = serving(NEVER).await;
    let reloads = site.output().reloads;
    let port = free_port();
    let mut database = http(server("database").await, "");
    database.leads = Err(port);
    offers.insert(at("db", "1"), database);
    site.offer(&offers);
    site.until("its port is served", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    site.until("one reload", || site.output().reloads == reloads + 1 && site.output().settled).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_socket_the_proxy_is_reloaded_and_with_it_goes_on_live() {
    let (site, mut offers) = serving(NEVER).await;
    let (here, away) = (site.path("haproxy.sock"), site.path("away.sock"));
    std::fs::rename(&here, &away).unwrap();
    let reloads = site.output().reloads;
    offers.insert(at("web", "2"), http(server("web 2").await, "web.test"));
    site.offer(&offers);
    site.until("it joins by a reload", || site.answers("web.test") == ["web 1", "web 2"]).await;
    site.until("one reload", || site.output().reloads == reloads + 1).await;
    site.until("the socket is missed", || site.problems().contains_key("stats socket")).await;
    std::fs::rename(&away, &here).unwrap();
    site.until("it is found again", || site.problems().is_empty()).await;
    offers.insert(at("web", "3"), http(server("web 3").await, "web.test"));
    site.offer(&offers);
    site.until("the next joins", || site.answers("web.test") == ["web 1", "web 2", "web 3"]).await;
    assert_eq!(site.output().reloads, reloads + 1, "live again");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_on_the_socket_is_put_right() {
    let (site, mut offers) = serving(Duration::from_millis(300)).await;
    offers.insert(at("web", "2"), http(server("web 2").await, "web.test"));
    site.offer(&offers);
    site.until("both are served", || site.answers("web.test") == ["web 1", "web 2"]).await;
    say(&site.path("haproxy.sock"), "set server web/1 state maint").unwrap();
    say(&site.path("haproxy.sock"), "set server web/2 weight 7").unwrap();
    say(&site.path("haproxy.sock"), "del map routes.map web.test/").unwrap();
    site.until("they are back", || site.answers("web.test") == ["web 1", "web 2"]).await;
    site.until("with their weights", || {
        state(&site.path("haproxy.sock"))
            .is_some_and(|(servers, _)| servers["web"].values().all(|(.., weight)| weight == "1"))
    })
    .await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_domain_keeps_it_and_a_newcomer_goes_without() {
    let (site, mut offers) = serving(NEVER).await;
    let reloads = site.output().reloads;
    offers.insert(at("a-thief", "1"), http(server("thief").await, "web.test,thief.test"));
    site.offer(&offers);
    site.until("it has what nobody had", || site.answers("thief.test") == ["thief"]).await;
    assert_eq!(site.answers("web.test"), ["web 1"]);
    let named = |words: &str| site.problems().get("a-thief").is_some_and(|text| text.contains(words));
    site.until("it is named", || named("it goes without domain web.test, which service web has had since")).await;
    // A rollout of all its instances changes nothing of that.
    offers.remove(&at("web", "1"));
    offers.insert(at("web", "9"), http(server("web 9").await, "web.test"));
    site.offer(&offers);
    site.until("the next version serves", || site.answers("web.test") == ["web 9"]).await;
    assert!(named("it goes without domain web.test"));
    // What it has is given away when it leaves for good.
    offers.remove(&at("web", "9"));
    site.offer(&offers);
    site.until("the other has it then", || site.answers("web.test") == ["thief"]).await;
    site.until("nothing is wrong", || site.problems().is_empty()).await;
    assert_eq!(site.output().reloads, reloads, "all of it live");
    site.end().await;
}
