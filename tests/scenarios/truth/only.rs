//! The only service is redeployed: it is served again at once, and nothing is reloaded for it.

use harness::{Agent, Container, Engine, Host, Network, Section, agent_section, docker_section, etcd_section};

use super::{answers, at_once, clean, discovering, listens, live, unavailable};

fn labelled<'a>(engine: &'a Engine<'_>, labels: &[&str]) -> Container<'a> {
    let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    engine.run(&[&["--publish", "8000"], &labels[..], &["whoami"]].concat())
}

fn redeployed(section: fn(&Host) -> Section) {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    let text = [&agent_section(&host), &docker_section(&engine), grouping, &section(&host).to_string()].concat();
    let agent = Agent::start(&host, "agent", &text);
    let before = clean(&agent);
    let shop = labelled(&engine, &["waypost.service=shop", "waypost.domain=shop.example"]);
    answers(&host, "shop.example", "/", &shop.greeting());
    assert_eq!(clean(&agent), before, "the first http service costs a reload");
    for round in 0..3 {
        shop.act("stop");
        unavailable(&host, "shop.example", "/");
        shop.act("start");
        answers(&host, "shop.example", "/", &shop.greeting());
        assert_eq!(clean(&agent), before, "round {round} costs a reload: {}", agent.log());
    }
    assert_eq!(agent.log_lines(&["cannot bind"]), [""; 0]);
}

#[test]
fn the_only_http_service_is_redeployed_without_a_reload() {
    redeployed(live);
}

#[test]
fn the_only_http_service_is_redeployed_without_a_reload_when_nothing_lingers() {
    redeployed(at_once);
}

/// A tcp service's host restarts its agent; gives the number of reloads before and after at the front.
fn restarted(section: fn(&Host) -> Section) -> [u64; 2] {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (back, edge): (Host, Host) = (lab.host("back"), lab.host("edge"));
    let engine = Engine::start(&back);
    let lists = "[[grouping]]\nplugin = \"labels\"\n[[layout]]\nplugin = \"json\"\n";
    let text =
        [&agent_section(&back), "discover = false\n", &docker_section(&engine), &etcd_section(&etcd, "15s"), lists];
    let mut registers = Agent::start(&back, "agent", &text.concat());
    let front = Agent::start(&edge, "agent", &discovering(&edge, &etcd, &section(&edge)));
    let db = labelled(&engine, &["waypost.service=db", "waypost.protocol=tcp", "waypost.listen-port=7000"]);
    listens(&edge, 7000, &db.greeting());
    let before = clean(&front);
    for _ in 0..3 {
        assert!(registers.stop().success(), "{}", registers.log());
        harness::eventually(harness::CHANGE_TIMEOUT, "nobody answers at the port", || {
            anyhow::ensure!(edge.connect(7000).and_then(|open| open.get("/")).is_err());
            Ok(())
        });
        registers.start_again();
        listens(&edge, 7000, &db.greeting());
        clean(&front);
    }
    assert_eq!(front.log_lines(&["cannot bind"]), [""; 0]);
    [before, clean(&front)]
}

#[test]
fn a_tcp_service_of_one_instance_comes_back_with_its_agent_without_a_reload() {
    let [before, after] = restarted(live);
    assert_eq!(before, after);
}

#[test]
fn a_tcp_service_of_one_instance_comes_back_with_its_agent_when_nothing_lingers() {
    let [before, after] = restarted(at_once);
    assert!(after - before <= 6, "{} reloads for three times that it left and came", after - before);
}
