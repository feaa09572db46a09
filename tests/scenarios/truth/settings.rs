//! What is changed in the configuration while no agent runs is what the proxy has after the next start.

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Etcd, Host, Network, eventually};
use serde_json::{Value, json};

use super::{Offers, answers, ask, calm, clean, command, configure, discovering, live, output};

/// Changes a setting `rounds` times with a restart of the agent each, in which its proxy goes on; `runs` says whether the
/// running proxy has the setting of a round.
fn changed(
    rounds: usize,
    setting: impl Fn(usize) -> (&'static str, Value),
    runs: impl Fn(&Host, usize) -> anyhow::Result<()>,
) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("shop", "shop.example");
    offers.tcp("db", 7000);
    let text = |etcd: &Etcd<'_>, round| {
        let (key, value) = setting(round);
        discovering(&host, etcd, &live(&host).setting(key, value))
    };
    let mut agent = Agent::start(&host, "agent", &text(&etcd, 0));
    clean(&agent);
    runs(&host, 0).unwrap();
    for round in 1..=rounds {
        agent.kill();
        configure(&host, &text(&etcd, round));
        agent.start_again();
        eventually(CHANGE_TIMEOUT, "the output is settled", || {
            let state = output(&agent)?;
            ensure!(state["settled"] == true, "{state}");
            // What is settled is what runs.
            runs(&host, round).unwrap();
            ensure!(state["reloads"] == 1, "{state}");
            Ok(())
        });
        offers.leave("shop/one");
        offers.http("shop", "shop.example");
        calm(&agent);
        runs(&host, round).unwrap();
        assert_eq!(calm(&agent), 1, "{}", agent.log());
    }
}

#[test]
fn another_global_line_is_loaded_by_one_reload_after_a_restart() {
    let setting = |round| ("global-lines", json!([format!("maxconn {}", 777 + round)]));
    changed(5, setting, |host, round| {
        let info = command(host, "show info")?;
        ensure!(info.contains(&format!("Maxconn: {}\n", 777 + round)), "{info}");
        Ok(())
    });
}

#[test]
fn another_http_line_is_loaded_by_one_reload_after_a_restart() {
    let setting = |round| ("http-lines", json!([format!("http-response set-header X-Round {round}")]));
    changed(3, setting, |host, round| {
        let text = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
        let seen = host.connect(80)?.exchange(text)?.to_ascii_lowercase();
        ensure!(seen.contains(&format!("x-round: {round}\r\n")), "{seen}");
        Ok(())
    });
}

#[test]
fn another_address_is_bound_by_one_reload_after_a_restart() {
    let port = |round| 8080 + u16::try_from(round).unwrap();
    let setting = |round| ("http-bind", json!(format!("*:{}", port(round))));
    changed(3, setting, |host, round| {
        host.connect(port(round))?.get_of("shop.example", "/")?;
        ensure!(host.connect(port(round) - 1).is_err(), "port {} is open", port(round) - 1);
        Ok(())
    });
}

#[test]
fn a_changed_setting_is_loaded_by_the_next_start_after_a_stop() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("shop", "shop.example");
    let text = |maxconn: u32| discovering(&host, &etcd, &live(&host).setting("maxconn", maxconn));
    let mut agent = Agent::start(&host, "agent", &text(501));
    answers(&host, "shop.example", "/", "shop/one");
    assert!(agent.stop().success(), "{}", agent.log());
    assert!(ask(&host, "shop.example", "/").is_err(), "the proxy outlives an agent that was asked to stop");
    configure(&host, &text(502));
    agent.start_again();
    answers(&host, "shop.example", "/", "shop/one");
    clean(&agent);
    let info = command(&host, "show info").unwrap();
    assert!(info.contains("Maxconn: 502\n"), "{info}");
}
