//! What others do to the proxy: it is reloaded or killed by hand while services change, and is right again by itself.

use anyhow::{Context, ensure};
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, eventually};

use super::{Offers, answers, clean, discovering, http, listens, live, unavailable};

/// The supervised process, as processes of its host see it.
fn proxy(agent: &Agent<'_>) -> String {
    eventually(CHANGE_TIMEOUT, "a proxy runs", || {
        let noted = agent.proxy_file(".waypost-haproxy.pid");
        noted.lines().next().map(str::to_owned).context("no process is noted")
    })
}

/// Services come, move and leave, and right after that `act` is done to the proxy, over and over.
fn disturbed(act: impl Fn(&Host, &str)) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.join("shop/0", &http("shop.example", "/"));
    offers.http("old0", "old0.example");
    offers.tcp("db", 7000);
    let agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host)));
    answers(&host, "shop.example", "/", "shop/0");
    answers(&host, "old0.example", "/", "old0/one");
    clean(&agent);
    for round in 1..5 {
        let new = format!("shop/{round}");
        offers.join(&new, &http("shop.example", "/"));
        offers.leave(&format!("shop/{}", round - 1));
        offers.leave(&format!("old{}/one", round - 1));
        offers.http(&format!("old{round}"), &format!("old{round}.example"));
        answers(&host, "shop.example", "/", &new);
        answers(&host, &format!("old{round}.example"), "/", &format!("old{round}/one"));
        act(&host, &proxy(&agent));
        eventually(CHANGE_TIMEOUT, "all is as it is registered", || {
            for _ in 0..4 {
                let seen = super::ask(&host, "shop.example", "/")?.good()?;
                ensure!(seen == new, "{seen}");
            }
            Ok(())
        });
        answers(&host, &format!("old{round}.example"), "/", &format!("old{round}/one"));
        unavailable(&host, &format!("old{}.example", round - 1), "/");
        listens(&host, 7000, "db/one");
    }
    clean(&agent);
}

#[test]
fn a_proxy_that_somebody_reloads_has_what_changed() {
    disturbed(|host, pid| _ = host.run("kill", &["-USR2", pid]));
}

#[test]
fn a_proxy_that_somebody_kills_has_what_changed() {
    disturbed(|host, pid| _ = host.run("kill", &["-KILL", pid]));
}
