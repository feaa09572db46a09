//! A place is given to the next service when nobody of the last one is in it.

use waypost_test_support::{DEADLINE, eventually, free_port, holds};

use crate::agent::{all, changes, settle};
use crate::clients::{Requests, answering, backend, catalog, follow, get, http, release, rest, send, spied};
use crate::haproxy::{Catalog, Haproxy};

fn has_secret(requests: &Requests) -> bool {
    requests.lock().unwrap().iter().any(|request| request.contains("secret"))
}

fn with<'a>(base: &Catalog, more: impl IntoIterator<Item = &'a Catalog>) -> Catalog {
    more.into_iter().fold(base.clone(), |all, more| all.into_iter().chain(more.clone()).collect())
}

/// A catalog that HAProxy starts with, so that it has a frontend.
fn web() -> Catalog {
    catalog(&[("web", &[http("w", backend("web"), "web.example")])])
}

#[test]
fn a_request_is_never_sent_to_the_next_owner() {
    let ((shop, asked), (news, seen)) = (spied("shop"), spied("news"));
    let web = web();
    let first = with(&web, [&catalog(&[("shop", &[http("a", shop, "shop.example")])])]);
    let second = with(&web, [&catalog(&[("news", &[http("b", news, "news.example")])])]);
    let start = || Haproxy::start("127.0.0.1", r#""dynamic-backends": false, "standby-backends": 1,"#, &web);
    let haproxy = start();
    follow(&haproxy, &web, &first);
    let client = send(&haproxy, "shop.example", "/hang");
    eventually(DEADLINE, "the request is with the first owner", || holds(has_secret(&asked), &asked));

    let tally = follow(&haproxy, &first, &web);
    assert!(tally.rounds <= 3, "{tally:?}");
    assert!(haproxy.map("standby.map").is_empty(), "nothing leads there any more");
    assert!(settle(&haproxy, &changes(&haproxy, &web, &second), &mut || false).reload, "the only place has a request");
    release(shop);
    assert!(rest(client).contains(" 50"), "its server is gone");
    assert!(!has_secret(&seen));
    eventually(DEADLINE, "the place is free", || {
        let tally = settle(&haproxy, &changes(&haproxy, &web, &second), &mut || false);
        holds(!tally.reload, tally)
    });
    assert_eq!(answering(&haproxy, "news.example"), ["news"]);
    assert!(!has_secret(&seen));
}

#[test]
fn a_service_that_comes_back_does_not_wait_for_its_requests() {
    let ((shop, asked), (other, seen)) = (spied("shop"), spied("other"));
    let web = web();
    let first = with(&web, [&catalog(&[("shop", &[http("a", shop, "shop.example")])])]);
    let again = with(&web, [&catalog(&[("shop", &[http("b", other, "shop.example")])])]);
    let haproxy = Haproxy::start("127.0.0.1", r#""dynamic-backends": false, "standby-backends": 1,"#, &web);
    follow(&haproxy, &web, &first);
    let _client = send(&haproxy, "shop.example", "/hang");
    eventually(DEADLINE, "the request is with the server", || holds(has_secret(&asked), &asked));
    follow(&haproxy, &first, &again);
    assert_eq!(answering(&haproxy, "shop.example"), ["other"]);
    release(shop);
    eventually(DEADLINE, "its own service takes the request again", || holds(has_secret(&seen), &seen));
}

/// One request waits for another try, one for a free connection; no server has either.
#[test]
fn requests_without_a_server_are_not_overlooked() {
    let ((shop, asked), (news, seen)) = (spied("shop"), spied("news"));
    let closed = ([127, 0, 0, 1], free_port()).into();
    let web = web();
    let second = with(&web, [&catalog(&[("news", &[http("b", news, "news.example")])])]);
    for (server, is_queued) in [(shop, true), (closed, false)] {
        let first = with(&web, [&catalog(&[("shop", &[http("a", server, "shop.example")])])]);
        let more = r#""dynamic-backends": false, "standby-backends": 1, "check": false,
            "defaults-lines": ["default-server maxconn 1", "timeout queue 30s"],"#;
        let haproxy = Haproxy::start("127.0.0.1", more, &web);
        follow(&haproxy, &web, &first);
        let hanging = is_queued.then(|| send(&haproxy, "shop.example", "/hang"));
        eventually(DEADLINE, "the server has what it takes", || holds(!is_queued || has_secret(&asked), &asked));
        let _waiting = send(&haproxy, "shop.example", "/waiting");
        eventually(DEADLINE, "the request is in the backend", || {
            let sessions = if is_queued { ",BACKEND,1," } else { ",BACKEND,0,0,1," };
            let stat = haproxy.ask("show stat waypost-standby-1 2 -1");
            holds(stat.contains(sessions), stat)
        });
        follow(&haproxy, &first, &web);
        settle(&haproxy, &changes(&haproxy, &web, &second), &mut || false);
        drop(hanging);
        eventually(DEADLINE, "nobody is left of the first owner", || {
            let stat = haproxy.ask("show stat waypost-standby-1 2 -1");
            let is_empty = if is_queued { !stat.contains(",BACKEND,0,0,2,") } else { stat.contains(",BACKEND,0,0,0,") };
            holds(is_empty, stat)
        });
        assert!(!has_secret(&seen), "{is_queued}");
    }
}

#[test]
fn a_foreign_server_in_a_claimed_place_leaves() {
    let web = web();
    let first = with(&web, [&catalog(&[("shop", &[http("a", backend("shop"), "shop.example")])])]);
    let haproxy = Haproxy::start("127.0.0.1", r#""dynamic-backends": false, "standby-backends": 1,"#, &web);
    follow(&haproxy, &web, &first);
    let stray = backend("stray");
    haproxy.ask(&format!("add server waypost-standby-1/x {stray}; enable server waypost-standby-1/x"));
    assert_eq!(answering(&haproxy, "shop.example"), ["shop", "stray"]);
    follow(&haproxy, &web, &first);
    assert_eq!(answering(&haproxy, "shop.example"), ["shop"]);
    assert_eq!(settle(&haproxy, &all(&haproxy, &first), &mut || false).commands, 0);
    assert_eq!(get(&haproxy, "web.example", "/").1, "web");
}
