//! Containers as they come: networks, several ports, both families, health checks, restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, Network, agent_section, always, docker_section, etcd_section, eventually,
};
use serde_json::Value;

/// Registers with the grouping `plugin`, and these settings of it, in the default layout.
fn registering(engine: &Engine<'_>, etcd: &Etcd<'_>, plugin: &str, settings: &str) -> String {
    let grouping = format!("[[grouping]]\nplugin = \"{plugin}\"\nsettings = {{ {settings} }}\n");
    [
        &agent_section(engine.host()),
        "discover = false\n",
        &docker_section(engine),
        &etcd_section(etcd, "15s"),
        &grouping,
    ]
    .concat()
}

/// `<service>/<id>` -> `<address>:<port>/<transport>` of all that is registered.
fn places(etcd: &Etcd<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let prefix = "/waypost/services/";
    let place = |(key, value): (String, String)| {
        let value: Value = serde_json::from_str(&value).with_context(|| format!("{key} is {value}"))?;
        let address = value["address"].as_str().context("no address")?;
        let place = format!("{address}:{}/{}", value["port"], value["transport"].as_str().unwrap_or("tcp"));
        Ok((key.strip_prefix(prefix).context("a key elsewhere")?.to_owned(), place))
    };
    etcd.try_entries(prefix)?.into_iter().map(place).collect()
}

/// Waits until exactly these places are registered.
#[track_caller]
fn registered(etcd: &Etcd<'_>, what: &str, expected: &[(String, String)]) {
    let expected: BTreeMap<_, _> = expected.iter().cloned().collect();
    eventually(CHANGE_TIMEOUT, what, || {
        let found = places(etcd)?;
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    });
}

#[test]
fn every_published_port_becomes_an_instance_of_its_own_service() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let run = |arguments: &[&str]| {
        let labels: Vec<_> = arguments.iter().flat_map(|argument| argument.split(' ')).collect();
        engine.run(&[&labels[..], &["whoami"]].concat())
    };
    let two = run(&["--publish 8000 --publish 9000 --env PORT=8000,9000 --label waypost.service=shop"]);
    let named = run(&["--publish 8000 --publish 9000 --env PORT=8000,9000 --label waypost.8000.service=front"]);
    let only = run(&["--publish 8000 --publish 9000 --label waypost.service=only --label waypost.port=9000"]);
    let udp = run(&["--publish 53/udp --label waypost.service=dns"]);
    let ignored = run(&["--publish 8000 --label waypost.service=shop --label waypost.ignore=true"]);
    run(&["--label waypost.service=shop"]);
    run(&["--network host --env PORT=8700 --label waypost.service=bare --label waypost.port=8700"]);
    let _agent = Agent::start(&host, "agent", &registering(&engine, &etcd, "labels", ""));

    let at = |container: &harness::Container<'_>, port: &str| format!("{}/tcp", container.published_address(port));
    eventually(CHANGE_TIMEOUT, "all ports are registered", || {
        let found = places(&etcd)?;
        let is = |service: &str, id: &str, place: String| {
            let own: Vec<_> = found.iter().filter(|(key, _)| key.starts_with(&format!("{service}/{id}"))).collect();
            ensure!(own.len() == 1 && *own[0].1 == place, "{service}: {own:?} instead of {place}; all: {found:?}");
            Ok(())
        };
        is("shop-8000", two.short_id(), at(&two, "8000"))?;
        is("shop-9000", two.short_id(), at(&two, "9000"))?;
        is("front", named.short_id(), at(&named, "8000"))?;
        is("only", only.short_id(), at(&only, "9000"))?;
        is("dns", udp.short_id(), format!("{}/udp", udp.published_address("53/udp")))?;
        is("bare", "", "10.77.0.2:8700/tcp".to_owned())?;
        ensure!(!found.keys().any(|key| key.contains(ignored.short_id())), "waypost.ignore is not honoured: {found:?}");
        Ok(())
    });
}

#[test]
fn two_bindings_of_one_port_are_one_instance() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let both = engine.run(&["--publish", "8000", "whoami"]);
    let families = engine.docker(&["port", both.id(), "8000"]);
    assert_eq!(families.lines().count(), 2, "the engine publishes over IPv4 and IPv6: {families}");
    let bound = engine.run(&["--publish", "10.77.0.2:8080:8000", "whoami"]);
    let hidden = engine.run(&["--publish", "127.0.0.1:8081:8000", "--name", "hidden", "whoami"]);
    let agent = Agent::start(&host, "agent", &registering(&engine, &etcd, "image", ""));
    let place = |container: &harness::Container<'_>, place: &str| {
        (format!("whoami/{}", container.short_id()), place.to_owned())
    };
    let expected =
        [place(&both, &format!("{}/tcp", both.published_address("8000"))), place(&bound, "10.77.0.2:8080/tcp")];
    registered(&etcd, "each is registered once, where others reach it", &expected);
    let line = agent.logs(&["hidden", "127.0.0.1"]);
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    assert!(!etcd.keys("/").iter().any(|key| key.contains(hidden.short_id())), "others cannot reach it");
}

#[test]
fn container_addresses_are_taken_when_asked_for() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    engine.docker(&["network", "create", "--subnet", "10.88.0.0/24", "backend"]);
    engine.docker(&["network", "create", "--subnet", "10.89.0.0/24", "another"]);
    let fixed = ["--network", "backend", "--ip", "10.88.0.9", "--expose", "8000"];
    let container = engine.run(&[&fixed[..], &["whoami"]].concat());
    engine.docker(&["network", "connect", "another", container.id()]);
    let settings = "address = \"container\", network = \"backend\"";
    let _agent = Agent::start(&host, "agent", &registering(&engine, &etcd, "image", settings));
    let key = format!("whoami/{}", container.short_id());
    registered(&etcd, "the address on that network is registered", &[(key, "10.88.0.9:8000/tcp".to_owned())]);
    let outside = engine.run(&["whoami"]);
    engine.docker(&["network", "connect", "--ip", "10.88.0.10", "backend", outside.id()]);
    eventually(CHANGE_TIMEOUT, "a container that joins the network later is registered as well", || {
        let found = places(&etcd)?;
        ensure!(found.values().any(|place| place == "10.88.0.10:8000/tcp"), "{found:?}");
        Ok(())
    });
    engine.docker(&["network", "disconnect", "backend", outside.id()]);
    eventually(CHANGE_TIMEOUT, "and leaves with the network", || {
        let found = places(&etcd)?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    });
}

#[test]
fn unhealthy_containers_are_held_back() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let check = "HEALTHCHECK --interval=1s --timeout=5s --retries=1 --start-period=60s CMD [\"/whoami\", \"check\"]";
    engine.image("checked", &["CMD [\"/whoami\"]", "EXPOSE 8000", check]);
    let _agent = Agent::start(&host, "agent", &registering(&engine, &etcd, "image", ""));
    let plain = engine.run(&["--publish", "8000", "whoami"]);
    // Before it has started a check that fails does not count: there is no such program in it.
    let unchecked = ["--health-cmd", "/absent", "--health-interval", "1h"];
    let sick = engine.run(&[&["--publish", "8000"], &unchecked[..], &["checked"]].concat());
    let checked = engine.run(&["--publish", "8000", "checked"]);
    let place = |name: &str, container: &harness::Container<'_>| {
        (format!("{name}/{}", container.short_id()), format!("{}/tcp", container.published_address("8000")))
    };
    let (first, second) = (place("whoami", &plain), place("checked", &checked));
    registered(&etcd, "what has passed its check, or has none, is registered", &[first.clone(), second.clone()]);
    let state = engine.docker(&["inspect", "--format", "{{.State.Health.Status}}", sick.id()]);
    assert_eq!(state, "starting", "the one that has not passed its check is held back");

    let ask = |path: &str| host.connect(checked.published("8000")).unwrap().get(path).unwrap();
    ask("/sick");
    registered(&etcd, "an unhealthy one leaves", std::slice::from_ref(&first));
    ask("/well");
    registered(&etcd, "and comes back when it is healthy", &[first, second]);
}

#[test]
fn containers_that_restart_themselves_are_followed() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let crashes = engine.run(&["--restart", "always", "--publish", "8000", "whoami", "/whoami", "check"]);
    let steady = engine.run(&["--restart", "always", "--publish", "8000", "whoami"]);
    let _agent = Agent::start(&host, "agent", &registering(&engine, &etcd, "image", ""));
    let key = format!("whoami/{}", steady.short_id());
    let own = |found: &BTreeMap<String, String>| found.get(&key).cloned().context("it is not registered");
    eventually(CHANGE_TIMEOUT, "the steady one is registered", || own(&places(&etcd)?));

    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", steady.id()]);
    host.run("kill", &["-KILL", &pid]);
    eventually(CHANGE_TIMEOUT, "its process is started again and the new port is registered", || {
        let started = engine.try_docker(&["inspect", "--format", "{{.State.Pid}} {{.State.Running}}", steady.id()])?;
        ensure!(started.ends_with("true") && !started.starts_with(&format!("{pid} ")), "{started}");
        let listed = engine.try_docker(&["port", steady.id(), "8000"])?;
        let port = listed.lines().next().and_then(|line| line.rsplit(':').next()).context("no port")?.to_owned();
        let place = own(&places(&etcd)?)?;
        ensure!(place == format!("10.77.0.2:{port}/tcp"), "{place}, published on {port}");
        Ok(())
    });
    engine.docker(&["stop", crashes.id()]);
    eventually(CHANGE_TIMEOUT, "the one that crashed is not left behind", || {
        let found = places(&etcd)?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    });
    always(Duration::from_secs(1), "nor does it come back", || {
        ensure!(places(&etcd)?.len() == 1);
        Ok(())
    });
}
