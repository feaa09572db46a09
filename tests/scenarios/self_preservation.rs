//! Self-preservation: what nobody took away is kept for a while, what an agent took away goes at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Etcd, Host, Network, Signal, agent_section, docker_section, etcd_section,
    eventually, haproxy_section, waypost,
};
use tokio::time::Instant;

/// Short enough to wait for; what is preserved stays for twice as long.
const TTL: &str = "6s";
const GRACE: Duration = Duration::from_secs(12);

/// How long a withdrawal may take to be seen. A loss that is believed is kept for a third of the lease and a second.
const AT_ONCE: Duration = Duration::from_millis(2500);

const NAME: &str = "web.example";

/// Registers what this host offers in the service `web`, and does nothing else.
fn registering(engine: &Engine<'_>, etcd: &Etcd<'_>) -> String {
    let lists = "[[grouping]]\nplugin = \"labels\"\n[[layout]]\nplugin = \"json\"\n";
    [&agent_section(engine.host()), "discover = false\n", &docker_section(engine), &etcd_section(etcd, TTL), lists]
        .concat()
}

/// Routes to what all hosts offer.
fn routing(host: &Host, etcd: &Etcd<'_>) -> String {
    [&agent_section(host), "register = false\n", &etcd_section(etcd, TTL), &haproxy_section(host)].concat()
}

/// One container with `count` ports, each of which is an instance of the service `web`.
fn instances<'a>(engine: &'a Engine<'_>, count: u16) -> Container<'a> {
    let ports: Vec<_> = (8000..8000 + count).map(|port| port.to_string()).collect();
    let mut arguments: Vec<String> = vec!["--env".into(), format!("PORT={}", ports.join(","))];
    for port in &ports {
        arguments.extend(["--publish".into(), port.clone(), "--label".into(), format!("waypost.{port}.service=web")]);
    }
    arguments.extend(["--label".into(), format!("waypost.domain={NAME}"), "whoami".into()]);
    engine.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The hosts whose instances an agent routes to, and how many instances there are.
fn routed(agent: &Agent<'_>) -> (BTreeSet<String>, usize) {
    let file = agent.proxy_file("haproxy.cfg");
    let servers = file.lines().filter_map(|line| line.trim().strip_prefix("server "));
    let hosts: Vec<_> =
        servers.filter_map(|line| Some(line.split(' ').nth(1)?.split(':').next()?.to_owned())).collect();
    let count = hosts.len();
    (hosts.into_iter().collect(), count)
}

/// Waits until `hosts` are routed to and no others, with `each` instances on every one; says how long it took.
#[track_caller]
fn routes(agent: &Agent<'_>, within: Duration, what: &str, hosts: &[&Host], each: usize) -> Duration {
    let began = Instant::now();
    let expected: BTreeSet<_> = hosts.iter().map(|host| host.address().to_string()).collect();
    eventually(within, what, || {
        let found = routed(agent);
        ensure!(found == (expected.clone(), expected.len() * each), "{found:?}");
        Ok(())
    });
    began.elapsed()
}

/// Fails unless a request is answered.
fn answered(host: &Host) -> anyhow::Result<()> {
    host.connect(80)?.get_of(NAME, "/")?.good().map(drop)
}

#[test]
fn routes_outlive_the_data_of_etcd() {
    let lab = Network::new();
    let mut etcd = lab.etcd();
    let (one, two, edge) = (lab.host("one"), lab.host("two"), lab.host("edge"));
    let (engine, other) = (Engine::start(&one), Engine::start(&two));
    let _containers = (instances(&engine, 6), instances(&other, 6));
    let agents = [&engine, &other].map(|engine| Agent::start(engine.host(), "agent", &registering(engine, &etcd)));
    let front = Agent::start(&edge, "agent", &routing(&edge, &etcd));
    routes(&front, CHANGE_TIMEOUT, "all are routed", &[&one, &two], 6);
    eventually(CHANGE_TIMEOUT, "requests are answered", || answered(&edge));

    // They cannot register again before the loss was seen.
    agents.iter().for_each(|agent| agent.signal(Signal::STOP));
    etcd.lose_data();
    eventually(Duration::from_secs(40), "self-preservation keeps what was lost", || {
        answered(&edge).expect("no request is lost");
        ensure!(!front.log_lines(&["self-preservation", "12 of 12 instances"]).is_empty(), "{}", front.log());
        Ok(())
    });
    let shown = waypost(&edge, &["catalog", "--config", edge.dir().join("agent.toml").to_str().unwrap()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = shown.lines().find(|line| line.contains("self-preservation")).expect("a line for the loss");
    assert!(line.contains("12 of 12") && line.contains("hosts one, two") && line.contains("(since "), "{line}");
    assert_eq!(shown.matches("10.77.").count(), 12, "{shown}");

    agents.iter().for_each(|agent| agent.signal(Signal::CONT));
    eventually(CHANGE_TIMEOUT, "the agents have registered again", || {
        answered(&edge).expect("no request is lost");
        let keys = (etcd.try_entries("/waypost/services/")?.len(), etcd.try_entries("/waypost/agents/")?.len());
        ensure!(keys == (12, 2), "{keys:?} keys");
        Ok(())
    });
    front.logs(&["self-preservation", "problem resolved"]);
    assert_eq!(routed(&front).1, 12);
    assert!(front.log_lines(&["did not come back"]).is_empty(), "an instance left");
    answered(&edge).unwrap();
}

#[test]
fn hosts_that_vanish_together_are_kept_and_hosts_that_leave_are_not() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let hosts = ["one", "two", "three"].map(|name| lab.host(name));
    let edge = lab.host("edge");
    let engines = [Engine::start(&hosts[0]), Engine::start(&hosts[1]), Engine::start(&hosts[2])];
    let _containers: Vec<_> = engines.iter().map(|engine| instances(engine, 5)).collect();
    let [one, two, three] = &hosts;
    let mut agents = engines.each_ref().map(|engine| Agent::start(engine.host(), "agent", &registering(engine, &etcd)));
    let front = Agent::start(&edge, "agent", &routing(&edge, &etcd));
    routes(&front, CHANGE_TIMEOUT, "all are routed", &[one, two, three], 5);

    agents[0].kill();
    agents[1].kill();
    eventually(CHANGE_TIMEOUT, "their leases have ended", || {
        let keys = etcd.try_entries("/waypost/services/")?.len();
        ensure!(keys == 5, "{keys} keys");
        Ok(())
    });
    let expired = Instant::now();
    front.logs(&["self-preservation", "10 of 15 instances"]);
    assert_eq!(routed(&front).1, 15);
    // One comes back meanwhile, as if nothing had happened.
    agents[0].start_again();
    routes(&front, GRACE * 2, "the other leaves in the end", &[one, three], 5);
    let kept = expired.elapsed();
    let slack = Duration::from_secs(6);
    assert!(kept + slack / 3 > GRACE && kept < GRACE + slack, "kept for {kept:?}");
    front.logs(&["instances=5", "did not come back"]);

    agents[1].start_again();
    routes(&front, CHANGE_TIMEOUT, "all are routed again", &[one, two, three], 5);
    let preserved = front.log_lines(&["instances vanished at once"]).len();
    assert!(agents[0].stop().success() && agents[1].stop().success());
    let took = routes(&front, AT_ONCE, "two that withdraw are gone at once", &[three], 5);
    println!("kept after a loss: {kept:?}; gone after a withdrawal: {took:?}");
    assert_eq!(front.log_lines(&["instances vanished at once"]).len(), preserved, "a withdrawal was preserved");
}

#[test]
fn what_the_only_host_stops_goes_at_once() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let containers = [instances(&engine, 6), instances(&engine, 6)];
    let text = [&agent_section(&host), &docker_section(&engine), &etcd_section(&etcd, TTL), &haproxy_section(&host)];
    let agent = Agent::start(&host, "agent", &text.map(String::as_str).concat());
    routes(&agent, CHANGE_TIMEOUT, "all are routed", &[&host], 12);
    engine.docker(&["stop", containers[0].id(), containers[1].id()]);
    routes(&agent, AT_ONCE, "stopped containers are gone at once", &[], 0);
    assert!(agent.log_lines(&["instances vanished at once"]).is_empty(), "{}", agent.log());

    engine.docker(&["start", containers[0].id(), containers[1].id()]);
    routes(&agent, CHANGE_TIMEOUT, "they are routed again", &[&host], 12);
    engine.docker(&["kill", containers[0].id(), containers[1].id()]);
    routes(&agent, AT_ONCE, "killed containers are gone at once", &[], 0);
    assert!(agent.log_lines(&["instances vanished at once"]).is_empty(), "{}", agent.log());
}

#[test]
fn two_hosts_with_one_host_name_are_told_and_neither_writes_over_the_other() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (one, two) = (lab.host("one"), lab.host("two"));
    let (engine, other) = (Engine::start(&one), Engine::start(&two));
    let text = |engine: &Engine<'_>| {
        let docker = [docker_section(engine), "resync = \"1s\"\n".to_owned()].concat();
        let lists = "[[grouping]]\nplugin = \"announce\"\n[[layout]]\nplugin = \"services\"\n";
        [&agent_section(engine.host()), "discover = false\n", &docker, &etcd_section(&etcd, TTL), lists].concat()
    };
    let path = "ANNOUNCE_PATH=/internal/app1/dev/web/shop";
    for engine in [&engine, &other] {
        let named =
            ["--hostname", "web", "--publish", "8000", "--env", path, "--env", "PORT=8000", "--env", "TYPE=HTTP"];
        engine.run(&[&named[..], &["whoami"]].concat());
    }
    let mut first = Agent::start(&one, "agent", &text(&engine));
    let key = "/services/internal/app1/dev/web/shop/web";
    let address = || anyhow::Ok(etcd.try_entries(key)?.into_values().next().unwrap_or_default());
    eventually(CHANGE_TIMEOUT, "the first has its key", || {
        ensure!(address()?.contains("10.77.0.2"), "{:?}", address()?);
        Ok(())
    });
    let watch = etcd.watch("/services/");
    let second = Agent::start(&two, "agent", &text(&other));
    let line = second.logs(&["WARN", key, "host one at 10.77.0.2 holds it"]);
    println!("{line}");
    let config = two.dir().join("agent.toml");
    let shown = waypost(&two, &["catalog", "--config", config.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("host one at 10.77.0.2 holds it"), "{shown:?}");
    // Both compare every second.
    harness::always(Duration::from_secs(4), "the first keeps the key", || {
        ensure!(address()?.contains("10.77.0.2"), "{:?}", address()?);
        Ok(())
    });
    assert_eq!(watch.written(), [""; 0], "the key was written over");
    assert!(first.stop().success());
    eventually(CHANGE_TIMEOUT, "the second takes it over", || {
        ensure!(address()?.contains("10.77.0.3"), "{:?}", address()?);
        Ok(())
    });
    second.logs(&[key, "problem resolved"]);
}
