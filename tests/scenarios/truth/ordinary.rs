//! Ordinary days: a port that somebody else has, the last of everything leaves and the first comes back.

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, Section, Signal, eventually};

use super::{Offers, answers, at_once, clean, discovering, listens, live, output, unavailable};

#[test]
fn a_taken_port_of_the_front_end_keeps_only_http_waiting() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut squats = host.command("python3");
    squats.args(["-m", "http.server", "80"]);
    let mut squatter = host.spawn("squatter", squats);
    eventually(CHANGE_TIMEOUT, "somebody else has the port", || host.connect(80));
    let mut offers = Offers::on(&host, &etcd);
    offers.tcp("db", 7000);
    offers.http("shop", "shop.example");
    let agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host)));
    listens(&host, 7000, "db/one");
    eventually(CHANGE_TIMEOUT, "it is said who has the port", || {
        let report = agent.report()?;
        let problems = report["problems"].as_array().cloned().unwrap_or_default();
        let mut texts = problems.iter().filter_map(|problem| problem["text"].as_str());
        ensure!(texts.any(|text| text.contains(":80") && text.contains("python3 (pid ")), "{problems:?}");
        ensure!(output(&agent)?["settled"] == false, "{}", output(&agent)?);
        Ok(())
    });
    offers.tcp("cache", 7001);
    listens(&host, 7001, "cache/one");
    squatter.signal(Signal::KILL);
    squatter.wait(CHANGE_TIMEOUT);
    answers(&host, "shop.example", "/", "shop/one");
    clean(&agent);
    listens(&host, 7000, "db/one");
}

/// The last of everything leaves and the first comes back, twice.
fn emptied(section: impl Fn(&Host) -> Section) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &section(&host)));
    for _ in 0..3 {
        offers.http("shop", "shop.example");
        offers.tcp("db", 7000);
        answers(&host, "shop.example", "/", "shop/one");
        listens(&host, 7000, "db/one");
        clean(&agent);
        offers.leave("shop/one");
        offers.leave("db/one");
        unavailable(&host, "shop.example", "/");
        eventually(CHANGE_TIMEOUT, "nobody answers at the port", || {
            ensure!(host.connect(7000).and_then(|open| open.get("/")).is_err());
            Ok(())
        });
        clean(&agent);
    }
}

#[test]
fn all_leave_and_come_back() {
    emptied(live);
}

#[test]
fn all_leave_and_come_back_when_nothing_lingers() {
    emptied(at_once);
}

#[test]
fn all_leave_and_come_back_behind_nginx() {
    emptied(Section::nginx);
}

#[test]
fn all_leave_and_come_back_behind_nginx_when_nothing_lingers() {
    emptied(|host| Section::nginx(host).with("linger", "0s"));
}
