//! Hostile input: whatever a container or the registry says, only it is refused, and the log says why.

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Network, agent_section, docker_section, etcd_section, eventually,
    haproxy_section,
};
use serde_json::json;

/// Text that nothing may take over: it must not appear in any file, key or value.
const MARK: &str = "evil-mark";

/// Names that a container gives its service and that no proxy can have.
fn names() -> Vec<(&'static str, String)> {
    vec![
        ("newline", format!("shop\nbackend {MARK}\n  server x 10.0.0.9:80")),
        ("return", format!("shop\rbackend {MARK}")),
        ("space", format!("shop {MARK}")),
        ("comment", format!("shop#{MARK}")),
        ("quote", format!("shop\"{MARK}\"")),
        ("apostrophe", format!("shop'{MARK}'")),
        ("variable", format!("${{{MARK}}}")),
        ("backslash", format!("shop\\{MARK}")),
        ("above", format!("../../{MARK}")),
        ("rooted", format!("/{MARK}")),
        ("twice", format!("a//{MARK}")),
        ("dots", format!("./{MARK}/..")),
        ("letters", format!("läden-{MARK}")),
        ("invisible", format!("shop\u{200b}{MARK}")),
        ("escape", format!("\u{1b}[31m{MARK}")),
        ("long", format!("{MARK}-{}", "x".repeat(100 * 1024))),
        ("nothing", String::new()),
    ]
}

/// Labels that are wrong beside a good `waypost.service`.
fn labels() -> Vec<(&'static str, String)> {
    vec![
        ("domain-line", format!("waypost.domain=a.example\nuse_backend {MARK}")),
        ("domain-space", format!("waypost.domain=a.example {MARK}")),
        ("path-hash", format!("waypost.path=/a#{MARK}")),
        ("port-word", format!("waypost.port={MARK}")),
        ("port-far", "waypost.port=70000".to_owned()),
        ("weight-word", format!("waypost.weight={MARK}")),
        ("protocol", format!("waypost.protocol={MARK}")),
    ]
}

#[test]
fn hostile_labels_are_refused_for_their_container_alone() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let lists = "[[grouping]]\nplugin = \"labels\"\n[[grouping]]\nplugin = \"announce\"\n[[layout]]\nplugin = \"json\"\n\
                 [[layout]]\nplugin = \"backends\"\n[[layout]]\nplugin = \"skydns\"\nsettings = { zone = \"internal\" }\n";
    let fragments =
        [&agent_section(&host), &docker_section(&engine), &etcd_section(&etcd, "15s"), lists, &haproxy_section(&host)];
    let agent = Agent::start(&host, "agent", &fragments.concat());
    let good = ["--publish", "8000", "--label", "waypost.service=good", "whoami"];
    let first = engine.run(&good);
    for (name, value) in names() {
        let label = format!("waypost.service={value}");
        engine.run(&["--publish", "8000", "--name", &format!("name-{name}"), "--label", &label, "whoami"]);
    }
    for (name, label) in labels() {
        let name = format!("label-{name}");
        engine.run(&[
            "--publish",
            "8000",
            "--name",
            &name,
            "--label",
            "waypost.service=fine",
            "--label",
            &label,
            "whoami",
        ]);
    }
    let path = format!("ANNOUNCE_PATH=/internal/app1/dev/web/../{MARK}\nbackend");
    engine.run(&["--publish", "8000", "--name", "announced-above", "--env", &path, "--env", "PORT=8000", "whoami"]);
    let harmless = format!("irrelevant={}\n{MARK} \"'#", "y".repeat(100 * 1024));
    let shouts = engine.run(&[&["--label", &harmless, "--env", &harmless][..], &good].concat());
    let last = engine.run(&good);

    let expected = [&first, &shouts, &last].map(Container::greeting);
    eventually(CHANGE_TIMEOUT, "the good ones answer", || {
        let seen = (0..3).map(|_| host.connect(8000)?.get("/")?.good()).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(expected.iter().all(|one| seen.contains(one)), "{seen:?} instead of {expected:?}");
        Ok(())
    });
    let refused = names().into_iter().map(|(name, _)| format!("name-{name}")).filter(|name| name != "name-nothing");
    let refused = refused.chain(labels().into_iter().map(|(name, _)| format!("label-{name}")));
    for name in refused.chain(["announced-above".to_owned()]) {
        agent.logs(&["WARN", &name]);
        let lines = agent.log_lines(&["WARN", &name]);
        assert!(lines.len() <= 2, "{name} is named {} times: {lines:#?}", lines.len());
        assert!(lines.iter().all(|line| line.len() < 2000), "{name} fills the log: {} bytes", lines[0].len());
    }
    assert!(!agent.log().contains('\u{1b}'), "a container wrote control characters to the log");
    for (key, value) in etcd.entries("/") {
        assert!(!key.contains(MARK) && !value.contains(MARK), "{key} = {value}");
        let places = ["/waypost/", "/backends/", "/skydns/internal/"];
        assert!(places.iter().any(|place| key.starts_with(place)), "{key} is outside of the layouts");
        assert!(key.contains("good") || key.starts_with("/waypost/agents/"), "a refused container has {key}");
    }
    for file in ["haproxy.cfg", "routes.map"] {
        assert!(!agent.proxy_file(file).contains(MARK), "{}", agent.proxy_file(file));
    }
}

#[test]
fn registry_values_that_make_no_sense_hide_no_others() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("edge");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "--label", "waypost.service=good", "whoami"]);
    let fragments = [agent_section(&host), docker_section(&engine), etcd_section(&etcd, "15s"), haproxy_section(&host)];
    let agent = Agent::start(&host, "agent", &fragments.concat());
    eventually(CHANGE_TIMEOUT, "the good one answers", || host.connect(8000)?.get("/")?.good());

    let own = format!("/waypost/services/good/{}", container.short_id());
    let good = etcd.entries(&own).remove(&own).unwrap();
    let altered = |field: &str, value: serde_json::Value| {
        let mut document: serde_json::Value = serde_json::from_str(&good).unwrap();
        document[field] = value;
        document.to_string()
    };
    let values = [
        ("words", "not JSON at all".to_owned()),
        ("truncated", good[..good.len() / 2].to_owned()),
        ("array", "[1, 2, 3]".to_owned()),
        ("empty", String::new()),
        ("port-word", altered("port", json!("eighty"))),
        ("port-far", altered("port", json!(70_000))),
        ("port-none", altered("port", json!(0))),
        ("address-line", altered("address", json!(format!("10.0.0.9 check\n  server {MARK} 10.0.0.8:80")))),
        ("megabyte", format!("{{\"service\": \"{}\"}}", "x".repeat(1_000_000))),
        ("deep", "[".repeat(100_000)),
    ];
    for (name, value) in &values {
        etcd.put(&format!("/waypost/services/good/{name}"), value);
        etcd.put(&format!("/waypost/services/bad-{name}/{name}"), value);
    }
    etcd.put("/waypost/services/two words\n/x", &good);
    etcd.put("/waypost/services/../x", &good);
    etcd.put("/waypost/services/", &good);
    etcd.put("/waypost/agents/unknown", "not JSON either");

    for (name, _) in &values {
        agent.logs(&["WARN", &format!("/waypost/services/good/{name}")]);
        let lines = agent.log_lines(&["WARN", &format!("/waypost/services/good/{name}")]);
        assert!(lines.len() <= 2, "{name} is named {} times: {lines:#?}", lines.len());
        assert!(lines.iter().all(|line| line.len() < 2000), "{name} fills the log");
    }
    let second = engine.run(&["--publish", "8000", "--label", "waypost.service=good", "whoami"]);
    let expected = [&container, &second].map(Container::greeting);
    eventually(CHANGE_TIMEOUT, "the good ones in the same directory answer, and only they", || {
        let seen = (0..4).map(|_| host.connect(8000)?.get("/")?.good()).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(expected.iter().all(|one| seen.contains(one)), "{seen:?} instead of {expected:?}");
        Ok(())
    });
    let file = agent.proxy_file("haproxy.cfg");
    assert!(!file.contains(MARK) && !file.contains("10.0.0.9"), "{file}");
}
