//! A section that is there already: two services may have it one after the other, and it may not be ready.

use waypost_plugin_haproxy::{plan, queries};
use waypost_plugin_sdk::{Change, Instance, PluginError};
use waypost_test_support::{DEADLINE, eventually, holds};

use crate::agent::{all, changes, settle};
use crate::clients::{answering, backend, catalog, follow, get, http, instance, release, rest, send, spied};
use crate::haproxy::{Catalog, Haproxy, node};

#[test]
fn two_services_with_one_section_never_meet() {
    let ((one, asked), (two, seen)) = (spied("one"), spied("two"));
    let first = catalog(&[("team/app", &[http("a", one, "one.example")])]);
    let second = catalog(&[("team_app", &[http("b", two, "two.example")])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &first);
    let before = haproxy.servers(&first);
    let comes = changes(&haproxy, &Catalog::new(), &second);
    assert!(settle(&haproxy, &comes, &mut || false).reload, "another service is there");
    assert_eq!(haproxy.servers(&first), before, "and nothing happened to it");

    let client = send(&haproxy, "one.example", "/hang");
    eventually(DEADLINE, "the request is with the first service", || holds(!asked.lock().unwrap().is_empty(), "none"));
    follow(&haproxy, &first, &Catalog::new());
    assert!(settle(&haproxy, &comes, &mut || false).reload, "its request is there");
    release(one);
    assert!(rest(client).contains(" 50"));
    eventually(DEADLINE, "the section is empty", || {
        let tally = settle(&haproxy, &comes, &mut || false);
        holds(!tally.reload, tally)
    });
    assert_eq!(answering(&haproxy, "two.example"), ["two"]);
    assert!(!seen.lock().unwrap().iter().any(|request| request.contains("secret")));
}

/// After a reload the agent asks about everything that was there when the files were made.
#[test]
fn what_the_files_had_leaves_whatever_state_it_is_in() {
    let (slow, asked) = spied("slow");
    let start = catalog(&[
        ("shop", &[http("a", slow, "shop.example"), http("b", backend("b"), "shop.example")]),
        ("web", &[http("a", backend("web"), "web.example")]),
    ]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    let _client = send(&haproxy, "shop.example", "/hang");
    let _other = send(&haproxy, "shop.example", "/hang");
    eventually(DEADLINE, "a server has a connection", || holds(!asked.lock().unwrap().is_empty(), "none"));
    haproxy.ask("set server shop/b state drain; add server shop/x 127.0.0.1:1; set server web/a state maint");
    let left = follow(&haproxy, &start, &Catalog::new());
    assert!(left.rounds <= 3 && !left.reload_soon, "{left:?}");
    assert!(haproxy.map("routes.map").is_empty());
    let live: Vec<_> = haproxy.servers(&start).into_values().filter(|facts| facts[3] != "1").collect();
    assert!(live.is_empty(), "{live:?}");
    assert_eq!(follow(&haproxy, &start, &Catalog::new()).commands, 0);
    assert_eq!(get(&haproxy, "web.example", "/").0, "503");
}

/// HAProxy 2.6 gives a server that is added no such cookie by itself.
#[test]
fn servers_that_are_added_have_cookies() {
    let web = [http("w", backend("web"), "web.example")];
    let shop = [http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example")];
    let start = catalog(&[("web", &web)]);
    let both = catalog(&[("web", &[web[0].clone(), http("x", backend("more"), "web.example")]), ("shop", &shop)]);
    let more = r#""defaults-lines": ["cookie SERVER insert indirect nocache dynamic", "dynamic-cookie-key s3cret"],"#;
    for dynamic in ["", r#""dynamic-backends": false,"#] {
        let haproxy = Haproxy::start("127.0.0.1", &format!("{more}{dynamic}"), &start);
        let tally = follow(&haproxy, &start, &both);
        assert_eq!(tally.rounds, 2, "{tally:?}");
        for (domain, names) in [("shop.example", ["one", "two"]), ("web.example", ["more", "web"])] {
            assert_eq!(answering(&haproxy, domain), names);
            let answer = rest(send(&haproxy, domain, "/"));
            let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
            let cookie = cookie.unwrap_or_else(|| panic!("no cookie: {answer}"));
            let name = answer.rsplit("\r\n\r\n").next().unwrap();
            for _ in 0..6 {
                let host = format!("{domain}\r\nCookie: {cookie}");
                assert_eq!(get(&haproxy, &host, "/").1, name, "{domain} sticks to {cookie}");
            }
        }
        assert_eq!(settle(&haproxy, &all(&haproxy, &both), &mut || false).commands, 0);
        assert_eq!(follow(&haproxy, &start, &both).commands, 0);
    }
}

/// From 3.4 on.
#[test]
fn a_backend_that_was_made_is_published() {
    let web = [http("w", backend("web"), "web.example")];
    let start = catalog(&[("web", &web)]);
    let both = catalog(&[("web", &web), ("shop", &[http("a", backend("one"), "shop.example")])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    if !haproxy.ask("add backend shop from waypost mode http").contains("registered") {
        return;
    }
    follow(&haproxy, &start, &both);
    assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
    haproxy.ask("unpublish backend shop");
    assert_eq!(get(&haproxy, "shop.example", "/").0, "503");
    assert_eq!(settle(&haproxy, &all(&haproxy, &both), &mut || false).commands, 1);
    assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
    let same = Change { before: both.get("shop").cloned(), after: both.get("shop").cloned() };
    assert_eq!(settle(&haproxy, &[same], &mut || false).commands, 0);
}

/// While one process takes over from another, both may answer.
#[test]
fn answers_of_two_processes_are_one_of_neither() {
    let names: Vec<String> = (0..100).map(|number| format!("s{number}.example")).collect();
    let web = [http("w", backend("web"), "web.example")];
    let start = catalog(&[("web", &web)]);
    let all: Vec<(&str, &[Instance])> = names.iter().map(|name| (name.as_str(), [].as_slice())).collect();
    let mut many = catalog(&all);
    for (name, service) in &mut many {
        service.instances = vec![http("a", ([127, 0, 0, 1], 9).into(), name)];
    }
    let mut haproxy = Haproxy::start("127.0.0.1", "", &start);
    let comes = changes(&haproxy, &Catalog::new(), &many);
    let lines = queries(&haproxy.settings, &comes).unwrap();
    let mut answers: Vec<String> = lines.iter().map(|line| haproxy.ask(line)).collect();
    assert!(plan(&haproxy.settings, &node(), &comes, &answers).is_ok());
    haproxy.restart(&start);
    answers.truncate(1);
    answers.extend(lines[1..].iter().map(|line| haproxy.ask(line)));
    let found = plan(&haproxy.settings, &node(), &comes, &answers);
    assert!(matches!(found, Err(PluginError::Other(_))), "{found:?}");
}

#[test]
fn a_domain_with_paths_keeps_the_rest_from_the_wildcard() {
    let path = |id: &str, name, path| {
        instance(id, backend(name), &[("protocol", "http"), ("domain", "a.c.example"), ("path", path)])
    };
    let wild = [http("w", backend("wild"), "*.c.example")];
    let (shop, blog) = ([path("a", "shop", "/api")], [path("b", "blog", "/blog")]);
    let start = catalog(&[("wild", &wild)]);
    let one = catalog(&[("wild", &wild), ("blog", &blog)]);
    let both = catalog(&[("wild", &wild), ("shop", &shop), ("blog", &blog)]);
    let mut haproxy = Haproxy::start("127.0.0.1", "", &start);
    assert_eq!(get(&haproxy, "a.c.example", "/x").1, "wild");
    follow(&haproxy, &start, &both);
    let seen = |haproxy: &Haproxy| {
        ["/api", "/blog/x", "/x"].map(|path| match get(haproxy, "a.c.example", path) {
            (status, _) if status == "503" => status,
            (_, name) => name,
        })
    };
    assert_eq!(seen(&haproxy), ["shop", "blog", "503"]);
    assert_eq!(get(&haproxy, "b.c.example", "/x").1, "wild");
    assert_eq!(haproxy.ask("show map routes.map").matches("a.c.example// .").count(), 1);
    assert_eq!(settle(&haproxy, &all(&haproxy, &both), &mut || false).commands, 0);
    assert!(follow(&haproxy, &both, &one).reload_soon, "blog needs the marker, but who knows");
    assert_eq!(seen(&haproxy), ["503", "blog", "503"]);
    assert!(follow(&haproxy, &one, &start).reload_soon);
    assert!(!follow(&haproxy, &one, &start).reload_soon, "asked for once");
    haproxy.restart(&start);
    assert_eq!(seen(&haproxy), ["wild", "wild", "wild"]);
}
