//! Des Drury's chain: containers announce a path, and names, frontend and local ports follow.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Container, CoreDns, Engine, Etcd, Host, Network, agent_section, docker_section,
    etcd_section, eventually, haproxy_section,
};
use serde_json::{Value, json};

/// Registers what containers announce, as the article has it, and gives local containers what they listen to.
fn chain(engine: &Engine<'_>, etcd: &Etcd<'_>) -> String {
    let output = [&haproxy_section(engine.host()), "services = []\nsettings = { tcp-bind = \"127.0.0.1\" }\n"].concat();
    // What the article keeps under /services does not say the container's own port, which consumers connect to.
    let read = "[[layout]]\nplugin = \"json\"\n";
    [&agent_section(engine.host()), &docker_section(engine), &etcd_section(etcd, "15s"), read, LISTS, &output].concat()
}

/// Only discovers, and routes by `Host` header: by map, or in the article's form.
fn front(host: &Host, etcd: &Etcd<'_>, settings: &str) -> String {
    let output = [&haproxy_section(host), "linger = \"0s\"\n", settings].concat();
    [&agent_section(host), "register = false\n", &etcd_section(etcd, "15s"), LISTS, &output].concat()
}

const LISTS: &str = "[[grouping]]\nplugin = \"announce\"\n[[layout]]\nplugin = \"services\"\n\
                     [[layout]]\nplugin = \"skydns\"\nsettings = { zone = \"internal\" }\n";

/// Name of the service that most of the article is about.
const GHOST: &str = "ghost.example.web.dev.app1.internal";

/// Runs `whoami` as a container that announces `path`.
fn announced<'a>(engine: &'a Engine<'_>, path: &str, port: &str, kind: &str, more: &[&str]) -> Container<'a> {
    let variables = [format!("ANNOUNCE_PATH={path}"), format!("PORT={port}"), format!("TYPE={kind}")];
    let mut arguments = vec!["--publish", port];
    for variable in &variables {
        arguments.extend(["--env", variable]);
    }
    engine.run(&[&arguments[..], more, &["whoami"]].concat())
}

/// The keys below `prefix` with their values read as JSON.
fn documents(etcd: &Etcd<'_>, prefix: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    etcd.try_entries(prefix)?.into_iter().map(|(key, value)| Ok((key, serde_json::from_str(&value)?))).collect()
}

/// Who answers `count` requests for `name` through the frontend of `host`.
fn answers(host: &Host, name: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let mut all =
        (0..count).map(|_| host.connect(80)?.get_of(name, "/")?.good()).collect::<anyhow::Result<Vec<_>>>()?;
    all.sort();
    all.dedup();
    Ok(all)
}

#[track_caller]
fn answered_by(host: &Host, name: &str, what: &str, containers: &[&Container<'_>]) {
    let mut expected: Vec<_> = containers.iter().map(|container| container.greeting()).collect();
    expected.sort();
    eventually(CHANGE_TIMEOUT, what, || {
        let seen = answers(host, name, 2 * expected.len())?;
        ensure!(seen == expected, "{seen:?} instead of {expected:?}");
        Ok(())
    });
}

#[test]
fn keys_are_the_articles() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let path = "/internal/app1/dev/web/ghost.example";
    let container = announced(&engine, path, "2368", "HTTP", &[]);
    let _agent = Agent::start(&host, "agent", &chain(&engine, &etcd));
    let id = container.short_id();
    let port = container.published("2368");
    let announced = json!({"ID": id, "APP": "app1", "ENV": "dev", "SERVICE": "web", "NAME": "ghost.example",
        "PORT": "2368", "TYPE": "HTTP"});
    let service = json!({"ID": id, "APP": "app1", "ENV": "dev", "SERVICE": "web", "NAME": "ghost.example",
        "IP": "10.77.0.2", "EXT_PORT": port.to_string(), "TYPE": "HTTP"});
    eventually(CHANGE_TIMEOUT, "the three keys are there", || {
        let found = documents(&etcd, "/announce/")?;
        ensure!(found == BTreeMap::from([(format!("/announce{path}/{id}"), announced.clone())]), "{found:?}");
        let found = documents(&etcd, "/services/")?;
        ensure!(found == BTreeMap::from([(format!("/services{path}/{id}"), service.clone())]), "{found:?}");
        let found = documents(&etcd, "/skydns/")?;
        let record = found.get(&format!("/skydns/internal/app1/dev/web/example/ghost/{id}"));
        let record = record.with_context(|| format!("{found:?}"))?;
        ensure!(found.len() == 1 && record["host"] == "10.77.0.2" && record["port"] == port, "{record}");
        ensure!(record["ttl"].as_u64().is_some_and(|seconds| (1..=60).contains(&seconds)), "{record}");
        Ok(())
    });
}

#[test]
fn names_answer_with_the_instances_that_are_there() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (first, second) = (lab.host("first"), lab.host("second"));
    let (engine, other) = (Engine::start(&first), Engine::start(&second));
    let dns = CoreDns::start(lab.hub(), &etcd, "internal");
    let path = "/internal/app1/dev/web/ghost.example";
    let one = announced(&engine, path, "2368", "HTTP", &[]);
    let two = announced(&other, path, "2368", "HTTP", &[]);
    let _first = Agent::start(&first, "agent", &chain(&engine, &etcd));
    let _second = Agent::start(&second, "agent", &chain(&other, &etcd));

    eventually(CHANGE_TIMEOUT, "the name has both addresses", || {
        let found = dns.addresses(GHOST)?;
        ensure!(found == ["10.77.0.2", "10.77.0.3"], "{found:?}");
        Ok(())
    });
    let mut targets: Vec<_> = [&one, &two]
        .map(|container| format!("10 50 {} {}.{GHOST}.", container.published("2368"), container.short_id()))
        .into();
    targets.sort();
    assert_eq!(dns.services(GHOST).unwrap(), targets);
    for container in [&one, &two] {
        let own = dns.addresses(&format!("{}.{GHOST}", container.short_id())).unwrap();
        assert_eq!(own.len(), 1, "an SRV target has its own address: {own:?}");
    }

    one.kill();
    eventually(CHANGE_TIMEOUT, "the name drops the one that left", || {
        let found = dns.addresses(GHOST)?;
        ensure!(found == ["10.77.0.3"], "{found:?}");
        Ok(())
    });
    let left = dns.services(GHOST).unwrap();
    assert_eq!(left, [format!("10 100 {} {}.{GHOST}.", two.published("2368"), two.short_id())]);
}

/// Routes by `Host` header, with the frontend's `settings`; returns once everything held.
fn host_headers_are_routed(settings: &str, mentions: impl Fn(&Agent<'_>, &str) -> bool) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (web, edge) = (lab.host("web"), lab.host("edge"));
    let engine = Engine::start(&web);
    let _agent = Agent::start(&web, "agent", &chain(&engine, &etcd));
    let routes = Agent::start(&edge, "agent", &front(&edge, &etcd, settings));
    let path = "/internal/app1/dev/web/ghost.example";
    let one = announced(&engine, path, "2368", "HTTP", &[]);
    answered_by(&edge, GHOST, "the frontend knows the service", &[&one]);
    assert_eq!(edge.connect(80).unwrap().get_of("other.internal", "/").unwrap().status, 503);

    let two = announced(&engine, path, "2368", "HTTP", &[]);
    answered_by(&edge, GHOST, "a second instance joins the backend", &[&one, &two]);

    let name = "feature-1.web.dev.app1.internal";
    let beside = announced(&engine, "/internal/app1/dev/web/feature-1", "2368", "HTTP", &[]);
    answered_by(&edge, name, "a second NAME lives beside the first", &[&beside]);
    answered_by(&edge, GHOST, "the first NAME is as it was", &[&one, &two]);
    assert!(mentions(&routes, GHOST), "{}", routes.proxy_file("haproxy.cfg"));

    engine.docker(&["kill", one.id(), two.id()]);
    eventually(CHANGE_TIMEOUT, "the last instance takes the routes along", || {
        let reply = edge.connect(80)?.get_of(GHOST, "/")?;
        ensure!(reply.status == 503, "{reply:?}");
        let files = [routes.proxy_file("haproxy.cfg"), routes.proxy_file("routes.map")].concat();
        ensure!(!files.contains(GHOST), "{files}");
        Ok(())
    });
    answered_by(&edge, name, "the other NAME lives on", &[&beside]);
}

#[test]
fn host_headers_are_routed_by_map() {
    host_headers_are_routed("", |routes, name| {
        routes.proxy_file("routes.map").contains(name) && !routes.proxy_file("haproxy.cfg").contains("acl ")
    });
}

#[test]
fn host_headers_are_routed_in_the_articles_form() {
    host_headers_are_routed("settings = { routing = \"acl\" }\n", |routes, name| {
        let file = routes.proxy_file("haproxy.cfg");
        file.contains(&format!("acl {name} hdr")) && file.contains(&format!("use_backend {name} if {name}"))
    });
}

#[test]
fn a_container_reaches_what_it_listens_to_on_a_local_port() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (store, django) = (lab.host("store"), lab.host("django"));
    let (engine, consumer) = (Engine::start(&store), Engine::start(&django));
    let _store = Agent::start(&store, "agent", &chain(&engine, &etcd));
    let local = Agent::start(&django, "agent", &chain(&consumer, &etcd));
    let database = announced(&engine, "/internal/app1/dev/db/ghost.example", "5432", "TCP", &[]);
    let greeting = |port: u16| django.connect_to([127, 0, 0, 1], port)?.read_line();
    let name = "ghost.example.db.dev.app1.internal";
    eventually(CHANGE_TIMEOUT, "the database is registered", || {
        let keys = etcd.keys("/services/");
        ensure!(keys.len() == 1, "{keys:?}");
        Ok(())
    });
    assert!(!local.proxy_file("haproxy.cfg").contains(name), "nobody here listens to it yet");

    let wants = "LISTEN_PATH=/services/internal/app1/dev/db/ghost.example,/services/internal/app1/sit";
    let client = consumer.run(&["--env", wants, "whoami"]);
    eventually(CHANGE_TIMEOUT, "the local port answers", || {
        let answer = greeting(5432)?;
        ensure!(answer == database.greeting(), "{answer}");
        Ok(())
    });
    let mut connection = django.connect_to([127, 0, 0, 1], 5432).unwrap();
    connection.read_line().unwrap();
    connection.send_line("select 1").unwrap();
    assert_eq!(connection.read_line().unwrap(), "select 1", "bytes go both ways");

    let whole = announced(&engine, "/internal/app1/sit/cache/redis", "6379", "TCP", &[]);
    eventually(CHANGE_TIMEOUT, "a path of fewer segments takes all that is below it", || {
        let answer = greeting(6379)?;
        ensure!(answer == whole.greeting(), "{answer}");
        Ok(())
    });
    announced(&engine, "/internal/app1/prod/db/ghost.example", "5433", "TCP", &[]);
    eventually(CHANGE_TIMEOUT, "the third service is registered", || {
        let keys = etcd.keys("/services/");
        ensure!(keys.len() == 3, "{keys:?}");
        Ok(())
    });
    client.kill();
    eventually(CHANGE_TIMEOUT, "the local ports go with the container that listened", || {
        let file = local.proxy_file("haproxy.cfg");
        ensure!(!file.contains(name), "{file}");
        ensure!(greeting(5432).is_err(), "the port still answers");
        Ok(())
    });
    assert!(!local.proxy_file("haproxy.cfg").contains("5433"), "nobody here ever listened to it");
}
