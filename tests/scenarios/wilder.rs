//! Jason Wilder's demonstration: instances of one image on two hosts, reached over a third.

use std::collections::BTreeSet;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, Host, Network, agent_section, always, docker_section, etcd_section,
    eventually, haproxy_section,
};

/// Registers what runs on a host, as docker-register did.
fn registering(engine: &Engine<'_>, etcd: &Etcd<'_>) -> String {
    let lists = "[[grouping]]\nplugin = \"image\"\n[[layout]]\nplugin = \"backends\"\n";
    [&agent_section(engine.host()), "discover = false\n", &docker_section(engine), &etcd_section(etcd, "15s"), lists]
        .concat()
}

/// Only discovers, as docker-discover did.
fn discovering(host: &Host, etcd: &Etcd<'_>) -> String {
    let layout = "[[layout]]\nplugin = \"backends\"\n";
    [&agent_section(host), "register = false\n", &etcd_section(etcd, "15s"), layout, &haproxy_section(host)].concat()
}

/// Who answers `count` requests to port 8000 of `client`, one connection each, in order.
fn answers(client: &Host, count: usize) -> anyhow::Result<Vec<String>> {
    (0..count).map(|_| client.connect(8000)?.get("/")?.good()).collect()
}

/// Waits until exactly `expected` answer, and then expects them to take turns.
#[track_caller]
fn take_turns(client: &Host, what: &str, expected: &BTreeSet<String>) {
    let turns = expected.len();
    eventually(CHANGE_TIMEOUT, what, || {
        let seen = answers(client, 3 * turns)?;
        ensure!(seen.iter().cloned().collect::<BTreeSet<_>>() == *expected, "{seen:?}");
        let apart = seen.windows(turns).all(|window| window.iter().collect::<BTreeSet<_>>().len() == turns);
        ensure!(apart, "not in turns: {seen:?}");
        Ok(())
    });
}

#[test]
fn requests_alternate_over_hosts_and_follow_the_containers() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (first, second, client) = (lab.host("first"), lab.host("second"), lab.host("client"));
    let (engine, other) = (Engine::start(&first), Engine::start(&second));
    let one = engine.run(&["--publish", "8000", "whoami"]);
    let two = other.run(&["--publish", "8000", "whoami"]);
    let _first = Agent::start(&first, "agent", &registering(&engine, &etcd));
    let _second = Agent::start(&second, "agent", &registering(&other, &etcd));
    let discovers = Agent::start(&client, "agent", &discovering(&client, &etcd));

    let both = BTreeSet::from([one.greeting(), two.greeting()]);
    take_turns(&client, "requests alternate over both hosts", &both);
    let entries = etcd.entries("/backends/");
    let expected = [
        (format!("/backends/whoami/{}", one.short_id()), one.published_address("8000")),
        (format!("/backends/whoami/{}", two.short_id()), two.published_address("8000")),
        ("/backends/whoami/port".to_owned(), "8000".to_owned()),
    ];
    assert_eq!(entries, expected.into());

    let more = engine.whoami(2);
    let all = both.into_iter().chain(more.iter().map(harness::Container::greeting)).collect();
    take_turns(&client, "two more instances join", &all);

    engine.docker(&["kill", one.id(), more[0].id(), more[1].id()]);
    let left = eventually(CHANGE_TIMEOUT, "the three that were killed leave", || {
        let seen = client.connect(8000)?.get("/")?;
        assert_eq!(seen.status, 200, "a request was not answered by what remains: {seen:?}");
        let keys = etcd.keys("/backends/");
        ensure!(keys.len() == 2, "{keys:?}");
        let cfg = discovers.proxy_file("haproxy.cfg");
        ensure!(!cfg.contains(one.short_id()), "the proxy still has one of them");
        Ok(keys)
    });
    assert_eq!(left, [format!("/backends/whoami/{}", two.short_id()), "/backends/whoami/port".to_owned()]);
    take_turns(&client, "the one that remains answers alone", &BTreeSet::from([two.greeting()]));
    always(std::time::Duration::from_secs(3), "every request is answered", || {
        let seen = answers(&client, 5)?;
        ensure!(seen.iter().all(|answer| *answer == two.greeting()), "{seen:?}");
        Ok(())
    });

    let statistics = client.connect(1936).unwrap().get("/").unwrap().good().unwrap();
    assert!(statistics.contains("whoami") && statistics.contains(two.short_id()), "{statistics}");
    assert!(!statistics.contains(one.short_id()), "a killed instance is still listed");
}

#[test]
fn the_shared_port_stays_while_one_host_still_runs_the_service() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (first, second) = (lab.host("first"), lab.host("second"));
    let (engine, other) = (Engine::start(&first), Engine::start(&second));
    engine.whoami(1);
    let stays = other.run(&["--publish", "8000", "whoami"]);
    let mut leaves = Agent::start(&first, "agent", &registering(&engine, &etcd));
    let mut last = Agent::start(&second, "agent", &registering(&other, &etcd));
    eventually(CHANGE_TIMEOUT, "both hosts have registered", || {
        let keys = etcd.keys("/backends/");
        ensure!(keys.len() == 3, "{keys:?}");
        Ok(())
    });
    let watch = etcd.watch("/backends/");
    assert!(leaves.stop().success());
    eventually(CHANGE_TIMEOUT, "the first host's instance leaves", || {
        let keys = etcd.keys("/backends/");
        ensure!(keys.len() == 2, "{keys:?}");
        Ok(())
    });
    let own = format!("/backends/whoami/{}", stays.short_id());
    assert_eq!(etcd.keys("/backends/"), [own, "/backends/whoami/port".to_owned()]);
    assert!(!watch.deleted().contains(&"/backends/whoami/port".to_owned()), "the shared key was gone for a moment");
    assert!(last.stop().success());
    eventually(CHANGE_TIMEOUT, "the last host takes the shared key along", || {
        let keys = etcd.keys("/backends/");
        ensure!(keys.is_empty(), "{keys:?}");
        Ok(())
    });
}

#[test]
fn host_ip_and_etcd_host_are_enough() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("first");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let text = format!(
        "[agent]\nstate-dir = \"{}\"\n{}[registry]\nkind = \"etcd\"\n[[grouping]]\nplugin = \"image\"\n\
         [[layout]]\nplugin = \"backends\"\n",
        host.dir().join("state").display(),
        docker_section(&engine)
    );
    let environment = [("HOST_IP", "192.0.2.77"), ("ETCD_HOST", "10.77.0.1:2379")];
    let _agent = Agent::start_with(&host, "agent", &text, &environment);
    let key = format!("/backends/whoami/{}", container.short_id());
    eventually(CHANGE_TIMEOUT, "the instance is registered at HOST_IP", || {
        let entries = etcd.entries("/backends/");
        let port = container.published("8000");
        ensure!(entries.get(&key) == Some(&format!("192.0.2.77:{port}")), "{entries:?}");
        Ok(())
    });
}
