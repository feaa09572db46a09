//! What leads to a service outlives its last instance for a while, and no other service answers there meanwhile.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, Section, always, eventually};
use tokio::time::Instant;

use super::{Offers, answers, ask, calm, discovering, http, listens, live, restart, unavailable};

/// The shop, its api below a path, and somebody who has all of the domain.
fn services(offers: &mut Offers<'_>, host: &Host) {
    offers.join("shop/one", &http("shop.example", "/"));
    offers.join("api/one", &http("shop.example", "/api"));
    offers.join("wild/one", &http("*.example", "/"));
    answers(host, "shop.example", "/", "shop/one");
    answers(host, "shop.example", "/api", "api/one");
    answers(host, "a.example", "/", "wild/one");
}

/// How long an nginx worker that was replaced may take requests: it still has the server that is gone.
const OLD_WORKER: Duration = Duration::from_millis(200);

/// Waits until no worker that was replaced takes requests any more.
#[track_caller]
fn without_old_workers(host: &Host) {
    eventually(CHANGE_TIMEOUT, "workers that were replaced take no more requests", || {
        let begun = Instant::now();
        while begun.elapsed() < OLD_WORKER {
            let reply = ask(host, "shop.example", "/api/x")?;
            ensure!(reply.status == 503, "{reply:?}");
        }
        Ok(())
    });
}

/// Nobody answers below the path, for some time.
#[track_caller]
fn stays_away(host: &Host) {
    without_old_workers(host);
    always(Duration::from_secs(1), "nobody answers for the api", || {
        let reply = ask(host, "shop.example", "/api/x")?;
        ensure!(reply.status == 503, "{reply:?}");
        Ok(())
    });
}

fn outlives(section: fn(&Host) -> Section) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &section(&host)));
    services(&mut offers, &host);
    offers.leave("api/one");
    unavailable(&host, "shop.example", "/api");
    calm(&agent);
    stays_away(&host);
    restart(&mut agent);
    calm(&agent);
    stays_away(&host);
    offers.tcp("db", 7000);
    listens(&host, 7000, "db/one");
    stays_away(&host);
    assert!(agent.stop().success());
    agent.start_again();
    answers(&host, "shop.example", "/", "shop/one");
    stays_away(&host);
    agent.kill();
    offers.leave("wild/one");
    agent.start_again();
    unavailable(&host, "a.example", "/");
    stays_away(&host);
    answers(&host, "shop.example", "/", "shop/one");
    offers.join("new/one", &http("shop.example", "/api"));
    answers(&host, "shop.example", "/api", "new/one");
    calm(&agent);
    restart(&mut agent);
    calm(&agent);
    answers(&host, "shop.example", "/api", "new/one");
}

#[test]
fn a_route_outlives_its_last_instance() {
    outlives(live);
}

#[test]
fn a_route_outlives_its_last_instance_behind_nginx() {
    outlives(Section::nginx);
}

fn ends(section: fn(&Host) -> Section) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let output = section(&host).with("linger", "3s");
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &output));
    services(&mut offers, &host);
    calm(&agent);
    for _ in 0..2 {
        offers.leave("api/one");
        unavailable(&host, "shop.example", "/api");
        let left = tokio::time::Instant::now();
        answers(&host, "shop.example", "/api", "shop/one");
        assert!(left.elapsed() > Duration::from_secs(1), "it did not outlive anything: {:?}", left.elapsed());
        calm(&agent);
        offers.join("api/one", &http("shop.example", "/api"));
        answers(&host, "shop.example", "/api", "api/one");
        calm(&agent);
    }
    offers.leave("api/one");
    unavailable(&host, "shop.example", "/api");
    restart(&mut agent);
    eventually(CHANGE_TIMEOUT, "it ends although the agent was started again", || {
        let seen = ask(&host, "shop.example", "/api")?.good()?;
        ensure!(seen == "shop/one", "{seen}");
        Ok(())
    });
}

#[test]
fn a_route_ends_when_nobody_has_come_back() {
    ends(live);
}

#[test]
fn a_route_ends_when_nobody_has_come_back_behind_nginx() {
    ends(Section::nginx);
}
