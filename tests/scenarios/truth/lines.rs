//! What the operator's own lines ask for and is not there costs nobody else anything; and what is meant instead.

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, Section, eventually};
use serde_json::json;

use super::{Offers, answers, ask, at_once, calm, clean, configure, discovering, live, unavailable};

const LINES: [&str; 1] = ["default_backend shop"];

/// Waits until any problem is told with all of `words`.
#[track_caller]
fn said(agent: &Agent<'_>, words: &[&str]) {
    eventually(CHANGE_TIMEOUT, &format!("{words:?} is told"), || {
        let report = agent.report()?;
        let problems = report["problems"].as_array().cloned().unwrap_or_default();
        let mut texts = problems.iter().filter_map(|problem| problem["text"].as_str());
        ensure!(texts.any(|text| words.iter().all(|word| text.contains(word))), "{problems:?}");
        Ok(())
    });
}

#[test]
fn a_line_that_asks_for_a_service_which_is_not_there_takes_nobody_away() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("other", "other.example");
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host)));
    answers(&host, "other.example", "/", "other/one");
    clean(&agent);
    agent.kill();
    configure(&host, &discovering(&host, &etcd, &live(&host).setting("http-lines", json!(LINES))));
    agent.start_again();
    said(&agent, &["default_backend shop", "no service wrote"]);
    answers(&host, "other.example", "/", "other/one");
    offers.leave("other/one");
    offers.http("other", "other.example");
    answers(&host, "other.example", "/", "other/one");
    offers.http("shop", "shop.example");
    answers(&host, "shop.example", "/", "shop/one");
    answers(&host, "nobody.example", "/", "shop/one");
    clean(&agent);
}

#[test]
fn a_line_that_asks_for_a_service_which_leaves_takes_nobody_away() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("other", "other.example");
    offers.http("shop", "shop.example");
    let text = discovering(&host, &etcd, &at_once(&host).setting("http-lines", json!(LINES)));
    let agent = Agent::start(&host, "agent", &text);
    answers(&host, "nobody.example", "/", "shop/one");
    clean(&agent);
    offers.leave("shop/one");
    unavailable(&host, "shop.example", "/");
    said(&agent, &["default_backend shop"]);
    offers.leave("other/one");
    offers.http("other", "other.example");
    answers(&host, "other.example", "/", "other/one");
    offers.http("shop", "shop.example");
    answers(&host, "nobody.example", "/", "shop/one");
    clean(&agent);
}

#[test]
fn at_the_first_start_the_line_is_named_and_that_it_is_no_services() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("other", "other.example");
    let agent =
        Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host).setting("http-lines", json!(LINES))));
    said(&agent, &["default_backend shop", "no service wrote", "haproxy.cfg line"]);
    offers.http("shop", "shop.example");
    answers(&host, "other.example", "/", "other/one");
    answers(&host, "nobody.example", "/", "shop/one");
    clean(&agent);
}

fn default_service(section: fn(&Host) -> Section) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("other", "other.example");
    let output = section(&host).with("linger", "0s").setting("default-service", "shop");
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &output));
    answers(&host, "other.example", "/", "other/one");
    unavailable(&host, "nobody.test", "/");
    clean(&agent);
    for _ in 0..2 {
        offers.http("shop", "shop.example");
        answers(&host, "nobody.test", "/", "shop/one");
        answers(&host, "other.example", "/", "other/one");
        clean(&agent);
        super::restart(&mut agent);
        calm(&agent);
        assert_eq!(ask(&host, "nobody.test", "/").unwrap().body, "shop/one");
        offers.leave("shop/one");
        unavailable(&host, "nobody.test", "/");
        answers(&host, "other.example", "/", "other/one");
        clean(&agent);
    }
}

#[test]
fn a_default_service_comes_and_goes() {
    default_service(live);
}

#[test]
fn a_default_service_comes_and_goes_behind_nginx() {
    default_service(Section::nginx);
}
