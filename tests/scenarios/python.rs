//! A team's own rule in another language: the Python example, built as its README says and run on a real engine.

use std::path::Path;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Host, Network, START_TIMEOUT, agent_section, docker_section, etcd_section,
    eventually, python_component, repository, waypost, waypost_here,
};

#[test]
fn a_grouping_in_python_names_compose_services() {
    let component = python_component();
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    // The first of these compiles the component, which is a whole Python; the others take that from the cache.
    its_own_check_speaks(&host, &component);
    its_example_is_good(&host);
    let engine = Engine::start(&host);
    // Shipped plugins come after it, for what it leaves to them.
    let stages = format!(
        "[[grouping]]\npath = \"{}\"\nsettings = {{ domain = \"internal\" }}\n[[grouping]]\nplugin = \"image\"\n",
        component.display()
    );
    let text = [agent_section(&host), docker_section(&engine), etcd_section(&etcd, "15s"), stages].concat();
    let agent = Agent::start(&host, "agent", &text);
    let compose = ["com.docker.compose.project=shop", "com.docker.compose.service=web"];
    let labels = ["--publish", "8000", "--label", compose[0], "--label", compose[1]];
    let web = engine.run(&[&labels[..], &["whoami"]].concat());
    let both = ["--publish", "9000", "--env", "PORT=8000,9000"];
    let two = engine.run(&[&labels[..], &both, &["whoami"]].concat());
    let other = engine.run(&["--publish", "8000", "whoami"]);
    let strange = ["--publish", "8000", "--label", compose[0], "--label", "com.docker.compose.service=two words"];
    engine.run(&[&strange[..], &["--name", "strange", "whoami"]].concat());

    let mut expected = vec![
        format!("/waypost/services/web.shop.internal/{}", web.short_id()),
        format!("/waypost/services/web.shop.internal-8000/{}", two.short_id()),
        format!("/waypost/services/web.shop.internal-9000/{}", two.short_id()),
        format!("/waypost/services/whoami/{}", other.short_id()),
    ];
    expected.sort();
    eventually(START_TIMEOUT, "containers have the names that Compose gave them", || {
        let keys: Vec<_> = etcd.try_entries("/waypost/services/")?.into_keys().collect();
        ensure!(keys == expected, "{keys:?}");
        Ok(())
    });
    agent.logs(&["WARN", "strange", "is no service name"]);
    let key = format!("/waypost/services/web.shop.internal/{}", web.short_id());
    let value: serde_json::Value = serde_json::from_str(&etcd.entries(&key)[&key]).unwrap();
    assert_eq!((&value["address"], &value["port"]), (&"10.77.0.2".into(), &web.published("8000").into()));
    web.kill();
    eventually(CHANGE_TIMEOUT, "a killed one leaves", || {
        let keys: Vec<_> = etcd.try_entries("/waypost/services/")?.into_keys().collect();
        ensure!(keys.len() == 3, "{keys:?}");
        Ok(())
    });
}

/// The settings are wrong, and the plugin itself says so.
fn its_own_check_speaks(host: &Host, component: &Path) {
    let text = format!("[[grouping]]\npath = \"{}\"\nsettings = {{ domian = \"x\" }}\n", component.display());
    let file = host.dir().join("wrong.toml");
    std::fs::write(&file, text + &agent_section(host)).unwrap();
    let done = waypost(host, &["check", "--config", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(64), "{said}");
    assert!(said.contains("domian: unknown key, expected domain"), "{said}");
}

/// The configuration beside the example is a good one.
fn its_example_is_good(host: &Host) {
    let shown = std::fs::read_to_string(repository().join("examples/plugins/python/waypost.toml")).unwrap();
    let own = format!("state-dir = \"{}\"", host.dir().join("state").display());
    let file = host.dir().join("example.toml");
    std::fs::write(&file, shown.replace("state-dir = \"target/examples/python-state\"", &own)).unwrap();
    let done = waypost_here(&repository(), &["check", "--config", file.to_str().unwrap()]);
    // Whether an engine answers there is not the example's business.
    assert_ne!(done.status.code(), Some(64), "{}", String::from_utf8_lossy(&done.stderr));
}
