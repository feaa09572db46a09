//! What leaves while the proxy is being reloaded is gone from the new process as well.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, Lab, SOON, Server, always, eventually};
use serde_json::json;

use super::{Offers, answers, ask, calm, discovering, http, listens, live};

/// Services at the beginning.
const SERVICES: usize = 40;
/// Reloads, in each of which one service or instance leaves.
const ROUNDS: usize = 12;
/// How long what left may be answered for.
const MOMENT: Duration = Duration::from_secs(8);

fn domain(service: usize) -> String {
    format!("s{service}.example")
}

/// Starts a server at a port that another one has just left.
fn at_port(offers: &Offers<'_>, port: u16, name: &str) -> Server {
    eventually(SOON, "the port is free again", || Ok(Server::start_at(&offers.inside, offers.address, port, name)?))
}

fn leaves(keys: &str) {
    let lab = Lab::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let mut ports = Vec::new();
    for service in 0..SERVICES {
        let attributes = http(&domain(service), "/");
        ports.push(offers.join(&format!("s{service}/a"), &attributes));
        // Every other service has a second instance, which stays.
        if service % 2 == 1 {
            offers.join(&format!("s{service}/b"), &attributes);
        }
    }
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host, keys, "")));
    (0..SERVICES).for_each(|service| answers(&host, &domain(service), "/", &format!("s{service}/a")));
    let mut strangers = Vec::new();
    for round in 0..ROUNDS {
        calm(&agent);
        let listen = 7000 + u16::try_from(round).unwrap();
        offers.tcp(&format!("t{round}"), listen);
        eventually(SOON, "the file that is to be loaded is there", || {
            ensure!(agent.proxy_file("haproxy.cfg").contains(&format!("bind *:{listen}")));
            Ok(())
        });
        let pause = Duration::from_millis(10 * u64::try_from(round).unwrap());
        always(pause, "who stays answers", || ask(&host, &domain(SERVICES - 1), "/")?.good().map(drop));
        offers.leave(&format!("s{round}/a"));
        let stranger = format!("stranger{round}");
        let server = at_port(&offers, ports[round], &stranger);
        let attributes = http(&format!("{stranger}.example"), "/");
        let value = json!({"address": host.address(), "port": ports[round], "attributes": attributes});
        offers.put(&format!("{stranger}/one"), &value);
        strangers.push(server);
        eventually(MOMENT, "what left is not answered for", || {
            let seen = ask(&host, &domain(round), "/")?;
            assert!(!seen.body.contains("stranger"), "round {round}: a dead service's domain is answered by {seen:?}");
            let expected = if round % 2 == 1 { 200 } else { 503 };
            ensure!(seen.status == expected, "{seen:?}");
            Ok(())
        });
        listens(&host, listen, &format!("t{round}/one"));
        answers(&host, &format!("{stranger}.example"), "/", &stranger);
    }
    calm(&agent);
    for (round, _) in strangers.iter().enumerate() {
        for _ in 0..4 {
            let seen = ask(&host, &domain(round), "/").unwrap();
            let expected = if round % 2 == 1 { (200, format!("s{round}/b")) } else { (503, String::new()) };
            assert_eq!(seen.status, expected.0, "{seen:?}");
            assert!(expected.0 == 503 || seen.body == expected.1, "{seen:?}");
        }
    }
    agent.lives();
}

#[test]
fn what_leaves_while_the_proxy_reloads_is_gone() {
    leaves("");
}

#[test]
fn what_leaves_while_the_proxy_reloads_is_gone_when_nothing_lingers() {
    leaves("linger = \"0s\"\n");
}
