//! How things end: what an agent or a container takes along, when, and what stays.

use std::time::Duration;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, Network, Section, agent_section, always, docker_section, etcd_section,
    eventually, haproxy_section,
};

/// Short enough to wait for, and more than twice what etcd needs.
const TTL: Duration = Duration::from_secs(6);

/// How long a lease lasts at least: it was renewed at most a third of its time before.
const STAYS: Duration = Duration::from_secs(3);

/// etcd looks for expired leases every half second, and renewals are seconds apart.
const SLACK: Duration = Duration::from_secs(4);

fn registering(engine: &Engine<'_>, etcd: &Etcd<'_>) -> String {
    registering_as(&Section::agent(engine.host()), engine, etcd)
}

/// The same with further keys of the agent's own.
fn registering_as(agent: &Section, engine: &Engine<'_>, etcd: &Etcd<'_>) -> String {
    let agent = agent.clone().with("discover", false).to_string();
    let lists = "[[grouping]]\nplugin = \"image\"\n[[layout]]\nplugin = \"json\"\n";
    [&agent, &docker_section(engine), &etcd_section(etcd, "6s"), lists].concat()
}

/// Waits until the instances registered are `expected`, given by their short ids.
#[track_caller]
fn registered(etcd: &Etcd<'_>, what: &str, within: Duration, expected: &[&str]) {
    let mut expected: Vec<_> = expected.iter().map(|id| format!("/waypost/services/whoami/{id}")).collect();
    expected.sort();
    eventually(within, what, || {
        let keys = etcd.keys("/waypost/services/");
        ensure!(keys == expected, "{keys:?}");
        Ok(())
    });
}

#[test]
fn a_stopped_agent_takes_its_keys_along_at_once() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let containers = engine.whoami(2);
    let mut agent = Agent::start(&host, "agent", &registering(&engine, &etcd));
    registered(&etcd, "both are registered", CHANGE_TIMEOUT, &[containers[0].short_id(), containers[1].short_id()]);
    assert!(agent.stop().success(), "{}", agent.log());
    assert_eq!(etcd.keys("/waypost/services/"), [""; 0], "keys are left when the agent has ended");
    let last = etcd.entries("/waypost/agents/");
    assert!(last["/waypost/agents/web"].contains("leaving"), "others are not told: {last:?}");
    eventually(TTL + SLACK, "the last word goes too", || {
        let keys = etcd.keys("/waypost/");
        ensure!(keys.is_empty(), "{keys:?}");
        Ok(())
    });
}

#[test]
fn a_killed_agents_keys_go_after_the_ttl_and_not_before() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let mut agent = Agent::start(&host, "agent", &registering(&engine, &etcd));
    registered(&etcd, "it is registered", CHANGE_TIMEOUT, &[container.short_id()]);
    agent.kill();
    always(STAYS, "the key stays as long as the lease", || {
        ensure!(etcd.try_entries("/waypost/services/")?.len() == 1, "the key is gone");
        Ok(())
    });
    registered(&etcd, "the key goes with the lease", TTL + SLACK, &[]);
    assert_eq!(etcd.keys("/waypost/"), [""; 0], "only the instances went");
}

#[test]
fn an_agent_that_is_started_again_takes_its_keys_over() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let kept = engine.run(&["--publish", "8000", "whoami"]);
    let dies = engine.run(&["--publish", "8000", "whoami"]);
    let mut agent = Agent::start(&host, "agent", &registering(&engine, &etcd));
    registered(&etcd, "both are registered", CHANGE_TIMEOUT, &[kept.short_id(), dies.short_id()]);
    let watch = etcd.watch("/waypost/services/");
    agent.kill();
    dies.kill();
    let late = engine.run(&["--publish", "8000", "whoami"]);
    agent.start_again();
    registered(&etcd, "the new agent has caught up", CHANGE_TIMEOUT, &[kept.short_id(), late.short_id()]);
    // Longer than any lease of the first run could last.
    always(TTL + SLACK, "the keys stay", || {
        ensure!(etcd.try_entries("/waypost/services/")?.len() == 2, "a key is gone");
        Ok(())
    });
    assert_eq!(watch.deleted(), [format!("/waypost/services/whoami/{}", dies.short_id())]);
}

#[test]
fn an_agent_told_to_leave_its_keys_for_an_upgrade_does_so() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let text = registering_as(&Section::agent(&host).with("on-stop", "leave"), &engine, &etcd);
    let mut agent = Agent::start(&host, "agent", &text);
    registered(&etcd, "it is registered", CHANGE_TIMEOUT, &[container.short_id()]);
    let watch = etcd.watch("/waypost/services/");
    assert!(agent.stop().success(), "{}", agent.log());
    agent.start_again();
    always(TTL + SLACK, "the key stays", || {
        ensure!(etcd.try_entries("/waypost/services/")?.len() == 1, "the key is gone");
        Ok(())
    });
    assert_eq!(watch.deleted(), [""; 0]);
}

#[test]
fn keys_follow_what_happens_to_containers() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let stays = engine.run(&["--publish", "8000", "whoami"]);
    let moves = engine.run(&["--publish", "8000", "whoami"]);
    let both = [stays.short_id(), moves.short_id()];
    let _agent = Agent::start(&host, "agent", &registering(&engine, &etcd));
    registered(&etcd, "both are registered", CHANGE_TIMEOUT, &both);
    let watch = etcd.watch(&format!("/waypost/services/whoami/{}", stays.short_id()));
    for (away, back) in [("stop", "start"), ("kill", "start"), ("pause", "unpause")] {
        moves.act(away);
        registered(&etcd, &format!("`docker {away}` takes the key away"), CHANGE_TIMEOUT, &both[..1]);
        moves.act(back);
        registered(&etcd, &format!("`docker {back}` brings it back"), CHANGE_TIMEOUT, &both);
    }
    moves.act("restart");
    let key = format!("/waypost/services/whoami/{}", moves.short_id());
    eventually(CHANGE_TIMEOUT, "`docker restart` leaves the new port", || {
        let entries = etcd.try_entries(&key)?;
        let port = moves.published("8000");
        ensure!(entries.values().any(|value| value.contains(&port.to_string())), "{entries:?}, port {port}");
        Ok(())
    });
    engine.docker(&["rm", "--force", moves.id()]);
    registered(&etcd, "`docker rm` takes the key away for good", CHANGE_TIMEOUT, &both[..1]);
    assert_eq!(watch.deleted(), [""; 0], "a neighbour was disturbed");
}

#[test]
fn a_container_is_drained_from_its_stop_signal_on() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let slow = engine.run(&["--publish", "8000", "--env", "LINGER=8", "--name", "slow", "whoami"]);
    let other = engine.run(&["--publish", "8000", "whoami"]);
    let lists = "[[grouping]]\nplugin = \"image\"\n[[layout]]\nplugin = \"json\"\n";
    let text = [&agent_section(&host), &docker_section(&engine), lists, &haproxy_section(&host)].concat();
    let _agent = Agent::start(&host, "agent", &text);
    let answers = || (0..4).map(|_| host.connect(8000)?.get("/")?.good()).collect::<anyhow::Result<Vec<_>>>();
    eventually(CHANGE_TIMEOUT, "both answer", || {
        let seen = answers()?;
        ensure!(seen.contains(&slow.greeting()) && seen.contains(&other.greeting()), "{seen:?}");
        Ok(())
    });
    // The first process of a container ignores a signal that it has no handler for.
    engine.docker(&["kill", "--signal", "HUP", slow.id()]);
    always(Duration::from_secs(1), "another signal drains nothing", || {
        ensure!(answers()?.contains(&slow.greeting()), "the instance gets no requests any more");
        Ok(())
    });
    std::thread::scope(|scope| {
        scope.spawn(|| engine.docker(&["stop", "--time", "20", slow.id()]));
        eventually(CHANGE_TIMEOUT, "no new request goes to the container that stops", || {
            let seen = answers()?;
            ensure!(!seen.contains(&slow.greeting()), "{seen:?}");
            Ok(())
        });
        let running = engine.docker(&["inspect", "--format", "{{.State.Running}}", slow.id()]);
        assert_eq!(running, "true", "it was drained before it ended");
        let direct = host.connect(slow.published("8000")).unwrap().get("/").unwrap();
        assert_eq!(direct.body, slow.greeting(), "it still finishes what it has");
    });
}

#[test]
fn routes_stay_while_docker_or_etcd_is_away() {
    let lab = Network::new();
    let mut etcd = lab.etcd();
    let (web, edge) = (lab.host("web"), lab.host("edge"));
    let engine = Engine::start(&web);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let _agent = Agent::start(&web, "agent", &registering(&engine, &etcd));
    let layout = "[[layout]]\nplugin = \"json\"\n";
    let text =
        [&agent_section(&edge), "register = false\n", &etcd_section(&etcd, "6s"), layout, &haproxy_section(&edge)];
    let mut front = Agent::start(&edge, "agent", &text.concat());
    let answer = || edge.connect(8000)?.get("/")?.good();
    eventually(CHANGE_TIMEOUT, "the service is routed", answer);

    engine.freeze();
    always(TTL + SLACK, "a hanging engine changes nothing", || {
        ensure!(etcd.try_entries("/waypost/services/")?.len() == 1, "the key is gone");
        ensure!(answer()? == container.greeting());
        Ok(())
    });
    engine.thaw();
    let second = engine.run(&["--publish", "8000", "whoami"]);
    registered(&etcd, "the engine is followed again", CHANGE_TIMEOUT, &[container.short_id(), second.short_id()]);

    etcd.stop();
    always(TTL, "requests are answered without etcd", || answer().map(drop));
    front.kill();
    front.start_again();
    always(TTL, "also over a restart of the agent", || {
        if front.proxy_file("haproxy.cfg").contains(container.short_id()) {
            return Ok(());
        }
        anyhow::bail!("the file was emptied")
    });
    eventually(CHANGE_TIMEOUT, "the restarted agent routes what it remembers", answer);
    etcd.start_again();
    let third = engine.run(&["--publish", "8000", "whoami"]);
    let all = [container.short_id(), second.short_id(), third.short_id()];
    registered(&etcd, "the agent has registered again", Duration::from_secs(40), &all);
    eventually(Duration::from_secs(40), "the new one is routed", || {
        let seen = (0..3).map(|_| answer()).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(seen.contains(&third.greeting()), "{seen:?}");
        Ok(())
    });
}
