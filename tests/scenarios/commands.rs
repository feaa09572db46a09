//! The commands that show something and end, and the examples that people copy.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Network, Section, agent_section, docker_section, etcd_section, eventually,
    haproxy_section, repository, waypost, waypost_here,
};
use serde_json::{Value, json};

fn printed(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn complained(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[test]
fn the_catalog_is_told_by_the_agent_or_read_from_etcd() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (web, edge) = (lab.host("web"), lab.host("edge"));
    let engine = Engine::start(&web);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let text = [agent_section(&web), docker_section(&engine), etcd_section(&etcd, "15s")].concat();
    let _agent = Agent::start(&web, "agent", &text);
    let config = |host: &harness::Host| host.dir().join("agent.toml").to_str().unwrap().to_owned();
    std::fs::write(config(&edge), [agent_section(&edge), etcd_section(&etcd, "15s")].concat()).unwrap();
    for host in [&web, &edge] {
        let what = format!("`waypost catalog` on {} lists the instance", host.name());
        eventually(CHANGE_TIMEOUT, &what, || {
            let done = waypost(host, &["catalog", "--config", &config(host)]);
            let table = printed(&done);
            ensure!(done.status.success(), "{}", complained(&done));
            let row = table.lines().find(|line| line.contains(container.short_id()));
            ensure!(row.is_some_and(|row| row.contains("whoami") && row.contains("10.77.0.2:")), "{table}");
            Ok(())
        });
        let done = waypost(host, &["catalog", "--json", "--config", &config(host)]);
        let report: Value = serde_json::from_str(&printed(&done)).unwrap();
        assert_eq!(report["services"][0]["name"], "whoami", "{report}");
        assert_eq!(report["services"][0]["instances"][0]["port"], container.published("8000"), "{report}");
    }
    let mut command = edge.command(built("waypost"));
    command.args(["catalog", "--watch", "--json", "--config", &config(&edge)]);
    let watching = edge.spawn("catalog", command);
    eventually(CHANGE_TIMEOUT, "the watch shows the instance", || {
        ensure!(watching.log().contains(container.short_id()), "{}", watching.log());
        Ok(())
    });
    container.kill();
    eventually(CHANGE_TIMEOUT, "the watch shows that it left", || {
        let last = watching.log().lines().last().unwrap_or_default().to_owned();
        ensure!(!last.contains(container.short_id()), "{last}");
        Ok(())
    });
}

/// A program of this build.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}

#[test]
fn what_would_be_written_is_shown_and_changes_nothing() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let config = host.dir().join("agent.toml");
    std::fs::write(&config, [agent_section(&host), docker_section(&engine), haproxy_section(&host)].concat()).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let live = waypost(&host, &["render", "--config", &config]);
    assert!(live.status.success(), "{}", complained(&live));
    let server = format!("server {} {}", container.short_id(), container.published_address("8000"));
    assert!(printed(&live).contains(&server), "{}", printed(&live));

    let saved = host.dir().join("containers.json");
    std::fs::write(&saved, engine.docker(&["inspect", container.id()])).unwrap();
    engine.docker(&["rm", "--force", container.id()]);
    let arguments = ["render", "--config", &config, "--containers", saved.to_str().unwrap()];
    let from_file = waypost(&host, &arguments);
    assert_eq!(printed(&from_file), printed(&live), "{}", complained(&from_file));

    let differs = waypost(&host, &[&arguments[..], &["--diff"]].concat());
    assert_eq!(differs.status.code(), Some(1), "{}", complained(&differs));
    assert!(printed(&differs).contains(&format!("+    {server}")), "{}", printed(&differs));
    assert!(!host.dir().join("proxy").exists(), "something was written");

    let mut agent = Agent::start(&host, "agent", &std::fs::read_to_string(&config).unwrap());
    eventually(CHANGE_TIMEOUT, "the agent writes what `render` showed", || {
        let same = waypost(&host, &["render", "--diff", "--config", &config]);
        ensure!(same.status.success() && printed(&same).is_empty(), "{}{}", printed(&same), complained(&same));
        Ok(())
    });
    let checked = waypost(&host, &["check", "--config", &config]);
    assert!(checked.status.success(), "{}{}", printed(&checked), complained(&checked));
    assert!(agent.stop().success());
    engine.docker(&["version"]);
}

#[test]
fn files_are_written_once_for_an_image_that_starts_its_proxy_then() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "--label", "waypost.service=web", "whoami"]);
    // Two services want one port: the second by name is held back, and named.
    let port = ["--label", "waypost.listen-port=7000", "--label", "waypost.protocol=tcp"];
    for service in ["waypost.service=tcp-a", "waypost.service=tcp-b"] {
        engine.run(&[&["--publish", "8000", "--label", service][..], &port, &["whoami"]].concat());
    }
    let config = host.dir().join("agent.toml");
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    let text = [&agent_section(&host), &docker_section(&engine), grouping, &haproxy_section(&host)].concat();
    std::fs::write(&config, &text).unwrap();
    let arguments = ["render", "--once", "--wait", "20s", "--config", config.to_str().unwrap()];
    let done = waypost(&host, &arguments);
    assert!(done.status.success(), "{}", complained(&done));
    assert!(printed(&done).contains("proxy written, 3 services"), "{}", printed(&done));
    assert!(complained(&done).contains("output haproxy: tcp-b: it is left out"), "{}", complained(&done));
    let file = std::fs::read_to_string(host.dir().join("proxy/haproxy.cfg")).unwrap();
    assert!(file.contains(container.short_id()) && file.contains("tcp-a"), "{file}");
    assert!(!host.dir().join("proxy/.waypost-haproxy.pid").exists(), "a proxy was started");
    let again = waypost(&host, &arguments);
    assert!(again.status.success() && printed(&again).contains("as it was"), "{}", printed(&again));

    // What the check refuses as a whole is not written, and a running agent does it by itself.
    let reload = json!({"supervise": ["haproxy", "-Ws", "-f", "{dir}/other.cfg"], "signal": "USR2"});
    let output = Section::haproxy(&host).with("check", json!(["false"])).with("reload", reload).to_string();
    std::fs::write(&config, [&agent_section(&host), &docker_section(&engine), grouping, &output].concat()).unwrap();
    std::fs::write(host.dir().join("proxy/haproxy.cfg"), "old\n").unwrap();
    let refused = waypost(&host, &arguments);
    assert_eq!(refused.status.code(), Some(1), "{}", complained(&refused));
    assert!(complained(&refused).contains("the old files stay"), "{}", complained(&refused));
    assert_eq!(std::fs::read_to_string(host.dir().join("proxy/haproxy.cfg")).unwrap(), "old\n");
    let _agent = Agent::start(&host, "agent", &text);
    let beside = waypost(&host, &arguments);
    assert_eq!(beside.status.code(), Some(1), "{}", complained(&beside));
    assert!(complained(&beside).contains("in use by another agent"), "{}", complained(&beside));
}

#[test]
fn writing_once_waits_for_the_registry_and_gives_up_in_time() {
    let lab = Network::new();
    let mut etcd = lab.etcd();
    let host = lab.host("edge");
    let config = host.dir().join("once.toml");
    let layout = "[[layout]]\nplugin = \"json\"\n";
    let text =
        [&agent_section(&host), "register = false\n", &etcd_section(&etcd, "15s"), layout, &haproxy_section(&host)];
    std::fs::write(&config, text.concat()).unwrap();
    let value =
        r#"{"address":"10.0.0.9","port":80,"transport":"tcp","readiness":"ready","attributes":{"protocol":"http"}}"#;
    etcd.put("/waypost/services/web/a", value);
    etcd.stop();
    let once = |wait: &str| waypost(&host, &["render", "--once", "--wait", wait, "--config", config.to_str().unwrap()]);
    let late = once("1s");
    assert_eq!(late.status.code(), Some(1), "{}", complained(&late));
    assert!(complained(&late).contains("was not listed in time"), "{}", complained(&late));
    assert!(!host.dir().join("proxy/haproxy.cfg").exists());
    let done = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| once("60s"));
        etcd.start_again();
        waiting.join().unwrap()
    });
    assert!(done.status.success(), "{}", complained(&done));
    let file = std::fs::read_to_string(host.dir().join("proxy/haproxy.cfg")).unwrap();
    assert!(file.contains("10.0.0.9:80"), "{file}");
    let wrong = waypost(&host, &["render", "--once", "--diff"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", complained(&wrong));
}

#[test]
fn shipped_plugins_describe_themselves() {
    let done = waypost_here(&repository(), &["plugin", "list"]);
    let table = printed(&done);
    assert!(done.status.success(), "{}", complained(&done));
    let shipped = [
        ("image", "grouping"),
        ("announce", "grouping"),
        ("labels", "grouping"),
        ("json", "layout"),
        ("backends", "layout"),
        ("services", "layout"),
        ("skydns", "layout"),
        ("haproxy", "output"),
        ("nginx", "output"),
    ];
    for (name, kind) in shipped {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert!(row.is_some_and(|row| row.contains(kind)), "{name} in {table}");
        let inspected = waypost_here(&repository(), &["plugin", "inspect", name, "--json"]);
        let description: Value = serde_json::from_str(&printed(&inspected)).unwrap();
        assert_eq!((&description["name"], &description["kind"]), (&name.into(), &kind.into()), "{description}");
        assert!(!description["summary"].as_str().unwrap_or_default().is_empty(), "{description}");
    }
}

/// The configurations that the repository shows: files of examples, and blocks in pages.
fn shown() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["", "agent", "examples", "plugins"] {
        collect(&repository().join(folder), !folder.is_empty(), &mut found);
    }
    found
}

fn collect(dir: &Path, deep: bool, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // The example in Python has a test of its own: it takes a while to compile.
        if path.is_dir() && deep && name != "python" {
            collect(&path, deep, found);
        } else if name == "waypost.toml" {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        } else if path.extension().is_some_and(|ending| ending == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
            let kept = blocks.filter(|block| block.contains("[[") || block.contains("[agent]"));
            found.extend(kept.map(|block| (format!("a block in {}", path.display()), block.to_owned())));
        }
    }
}

#[test]
fn every_configuration_that_is_shown_is_a_good_one() {
    let configurations = shown();
    assert!(configurations.len() > 8, "{configurations:?}");
    // A host with an address in 10.0.0.0/8, as the examples have it.
    let lab = Network::new();
    let host = lab.host("web");
    let state = format!("state-dir = \"{}\"", host.dir().join("state").display());
    for (place, text) in configurations {
        let own: Vec<_> = text.lines().filter(|line| !line.starts_with("state-dir")).collect();
        let own = own.join("\n");
        let text = if own.contains("[agent]") {
            own.replacen("[agent]", &format!("[agent]\n{state}"), 1)
        } else {
            format!("{own}\n[agent]\n{state}\n")
        };
        let file = host.dir().join("shown.toml");
        std::fs::write(&file, &text).unwrap();
        // Endpoints that do not answer are no mistake of a configuration.
        let done = waypost(&host, &["check", "--config", file.to_str().unwrap()]);
        assert_ne!(done.status.code(), Some(64), "{place}: {}\n{text}", complained(&done));
    }
}
