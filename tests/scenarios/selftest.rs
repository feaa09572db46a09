//! The harness itself: its servers start, see each other, and are gone afterwards.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, ensure};
use harness::{Agent, CHANGE_TIMEOUT, CoreDns, Engine, Network, Section, Signal, etcd_section, eventually, repository};

#[test]
fn containers_of_one_host_answer_another_host() {
    let lab = Network::new();
    let (first, second) = (lab.host("first"), lab.host("second"));
    let (engine, other) = (Engine::start(&first), Engine::start(&second));
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let there = other.run(&["--publish", "8000", "whoami"]);
    for from in [&second, lab.hub()] {
        let answer = eventually(CHANGE_TIMEOUT, "the container answers", || {
            from.connect_to(first.address(), container.published("8000"))?.get("/")?.good()
        });
        assert_eq!(answer, container.greeting());
    }
    let answer = lab.hub().connect_to(second.address(), there.published("8000")).unwrap().get("/").unwrap();
    assert_eq!(answer.body, there.greeting());
}

/// The state of a process, as in `/proc`.
fn state(pid: u32) -> anyhow::Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(") ").context("a state")?.1.to_owned())
}

#[test]
#[should_panic(expected = "agent has ended by itself")]
fn a_test_fails_whose_agent_has_died() {
    let lab = Network::new();
    let (etcd, host) = (lab.etcd(), lab.host("edge"));
    let agent = Section::agent(&host).with("register", false);
    let output = Section::haproxy(&host);
    let agent = Agent::start(&host, "agent", &format!("{agent}{}{output}", etcd_section(&etcd, "15s")));
    let outer: u32 = state(agent.id()).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    agent.signal(Signal::KILL);
    eventually(CHANGE_TIMEOUT, "the agent has ended", || {
        let state = state(outer)?;
        ensure!(state.starts_with('Z'), "{state}");
        Ok(())
    });
}

#[test]
fn etcd_and_a_name_server_answer() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let watch = etcd.watch("/skydns/");
    etcd.put("/skydns/internal/web/one", r#"{"host":"10.0.0.1","ttl":5}"#);
    etcd.put("/other", "with\nlines");
    assert_eq!(etcd.entries("/other")["/other"], "with\nlines");
    let dns = CoreDns::start(lab.hub(), &etcd, "internal");
    eventually(CHANGE_TIMEOUT, "the name has an address", || {
        let found = dns.addresses("web.internal")?;
        ensure!(found == ["10.0.0.1"], "{found:?}");
        Ok(())
    });
    etcd.delete("/skydns/internal/web/one");
    assert_eq!(watch.deleted(), ["/skydns/internal/web/one"]);
    assert_eq!(watch.written(), ["/skydns/internal/web/one"]);
}

/// What `versions` of `tests/prerequisites` prints: `haproxy=2.6.12 nginx=1.22.1` and so on.
fn versions(printed: &str) -> BTreeMap<String, String> {
    let pairs = printed.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

#[test]
fn debian_13_has_versions_of_its_own() {
    let script = format!(". '{}' && versions", repository().join("tests/prerequisites").display());
    let done = Command::new("bash").args(["-c", &script]).output().unwrap();
    let own = versions(&String::from_utf8_lossy(&done.stdout));
    println!("{own:?}");
    assert_eq!(own.keys().collect::<Vec<_>>(), ["dockerd", "etcd", "haproxy", "nginx"], "{done:?}");
    assert!(!own.values().any(|version| version == "none"), "a server is missing: {own:?}");
    // Only tests/debian13 sets it.
    let Some(first) = std::env::var("WAYPOST_DEBIAN12_VERSIONS").ok() else { return };
    let same: Vec<_> = versions(&first).into_iter().filter(|(name, version)| own.get(name) == Some(version)).collect();
    assert!(same.is_empty(), "Debian 13 shows nothing new, it has the versions of this machine: {same:?}");
}
