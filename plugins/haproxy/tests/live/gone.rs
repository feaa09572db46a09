//! A service without an instance stays for a while and answers that nobody is there.

use std::io::Read;
use std::net::TcpStream;

use waypost_plugin_sdk::Readiness;
use waypost_test_support::free_port;

use crate::agent::{all, changes, settle};
use crate::clients::{answering, backend, catalog, follow, get, http, instance};
use crate::haproxy::{Catalog, Haproxy};

fn gone(catalog: &Catalog, name: &str) -> Catalog {
    let mut catalog = catalog.clone();
    for instance in &mut catalog.get_mut(name).unwrap().instances {
        instance.readiness = Readiness::Gone;
    }
    catalog
}

#[test]
fn an_http_service_leaves_and_comes_back() {
    let web = [http("w", backend("web"), "web.example")];
    let shop = [http("a", backend("one"), "shop.example")];
    let start = catalog(&[("web", &web)]);
    let both = catalog(&[("web", &web), ("shop", &shop)]);
    for (first, settings) in [(&start, r#""dynamic-backends": false,"#), (&start, ""), (&both, "")] {
        let mut haproxy = Haproxy::start("127.0.0.1", settings, first);
        follow(&haproxy, first, &both);
        assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
        let place = haproxy.map("standby.map");
        let away = gone(&both, "shop");
        let tally = follow(&haproxy, &both, &away);
        assert_eq!((tally.rounds, tally.reload_soon), (2, false));
        assert_eq!(get(&haproxy, "shop.example", "/").0, "503");
        assert_eq!(haproxy.map("routes.map").len(), 2);
        assert_eq!(settle(&haproxy, &all(&haproxy, &away), &mut || false).commands, 0);
        follow(&haproxy, &away, &both);
        assert_eq!(answering(&haproxy, "shop.example"), ["one"]);
        assert_eq!(haproxy.map("standby.map"), place);

        follow(&haproxy, &both, &away);
        haproxy.restart(&away);
        assert_eq!(settle(&haproxy, &all(&haproxy, &away), &mut || false).commands, 0, "the files have the same");
        let tally = follow(&haproxy, &away, &start);
        assert!(!tally.reload_soon);
        assert_eq!(haproxy.map("routes.map").len(), 1);
    }
}

#[test]
fn a_tcp_service_keeps_its_port_until_it_leaves() {
    let port = free_port().to_string();
    let start = catalog(&[("db", &[instance("a", backend("db"), &[("listen-port", port.as_str())])])]);
    let away = gone(&start, "db");
    let mut haproxy = Haproxy::start("127.0.0.1", "", &start);
    let tally = follow(&haproxy, &start, &away);
    assert!(!tally.reload_soon && tally.commands > 0, "{tally:?}");
    let mut answer = String::new();
    let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    drop(client.read_to_string(&mut answer));
    assert_eq!(answer, "");
    follow(&haproxy, &away, &start);
    follow(&haproxy, &start, &away);
    let tally = follow(&haproxy, &away, &Catalog::new());
    assert_eq!((tally.rounds, tally.commands, tally.reload_soon), (1, 0, true), "its port is left");
    haproxy.restart(&Catalog::new());
    let tally = settle(&haproxy, &changes(&haproxy, &away, &Catalog::new()), &mut || false);
    assert_eq!((tally.commands, tally.reload_soon, tally.reload), (0, false, false));
}
