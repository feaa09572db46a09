//! Reloads that go wrong, and proxies that die or live in a container: each ends in the right state without help.

use anyhow::{Context, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Haproxy, Host, Network, Section, agent_section, docker_section,
    eventually, waypost,
};

/// An agent with the embedded registry, and an output with this reload instead of supervision.
fn configuration(engine: &Engine<'_>, reload: &str) -> String {
    let host = engine.host();
    let output = Section::haproxy(host).without("reload").to_string();
    let grouping = "[[grouping]]\nplugin = \"labels\"\n".to_owned();
    [agent_section(host), docker_section(engine), grouping, output, format!("reload = {reload}\n")].concat()
}

fn labelled<'a>(engine: &'a Engine<'_>, service: &str) -> Container<'a> {
    let labels = [format!("waypost.service={service}"), format!("waypost.domain={service}.example")];
    engine.run(&["--publish", "8000", "--label", &labels[0], "--label", &labels[1], "whoami"])
}

/// Waits until the container answers for its service's domain.
#[track_caller]
fn routed(host: &Host, service: &str, container: &Container<'_>) {
    let name = format!("{service}.example");
    eventually(CHANGE_TIMEOUT, &format!("{name} is routed"), || {
        let seen = host.connect(80)?.get_of(&name, "/")?.good()?;
        ensure!(seen == container.greeting(), "{seen}");
        Ok(())
    });
}

/// Waits until the proxy runs what was written last.
#[track_caller]
fn settled(host: &Host) {
    let config = host.dir().join("agent.toml");
    eventually(CHANGE_TIMEOUT, "the output is settled", || {
        let done = waypost(host, &["catalog", "--json", "--config", config.to_str().context("a path")?]);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout)?;
        ensure!(report["outputs"]["haproxy"]["settled"] == true, "{report}");
        Ok(())
    });
}

#[test]
fn a_supervised_proxy_that_is_killed_comes_back() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let supervise = "{ supervise = [\"haproxy\", \"-Ws\", \"-f\", \"{dir}/haproxy.cfg\"] }";
    let agent = Agent::start(&host, "agent", &configuration(&engine, supervise));
    let web = labelled(&engine, "web");
    routed(&host, "web", &web);
    let pid = || agent.proxy_file(".waypost-haproxy.pid").lines().next().map(str::to_owned).context("no pid is noted");
    let first = pid().unwrap();
    host.run("kill", &["-KILL", &first]);
    eventually(CHANGE_TIMEOUT, "another process is noted", || {
        ensure!(pid()? != first);
        Ok(())
    });
    routed(&host, "web", &web);
    agent.logs(&["WARN", "the proxy ended", "signal: 9"]);
    // It follows the new one, too.
    let api = labelled(&engine, "api");
    routed(&host, "api", &api);
}

#[test]
fn a_reload_that_fails_five_times_is_done_by_the_sixth_although_nothing_changes_any_more() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let script = host.dir().join("reload");
    let (calls, pid) = (host.dir().join("calls"), host.dir().join("haproxy.pid"));
    let body = format!(
        "[ -e {calls} ] || exit 0\necho call >> {calls}\n[ $(wc -l < {calls}) -gt 5 ] || {{ echo not yet >&2; exit 3; }}\nkill -USR2 $(cat {pid})\n",
        calls = calls.display(),
        pid = pid.display()
    );
    std::fs::write(&script, body).unwrap();
    let reload = format!("{{ command = [\"sh\", \"{}\"] }}", script.display());
    let agent = Agent::start(&host, "agent", &configuration(&engine, &reload));
    eventually(CHANGE_TIMEOUT, "the first file is written", || {
        ensure!(agent.proxy_file("haproxy.cfg").contains("defaults"));
        Ok(())
    });
    let proxy = Haproxy::start(&host, host.dir().join("proxy/haproxy.cfg").to_str().unwrap());
    std::fs::write(&calls, "").unwrap();
    let web = labelled(&engine, "web");
    routed(&host, "web", &web);
    assert_eq!(std::fs::read_to_string(&calls).unwrap().lines().count(), 6, "{}", proxy.log());
    assert_eq!(agent.log_lines(&["WARN", "reload failed", "not yet"]).len(), 5, "{}", agent.log());
}

/// Follows services through an `HAProxy` in a container, which comes late, and is away once.
fn reloads_in_a_container(how: &str) {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    engine.image_of("edge", "haproxy");
    let reload = format!("{{ container = \"edge\", {how} }}");
    let agent = Agent::start(&host, "agent", &configuration(&engine, &reload));
    let web = labelled(&engine, "web");
    let line = agent.logs(&["WARN", "reload failed", "there is no container named edge"]);
    assert!(line.contains("reload.container"), "{line}");

    let files = format!("{}:/files", host.dir().join("proxy").display());
    let run = ["--name", "edge", "--network", "host", "--volume", &files, "edge"];
    let edge = engine.run(&[&run[..], &["haproxy", "-W", "-db", "-f", "/files/haproxy.cfg"]].concat());
    routed(&host, "web", &web);
    let api = labelled(&engine, "api");
    routed(&host, "api", &api);
    agent.logs(&["INFO", "proxy reloaded"]);

    settled(&host);
    // A restart also starts one that was stopped; a signal needs one that runs.
    edge.act("kill");
    let late = labelled(&engine, "late");
    if how.contains("signal") {
        agent.logs(&["WARN", "reload failed", "container edge does not run", "exited"]);
        edge.act("start");
    }
    routed(&host, "late", &late);
    let last = labelled(&engine, "last");
    routed(&host, "last", &last);
}

#[test]
fn a_proxy_in_a_container_is_told_by_a_signal() {
    reloads_in_a_container("signal = \"HUP\"");
}

#[test]
fn a_proxy_in_a_container_is_restarted() {
    reloads_in_a_container("restart = true");
}

#[test]
fn a_proxy_in_a_container_that_refuses_its_files_is_found_out() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    engine.image_of("edge", "haproxy");
    // It reads a file of the test, so that the agent's own check cannot keep the bad one from it.
    let own = host.dir().join("own");
    std::fs::create_dir_all(&own).unwrap();
    let good = "defaults\n timeout client 5s\n timeout server 5s\n timeout connect 5s\nlisten in\n bind *:9000\n";
    std::fs::write(own.join("haproxy.cfg"), good).unwrap();
    let files = format!("{}:/own", own.display());
    let run = ["--name", "edge", "--network", "host", "--volume", &files, "edge"];
    engine.run(&[&run[..], &["haproxy", "-W", "-db", "-f", "/own/haproxy.cfg"]].concat());
    eventually(CHANGE_TIMEOUT, "it listens", || host.connect(9000));

    let reload = "{ container = \"edge\", signal = \"USR2\" }\ntimeout = \"3s\"";
    let agent = Agent::start(&host, "agent", &configuration(&engine, reload));
    agent.logs(&["INFO", "proxy reloaded"]);
    settled(&host);
    std::fs::write(own.join("haproxy.cfg"), format!("{good} garbage\n")).unwrap();
    labelled(&engine, "web");
    let line = agent.logs(&["WARN", "reload failed", "container edge has no new worker process"]);
    assert!(line.contains("docker logs edge"), "{line}");
    std::fs::write(own.join("haproxy.cfg"), good).unwrap();
    settled(&host);
}
