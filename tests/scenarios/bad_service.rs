//! One bad service among a thousand: the others take their changes, it stays as it was, and joins when it is good again.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Host, NetnsRuntime, Network, START_TIMEOUT, Section, Server, etcd_section, eventually,
};
use serde_json::json;

/// Services, each of one instance.
const ALL: usize = 1000;
/// The one that becomes bad.
const BAD: &str = "s500";

/// `sh CHECK DIR MODE COUNT` refuses the weight 13, with its line when the mode is `named`, and otherwise asks `HAProxy`. Each
/// call is one line in the file `COUNT`.
const CHECK: &str = r#"echo >> "$3"
line=$(grep -n 'weight 13$' "$1/haproxy.cfg" | head -n 1 | cut -d: -f1)
case $2:$line in
    *:) exec haproxy -c -f "$1/haproxy.cfg" ;;
    named:*) echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : an unlucky weight" >&2 ;;
    *) echo bad >&2 ;;
esac
exit 1
"#;

/// Every service at this port; the bad one with a weight of its own.
fn entries(host: &Host, port: u16, weight: u16) -> BTreeMap<String, String> {
    let entry = |number: usize| {
        let name = format!("s{number}");
        let weight = if name == BAD { weight } else { 10 };
        let attributes = json!({"protocol": "http", "domain": format!("{name}.example")});
        let value = json!({"address": host.address(), "port": port, "weight": weight, "attributes": attributes});
        (format!("/waypost/services/{name}/one"), value.to_string())
    };
    (0..ALL).map(entry).collect()
}

/// How many services are at each of two ports in the proxy's file.
fn routed(agent: &Agent<'_>, ports: [u16; 2]) -> [usize; 2] {
    let file = agent.proxy_file("haproxy.cfg");
    ports.map(|port| file.matches(&format!(":{port} weight ")).count())
}

/// Makes one service bad while all change, and good again; gives the number of checks for either.
fn one_is_bad(mode: &str, reason: &str) -> [usize; 2] {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let (check, count) = (host.dir().join("check"), host.dir().join("checks"));
    std::fs::write(&check, CHECK).unwrap();
    let output = Section::haproxy(&host).with("check", json!(["sh", check, "{dir}", mode, count]));
    let text = [
        Section::agent(&host).with("register", false).to_string(),
        etcd_section(&etcd, "15s"),
        output.setting("check", false).to_string(),
    ];
    let inside = NetnsRuntime::of(&host);
    let [old, new] = ["old", "new"].map(|name| Server::start(&inside, host.address(), name));
    let ports = [old.port(), new.port()];
    let agent = Agent::start(&host, "agent", &text.concat());
    let checks = || std::fs::read_to_string(&count).unwrap().lines().count();
    let answers = |service: &str, expected: &str| {
        eventually(CHANGE_TIMEOUT, "a service answers", || {
            let seen = host.connect(80)?.get_of(&format!("{service}.example"), "/")?.good()?;
            ensure!(seen == expected, "{service} is answered by {seen}");
            Ok(())
        });
    };
    let becomes = |agent: &Agent<'_>, what: &str, expected: [usize; 2]| {
        eventually(START_TIMEOUT, what, || {
            let (found, report) = (routed(agent, ports), agent.report()?);
            ensure!(found == expected, "{found:?} instead of {expected:?}");
            let (output, one) = (&report["outputs"]["haproxy"], "1 service is not served as wanted: s500");
            ensure!(output["settled"] == true || output["differences"] == json!([one]), "{output}");
            Ok(())
        });
    };

    etcd.put_all(&entries(&host, ports[0], 10));
    becomes(&agent, "all are routed", [ALL, 0]);
    answers(BAD, "old");
    let before = checks();
    etcd.put_all(&entries(&host, ports[1], 13));
    becomes(&agent, "all but the bad one have changed", [1, ALL - 1]);
    ["s0", "s499", "s501", "s999"].iter().for_each(|service| answers(service, "new"));
    answers(BAD, "old");
    let refused = checks() - before;
    let report = agent.report().unwrap();
    let problems = report["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["subject"] == BAD).context("no problem").unwrap();
    assert!(problem["text"].as_str().unwrap().contains(reason), "{problem}");
    assert_eq!(problems.len(), 1, "{problems:?}");

    let before = checks();
    etcd.put_all(&entries(&host, ports[1], 10).into_iter().filter(|(key, _)| key.contains(BAD)).collect());
    becomes(&agent, "it joins", [0, ALL]);
    answers(BAD, "new");
    assert_eq!(agent.report().unwrap()["problems"], json!([]));
    [refused, checks() - before]
}

#[test]
fn a_bad_service_is_held_back_by_the_line_that_the_check_names() {
    let [refused, healed] = one_is_bad("named", "an unlucky weight");
    println!("checks while one of {ALL} services is bad and its line is named: {refused}, afterwards {healed}");
    assert!(refused <= 10 && healed == 1, "{refused} and {healed} checks");
}

#[test]
fn a_bad_service_is_found_when_the_check_names_none() {
    let [refused, healed] = one_is_bad("unnamed", "bad");
    println!("checks while one of {ALL} services is bad and nobody is named: {refused}, afterwards {healed}");
    assert!(refused <= 64 && healed == 1, "{refused} and {healed} checks");
}
