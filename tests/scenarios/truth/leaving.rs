//! What leaves while the proxy is being reloaded is gone from the new process as well.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, Section, Server, always, eventually};
use serde_json::json;

use super::{Offers, answers, ask, at_once, calm, discovering, http, listens, live, output};

/// Services at the beginning.
const SERVICES: usize = 40;
/// Reloads, in each of which one service or instance leaves.
const ROUNDS: usize = 12;
/// How long what left may be answered for.
const MOMENT: Duration = Duration::from_secs(3);

fn domain(service: usize) -> String {
    format!("s{service}.example")
}

/// Waits until no reload is owed.
#[track_caller]
fn is_reloaded(agent: &Agent<'_>) {
    eventually(CHANGE_TIMEOUT, "no reload is owed", || {
        let state = output(agent)?;
        ensure!(!state["differences"].to_string().contains("to be reloaded"), "{state}");
        Ok(())
    });
}

/// Starts a server at a port that another one has just left.
fn at_port(offers: &Offers<'_>, port: u16, name: &str) -> Server {
    eventually(CHANGE_TIMEOUT, "the port is free again", || {
        Ok(Server::start_at(&offers.inside, offers.address, port, name)?)
    })
}

/// Nobody but a second instance answers for what left in a round.
fn is_gone(host: &Host, round: usize) -> anyhow::Result<()> {
    let seen = ask(host, &domain(round), "/")?;
    let is_right = if round % 2 == 1 { seen.body == format!("s{round}/b") } else { seen.status == 503 };
    ensure!(is_right, "what left in round {round} is answered for: {seen:?}");
    Ok(())
}

fn leaves(section: fn(&Host) -> Section) {
    let lab = Network::new();
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
    let agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &section(&host)));
    (0..SERVICES).for_each(|service| answers(&host, &domain(service), "/", &format!("s{service}/a")));
    let mut strangers = Vec::new();
    for (round, port) in ports.into_iter().enumerate().take(ROUNDS) {
        is_reloaded(&agent);
        let listen = 7000 + u16::try_from(round).unwrap();
        offers.tcp(&format!("t{round}"), listen);
        eventually(CHANGE_TIMEOUT, "the file that is to be loaded is there", || {
            ensure!(agent.proxy_file("haproxy.cfg").contains(&format!("bind *:{listen}")));
            Ok(())
        });
        let pause = Duration::from_millis(10 * u64::try_from(round).unwrap());
        always(pause, "who stays answers", || ask(&host, &domain(SERVICES - 1), "/")?.good().map(drop));
        offers.leave(&format!("s{round}/a"));
        let stranger = format!("stranger{round}");
        let server = at_port(&offers, port, &stranger);
        let attributes = http(&format!("{stranger}.example"), "/");
        let value = json!({"address": host.address(), "port": port, "attributes": attributes});
        offers.put(&format!("{stranger}/one"), &value);
        strangers.push(server);
        listens(&host, listen, &format!("t{round}/one"));
        answers(&host, &format!("{stranger}.example"), "/", &stranger);
        let is_right = || (0..2).try_for_each(|_| is_gone(&host, round));
        eventually(MOMENT, "the stranger does not answer for what left", is_right);
        (0..=round).for_each(|gone| is_gone(&host, gone).unwrap());
    }
    calm(&agent);
    always(MOMENT, "what left does not come back", || (0..ROUNDS).try_for_each(|round| is_gone(&host, round)));
}

#[test]
fn what_leaves_while_the_proxy_reloads_is_gone() {
    leaves(live);
}

#[test]
fn what_leaves_while_the_proxy_reloads_is_gone_when_nothing_lingers() {
    leaves(at_once);
}
