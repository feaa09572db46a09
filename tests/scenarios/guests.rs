//! Plugins that misbehave: contained, named once, and nothing else is disturbed.

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Etcd, Host, Network, START_TIMEOUT, Section, agent_section, component,
    docker_section, etcd_section, eventually,
};

/// What the guest does when the label says so, and words that the agent's one message about it has.
const MISDEEDS: &[(&str, &[&str])] = &[
    ("trap", &["a container it does not like"]),
    ("loop", &["processor time"]),
    ("sleep", &["did not answer within"]),
    ("eat", &["MiB of memory"]),
    ("recurse", &["it "]),
    ("exit", &["called exit"]),
    ("huge", &["MiB"]),
    ("many", &["MiB"]),
    ("refuse", &["it does not want this container"]),
    ("name", &["service"]),
    ("address", &["address"]),
    ("unheard-of", &["does not know how to unheard-of"]),
];

/// What the guest does to the log; its instance is good all the same.
const NOISES: &[&str] = &["log", "print", "long"];

fn configuration(engine: &Engine<'_>, etcd: &Etcd<'_>, limits: &Section) -> String {
    let agent = Section::agent(engine.host()).with("discover", false);
    let stage = Section::new("[[grouping]]").with("path", component("misbehave").display().to_string());
    format!("{agent}{}{}{limits}{stage}", docker_section(engine), etcd_section(etcd, "15s"))
}

/// What a plugin may take.
fn limits() -> Section {
    let times = Section::new("[plugins]").with("deadline", "500ms").with("timeout", "1s");
    times.with("memory-mib", 32).with("result-mib", 4)
}

fn started<'a>(engine: &'a Engine<'_>, service: &str, misdeed: &str) -> Container<'a> {
    let labels = [format!("service={service}"), format!("misbehave={misdeed}")];
    let arguments = ["--publish", "8000", "--label", &labels[0]];
    let misbehaves = ["--label", &labels[1], "--name", &format!("does-{misdeed}")];
    engine.run(&[&arguments[..], if misdeed.is_empty() { &[] } else { &misbehaves }, &["whoami"]].concat())
}

#[test]
fn a_misbehaving_grouping_breaks_only_the_container_it_was_asked_about() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let mut good = vec![started(&engine, "good", "")];
    let agent = Agent::start(&host, "agent", &configuration(&engine, &etcd, &limits()));
    for (misdeed, _) in MISDEEDS {
        started(&engine, "bad", misdeed);
        good.push(started(&engine, "good", ""));
    }
    let mut expected: Vec<_> = good.iter().map(|one| format!("/waypost/services/good/{}", one.short_id())).collect();
    expected.sort();
    eventually(START_TIMEOUT, "all that behave are registered, and only they", || {
        let keys = etcd.try_entries("/waypost/services/")?.into_keys().collect::<Vec<_>>();
        ensure!(keys == expected, "{} of {} keys: {keys:?}", keys.len(), expected.len());
        Ok(())
    });
    for (misdeed, words) in MISDEEDS {
        let container = format!("does-{misdeed}");
        let wanted = [&[&container, "misbehave"][..], words].concat();
        let line = agent.logs(&wanted);
        assert!(line.len() < 3000, "{misdeed}: {} bytes in one line", line.len());
        let lines = agent.log_lines(&[&container]);
        assert!(lines.len() < 10, "{misdeed} is named {} times: {lines:#?}", lines.len());
    }
}

#[test]
fn a_plugin_that_shouts_is_cut_short() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let limits = limits().with("deadline", "20s").with("timeout", "30s");
    let agent = Agent::start(&host, "agent", &configuration(&engine, &etcd, &limits));
    let noisy: Vec<_> = NOISES.iter().map(|noise| started(&engine, "noisy", noise)).collect();
    let quiet = started(&engine, "good", "");
    eventually(START_TIMEOUT, "all are registered, the noisy ones as well", || {
        let keys = etcd.try_entries("/waypost/services/")?;
        ensure!(keys.len() == noisy.len() + 1, "{:?}", keys.keys());
        Ok(())
    });
    assert!(etcd.keys("/waypost/services/good/")[0].ends_with(quiet.short_id()));
    let log = agent.log();
    assert!(log.len() < 300_000, "the log has {} bytes", log.len());
    assert!(log.contains("of a million") && log.contains("on standard output"), "nothing of it is in the log");
    assert!(log.lines().all(|line| line.len() < 10_000), "a line is not cut");
    agent.logs(&["misbehave", "dropped"]);
}

#[test]
fn memory_of_a_plugin_that_eats_comes_back() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let agent = Agent::start(&host, "agent", &configuration(&engine, &etcd, &limits()));
    for _ in 0..10 {
        let eats = started(&engine, "bad", "eat");
        let huge = started(&engine, "bad", "huge");
        let good = started(&engine, "good", "");
        eventually(CHANGE_TIMEOUT, "the good one is registered", || {
            let keys = etcd.try_entries("/waypost/services/good/")?;
            ensure!(keys.keys().any(|key| key.ends_with(good.short_id())), "{:?}", keys.keys());
            Ok(())
        });
        engine.docker(&["rm", "--force", eats.id(), huge.id()]);
    }
    let resident = resident_mib(&agent);
    assert!(resident < 400, "the agent has {resident} MiB resident");
}

fn resident_mib(agent: &Agent<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Renders with the plugin `escape` into the host's directory `files`.
fn rendering(host: &Host, etcd: &Etcd<'_>) -> String {
    let output = format!(
        "[[output]]\npath = \"{}\"\ndirectory = \"{}\"\n",
        component("escape").display(),
        host.dir().join("files").display()
    );
    [&agent_section(host), "register = false\n", &etcd_section(etcd, "15s"), &output].concat()
}

#[test]
fn an_output_writes_nowhere_but_in_its_directory() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("edge");
    let files = host.dir().join("files");
    std::fs::create_dir_all(&files).unwrap();
    let agent = Agent::start(&host, "agent", &rendering(&host, &etcd));
    let put = |service: &str| {
        let value = serde_json::json!({"service": service, "id": "x1", "address": "10.0.0.1", "port": 80,
            "transport": "tcp", "readiness": "ready", "attributes": {}});
        etcd.put(&format!("/waypost/services/{service}/x1"), &value.to_string());
    };
    let bad = ["up-1", "deep-1", "root-1", "hidden-1", "flood-1", "trap-1"];
    put("first");
    for service in bad {
        put(service);
    }
    put("last");
    eventually(CHANGE_TIMEOUT, "the good services are written", || {
        let mut found: Vec<_> = std::fs::read_dir(&files)?.map(|entry| entry.unwrap().file_name()).collect();
        found.retain(|name| !name.to_string_lossy().starts_with('.'));
        found.sort();
        ensure!(found == ["base.txt", "first.txt", "last.txt"], "{found:?}");
        Ok(())
    });
    for service in bad {
        agent.logs(&["escape", service]);
        let lines = agent.log_lines(&["escape", service]);
        assert!(lines.len() < 10, "{service} is named {} times: {lines:#?}", lines.len());
    }
    assert!(!host.dir().join("escaped.txt").exists() && !files.join("a").exists());
    assert!(!std::path::Path::new("/tmp/waypost-escaped.txt").exists());
}
