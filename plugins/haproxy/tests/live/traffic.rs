//! What clients see, and what others do on the socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use waypost_plugin_sdk::{Change, Readiness};
use waypost_test_support::{DEADLINE, eventually, free_port, holds};

use crate::agent::{all, changes, settle};
use crate::clients::{answering, backend, catalog, follow, get, head, http, instance};
use crate::haproxy::{Catalog, Haproxy};

#[test]
fn the_first_instance_of_a_new_service_needs_no_reload() {
    let web = [http("w", backend("web"), "web.example")];
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example"));
    let start = catalog(&[("web", &web)]);
    let first = catalog(&[("web", &web), ("shop", &[one.clone()])]);
    let both = catalog(&[("web", &web), ("shop", &[one.clone(), two.clone()])]);
    let second = catalog(&[("web", &web), ("shop", &[two])]);
    let mut haproxy = Haproxy::start("127.0.0.1", r#""dynamic-backends": false,"#, &start);
    assert_eq!(get(&haproxy, "shop.example", "/").0, "503");

    let tally = follow(&haproxy, &start, &first);
    assert_eq!((tally.rounds, tally.queries, tally.commands), (2, 2, 1), "one line each time");
    assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
    assert_eq!(haproxy.map("routes.map")["shop.example/"], "shop");
    follow(&haproxy, &first, &both);
    assert_eq!(answering(&haproxy, "shop.example"), ["one", "two"]);
    follow(&haproxy, &both, &second);
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    assert_eq!(haproxy.map("standby.map").len(), 1);

    haproxy.restart(&second);
    assert_eq!(haproxy.map("standby.map").len(), 0, "its own section has it now");
    assert_eq!(settle(&haproxy, &all(&haproxy, &second), &mut || false).commands, 0);
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    follow(&haproxy, &second, &start);
    assert_eq!(get(&haproxy, "shop.example", "/").0, "503");
}

/// From 3.4 on; an older one has standby backends for it.
#[test]
fn a_backend_is_made_where_haproxy_can() {
    let web = [http("w", backend("web"), "web.example")];
    let shop = [http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example")];
    let (start, both) = (catalog(&[("web", &web)]), catalog(&[("web", &web), ("shop", &shop)]));
    let mut haproxy = Haproxy::start("127.0.0.1", "", &start);
    let version = haproxy.ask("show version");
    let numbers: Vec<u32> = version.trim().split(['.', '-']).take(2).map(|number| number.parse().unwrap()).collect();
    for _ in 0..3 {
        follow(&haproxy, &start, &both);
        assert_eq!(answering(&haproxy, "shop.example"), ["one", "two"]);
        assert_eq!(haproxy.map("standby.map").is_empty(), numbers >= vec![3, 4], "{version}");
        follow(&haproxy, &both, &start);
        assert_eq!(get(&haproxy, "shop.example", "/").0, "503");
    }
    follow(&haproxy, &start, &both);
    haproxy.restart(&both);
    assert_eq!(settle(&haproxy, &all(&haproxy, &both), &mut || false).commands, 0);
    assert_eq!(answering(&haproxy, "shop.example"), ["one", "two"]);
}

#[test]
fn prepared_backends_are_given_back_and_run_out() {
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let names: Vec<String> = (1..=5).map(|number| format!("s{number}.example")).collect();
    let some = |count: usize| {
        let mut all = catalog(&[("web", &[http("w", address, "web.example")])]);
        for name in &names[..count] {
            all.extend(catalog(&[(name, &[http("a", address, name)])]));
        }
        all
    };
    let haproxy = Haproxy::start("127.0.0.1", r#""standby-backends": 4, "dynamic-backends": false,"#, &some(0));
    for _ in 0..3 {
        assert!(!follow(&haproxy, &some(0), &some(2)).reload_soon);
        assert_eq!(haproxy.map("standby.map").len(), 2);
        follow(&haproxy, &some(2), &some(0));
        assert_eq!(haproxy.map("standby.map").len(), 0);
    }
    follow(&haproxy, &some(0), &some(2));
    assert!(follow(&haproxy, &some(2), &some(4)).reload_soon, "less than half of them is free");
    assert!(settle(&haproxy, &changes(&haproxy, &some(4), &some(5)), &mut || false).reload, "none is free");
}

#[test]
fn a_server_drains_changes_its_weight_and_moves() {
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example"));
    let start = catalog(&[("shop", &[one.clone(), two.clone()])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    let mut leaving = one.clone();
    leaving.readiness = Readiness::Draining;
    let drained = catalog(&[("shop", &[leaving, two.clone()])]);
    follow(&haproxy, &start, &drained);
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    follow(&haproxy, &drained, &start);
    assert_eq!(answering(&haproxy, "shop.example"), ["one", "two"]);

    let mut heavy = one.clone();
    heavy.weight = Some(9);
    let moved = http("b", backend("three"), "shop.example");
    let next = catalog(&[("shop", &[heavy, moved])]);
    follow(&haproxy, &start, &next);
    let answers: Vec<String> = (0..20).map(|_| get(&haproxy, "shop.example", "/").1).collect();
    assert!(answers.iter().filter(|name| *name == "one").count() > 15, "{answers:?}");
    assert_eq!(answering(&haproxy, "shop.example"), ["one", "three"]);
}

#[test]
fn a_server_that_leaves_finishes_what_is_open() {
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example"));
    let start = catalog(&[("shop", &[one.clone()])]);
    let next = catalog(&[("shop", &[two.clone()])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    let mut client = TcpStream::connect(&haproxy.http).unwrap();
    client.write_all(b"GET /wait HTTP/1.0\r\nHost: shop.example\r\n\r\n").unwrap();
    assert!(head(&client).unwrap().contains("200"));
    let tally = follow(&haproxy, &start, &next);
    assert_eq!(tally.rounds, 2, "a server with connections is settled");
    assert_eq!(haproxy.servers(&next).len(), 2, "and waits in maintenance");
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    assert_eq!(settle(&haproxy, &all(&haproxy, &next), &mut || false).commands, 0, "it is not touched again");
    TcpStream::connect((one.address.as_str(), one.port)).unwrap().write_all(b"GET /go HTTP/1.0\r\n\r\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "one", "the download is whole");
    eventually(DEADLINE, "the server is deleted when it is asked about next", || {
        assert!(!settle(&haproxy, &all(&haproxy, &next), &mut || false).reload);
        let servers = haproxy.servers(&next);
        holds(servers.len() == 1, servers)
    });
}

#[test]
fn a_tcp_service_leaves_and_comes_back() {
    let port = free_port().to_string();
    let facts = [("protocol", "tcp"), ("listen-port", port.as_str())];
    let one = instance("a", backend("one"), &facts);
    let two = instance("b", backend("two"), &facts);
    let start = catalog(&[("db", &[one.clone()])]);
    let both = catalog(&[("db", &[one, two])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    let names = || {
        let ask = |_| {
            let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.rsplit("\r\n\r\n").next().map(str::to_owned)
        };
        let mut names: Vec<String> = (0..4).filter_map(ask).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(names(), ["one"]);
    follow(&haproxy, &start, &both);
    assert_eq!(names(), ["one", "two"]);
    let tally = follow(&haproxy, &both, &Catalog::new());
    assert!(tally.reload_soon, "the port is still open");
    assert_eq!(names(), [""]);
    assert!(settle(&haproxy, &changes(&haproxy, &Catalog::new(), &start), &mut || false).reload);
}

#[test]
fn a_hand_on_the_socket_heals() {
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example"));
    let start = catalog(&[("shop", &[one.clone()]), ("web", &[two.clone()])]);
    let haproxy = Haproxy::start("127.0.0.1", "", &catalog(&[("shop", &[one])]));
    // `web` has the domain that `shop` has, so the files have `shop` only.
    let state = || (haproxy.servers(&start), haproxy.map("routes.map"));
    let before = state();
    for command in [
        "set server shop/a state maint",
        "set server shop/a state drain",
        "set server shop/a weight 3",
        "set server shop/a addr 127.0.0.7 port 1",
        "disable health shop/a",
        "disable server shop/a; del server shop/a",
        "add server shop/x 127.0.0.1:1; enable server shop/x",
        "del map routes.map shop.example/",
        "clear map routes.map",
        "set map routes.map shop.example/ elsewhere",
    ] {
        haproxy.ask(command);
        // HAProxy 3.4 changes an address a moment after it has answered.
        eventually(DEADLINE, command, || holds(state() != before, &before));
        assert!(!settle(&haproxy, &all(&haproxy, &start), &mut || false).reload, "{command}");
        eventually(DEADLINE, &format!("it is as before: {command}"), || {
            let now = state();
            holds(now == before, now)
        });
        assert_eq!(answering(&haproxy, "shop.example"), ["one"], "{command}");
    }
}

#[test]
fn a_domain_moves_between_two_services() {
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "new.example"));
    let start = catalog(&[("shop", &[one.clone()]), ("web", &[two.clone()])]);
    let swapped = catalog(&[
        ("shop", &[http("a", format!("{}:{}", one.address, one.port).parse().unwrap(), "new.example")]),
        ("web", &[http("b", format!("{}:{}", two.address, two.port).parse().unwrap(), "shop.example")]),
    ]);
    let haproxy = Haproxy::start("127.0.0.1", "", &start);
    follow(&haproxy, &start, &swapped);
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    assert_eq!(answering(&haproxy, "new.example"), ["one"]);
    // The agent gives a domain to one service only; who is asked about first does not matter.
    for name in ["web", "shop", "web", "shop"] {
        let alone = Change { before: swapped.get(name).cloned(), after: start.get(name).cloned() };
        assert!(!settle(&haproxy, &[alone], &mut || false).reload);
    }
    assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
    assert_eq!(answering(&haproxy, "new.example"), ["two"]);
}

/// As HAProxy 2.4 and 2.5 are spoken to, which add servers only in an experimental mode.
#[test]
fn prepared_servers_take_instances_where_none_can_be_added() {
    let (one, two) = (http("a", backend("one"), "shop.example"), http("b", backend("two"), "shop.example"));
    let start = catalog(&[("shop", &[one.clone()])]);
    let both = catalog(&[("shop", &[one, two.clone()])]);
    let second = catalog(&[("shop", &[two.clone()])]);
    let more = [http("c", backend("three"), "shop.example"), http("d", backend("four"), "shop.example")];
    let three = catalog(&[("shop", &[two.clone(), more[0].clone()])]);
    let four = catalog(&[("shop", &[two, more[0].clone(), more[1].clone()])]);
    let mut haproxy = Haproxy::start("127.0.0.1", r#""slots": 2,"#, &start);
    haproxy.version = Some("2.4.22");
    follow(&haproxy, &start, &both);
    assert_eq!(answering(&haproxy, "shop.example"), ["one", "two"]);
    follow(&haproxy, &both, &second);
    assert_eq!(answering(&haproxy, "shop.example"), ["two"]);
    follow(&haproxy, &second, &three);
    assert_eq!(answering(&haproxy, "shop.example"), ["three", "two"]);
    assert_eq!(settle(&haproxy, &all(&haproxy, &three), &mut || false).commands, 0);
    assert!(settle(&haproxy, &changes(&haproxy, &three, &four), &mut || false).reload, "no slot is left");
}
