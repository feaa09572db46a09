//! What cannot be served costs nothing: no reload, however long it stands, and after a restart too.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, Host, Network, always};
use serde_json::json;

use super::{Offers, answers, calm, discovering, http, listens, live, reloads, restart, told};

/// Changes of a service that is as it should be.
const CHANGES: usize = 20;

/// How long the number of reloads is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Twenty instances come and go one after the other, and nothing is reloaded for it.
#[track_caller]
fn is_quiet(agents: &[Agent<'_>], hosts: &[&Host], offers: &mut Offers<'_>) {
    let before: Vec<_> = agents.iter().map(calm).collect();
    for change in 1..=CHANGES {
        let place = format!("busy/{change}");
        offers.join(&place, &http("busy.example", "/"));
        offers.leave(&format!("busy/{}", change - 1));
        hosts.iter().for_each(|host| answers(host, "busy.example", "/", &place));
    }
    offers.join("busy/0", &http("busy.example", "/"));
    offers.leave(&format!("busy/{CHANGES}"));
    hosts.iter().for_each(|host| answers(host, "busy.example", "/", "busy/0"));
    let after: Vec<_> = agents.iter().map(reloads).collect();
    assert_eq!(before, after, "reloads: {}", agents[0].log());
    always(IDLE, "nothing is reloaded", || {
        let now = agents.iter().map(reloads).collect::<Vec<_>>();
        ensure!(now == before, "{now:?} instead of {before:?}");
        Ok(())
    });
}

#[test]
fn who_has_no_domain_or_no_port_costs_no_reload() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (web, edge) = (lab.host("web"), lab.host("edge"));
    let hosts = [&web, &edge];
    let mut offers = Offers::on(&web, &etcd);
    offers.join("busy/0", &http("busy.example", "/"));
    offers.http("shop", "shop.example");
    offers.tcp("db", 7000);
    let start = |host| Agent::start(host, "agent", &discovering(host, &etcd, &live(host)));
    let mut agents = hosts.map(start);
    for host in hosts {
        answers(host, "shop.example", "/", "shop/one");
        listens(host, 7000, "db/one");
    }
    offers.http("dup", "shop.example");
    offers.tcp("second", 7000);
    offers.join("lost/one", &json!({"protocol": "tcp"}));
    for agent in &agents {
        told(agent, "dup", &["domain shop.example", "shop"]);
        told(agent, "second", &["port 7000", "db"]);
    }
    is_quiet(&agents, &hosts, &mut offers);
    agents.iter_mut().for_each(restart);
    for agent in &agents {
        told(agent, "dup", &["domain shop.example", "shop"]);
        told(agent, "second", &["port 7000", "db"]);
    }
    is_quiet(&agents, &hosts, &mut offers);
    for host in hosts {
        answers(host, "shop.example", "/", "shop/one");
        listens(host, 7000, "db/one");
    }
}
