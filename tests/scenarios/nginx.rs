//! nginx instead of HAProxy: containers come and go, one bad service is held back alone, and a hand-written file stays in charge.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Host, Network, Process, Section, agent_section, docker_section,
    etcd_section, eventually, repository,
};
use serde_json::{Value, json};

fn configuration(engine: &Engine<'_>, output: &Section) -> String {
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    [&agent_section(engine.host()), &docker_section(engine), grouping, &output.to_string()].concat()
}

fn labelled<'a>(engine: &'a Engine<'_>, labels: &[&str], more: &[&str]) -> Container<'a> {
    let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    engine.run(&[&["--publish", "8000"], &labels[..], more, &["whoami"]].concat())
}

/// Who answers for `name` at the frontend.
fn answer(host: &Host, name: &str, path: &str) -> anyhow::Result<String> {
    host.connect(80)?.get_of(name, path)?.good()
}

#[track_caller]
fn answers(host: &Host, what: &str, name: &str, path: &str, expected: &Container<'_>) {
    eventually(CHANGE_TIMEOUT, what, || {
        let seen = answer(host, name, path)?;
        ensure!(seen == expected.greeting(), "{seen}");
        Ok(())
    });
}

#[track_caller]
fn unavailable(host: &Host, what: &str, name: &str) {
    eventually(CHANGE_TIMEOUT, what, || {
        let reply = host.connect(80)?.get_of(name, "/")?;
        ensure!(reply.status == 503, "{reply:?}");
        Ok(())
    });
}

#[test]
fn containers_come_and_go_through_nginx() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let text = configuration(&engine, &Section::nginx(&host).with("linger", "1s"));
    let mut agent = Agent::start(&host, "agent", &text);
    unavailable(&host, "a domain that nobody has is answered from the start", "shop.example");

    let shop = labelled(&engine, &["waypost.service=shop", "waypost.domain=shop.example,*.shop.example"], &[]);
    answers(&host, "the first service is routed", "shop.example", "/api", &shop);
    answers(&host, "also by its other names", "www.shop.example", "/", &shop);
    let api = ["waypost.service=api", "waypost.domain=shop.example", "waypost.path=/api"];
    let api = labelled(&engine, &api, &[]);
    answers(&host, "a second one takes its path of the same domain", "shop.example", "/api/x", &api);
    answers(&host, "and no other", "shop.example", "/apix", &shop);
    let thief = labelled(&engine, &["waypost.service=thief", "waypost.domain=shop.example"], &[]);
    let line = agent.logs(&["WARN", "thief", "shop"]);
    assert!(line.contains("shop.example"), "{line}");
    assert_eq!(answer(&host, "shop.example", "/").unwrap(), shop.greeting());

    let port = ["waypost.service=echo", "waypost.listen-port=7000", "waypost.protocol=tcp"];
    let echo = labelled(&engine, &port, &["--env", "TYPE=TCP"]);
    let mut open = eventually(CHANGE_TIMEOUT, "a tcp service has its port", || {
        let mut open = host.connect(7000)?;
        let seen = open.read_line()?;
        ensure!(seen == echo.greeting(), "{seen}");
        Ok(open)
    });
    shop.kill();
    answers(&host, "who came second has the domain when the first is gone", "shop.example", "/", &thief);
    thief.kill();
    unavailable(&host, "what is left of the domain is nobody's", "shop.example");
    answers(&host, "but the path", "shop.example", "/api", &api);
    open.send_line("after all these reloads").unwrap();
    assert_eq!(open.read_line().unwrap(), "after all these reloads");
    echo.kill();
    eventually(CHANGE_TIMEOUT, "the port is given back", || {
        ensure!(host.connect(7000).is_err());
        Ok(())
    });
    assert!(agent.stop().success());
    assert!(host.connect(80).is_err(), "nginx outlives an agent that was asked to stop");
}

#[test]
fn one_bad_service_is_held_back_by_the_line_that_nginx_names() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let output = Section::nginx(&host).setting("host-names", true);
    let text = configuration(&engine, &output) + &etcd_section(&etcd, "15s");
    let agent = Agent::start(&host, "agent", &text);
    let good = labelled(&engine, &["waypost.service=good", "waypost.domain=good.example"], &[]);
    answers(&host, "the good service is routed", "good.example", "/", &good);

    let own = format!("/waypost/services/good/{}", good.short_id());
    let mut value: Value = serde_json::from_str(&etcd.entries(&own)[&own]).unwrap();
    let right = value["address"].clone();
    value["attributes"]["domain"] = json!("bad.example");
    value["address"] = json!("nobody.invalid");
    etcd.put("/waypost/services/bad/one", &value.to_string());
    let line = agent.logs(&["WARN", "bad", "nobody.invalid"]);
    assert!(line.contains("host not found in upstream") && line.contains("http.conf line"), "{line}");
    let next = labelled(&engine, &["waypost.service=next", "waypost.domain=next.example"], &[]);
    answers(&host, "the others take their changes", "next.example", "/", &next);
    assert!(!agent.proxy_file("http.conf").contains("nobody.invalid"));
    value["address"] = right;
    etcd.put("/waypost/services/bad/one", &value.to_string());
    answers(&host, "it joins when it is right", "bad.example", "/", &good);

    // The same for a port that somebody else has: nginx would try it in vain, and keep its old files.
    let squatter = engine.run(&["--network", "host", "--env", "PORT=7000", "--label", "waypost.ignore=true", "whoami"]);
    eventually(CHANGE_TIMEOUT, "the port is taken", || host.connect(7000)?.get("/")?.good());
    let port = ["waypost.service=late", "waypost.listen-port=7000", "waypost.protocol=tcp"];
    let late = labelled(&engine, &port, &["--env", "TYPE=TCP"]);
    let line = agent.logs(&["WARN", "late", "cannot bind 0.0.0.0:7000"]);
    assert!(line.contains("whoami (pid ") && line.contains("stream.conf line"), "{line}");
    next.kill();
    unavailable(&host, "the others take their changes", "next.example");
    squatter.kill();
    eventually(CHANGE_TIMEOUT, "it joins when the port is free", || {
        let seen = host.connect(7000)?.read_line()?;
        ensure!(seen == late.greeting(), "{seen}");
        Ok(())
    });
}

/// A file of `examples/nginx`, with the places that this host has.
fn example(host: &Host, name: &str) -> String {
    let text = std::fs::read_to_string(repository().join("examples/nginx").join(name)).unwrap();
    let dir = host.dir().display();
    text.replace("/etc/nginx/waypost", &format!("{dir}/proxy"))
        .replace("/run/nginx.pid", &format!("{dir}/nginx.pid"))
        .replace("/var/log/nginx", &dir.to_string())
}

/// An nginx with the hand-written file of `examples/nginx`, as a service manager would run it.
fn by_hand(host: &Host) -> Process {
    let file = host.dir().join("nginx.conf");
    std::fs::write(&file, example(host, "nginx.conf")).unwrap();
    let mut command = host.command("nginx");
    command.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(&file);
    let nginx = host.spawn("nginx", command);
    eventually(CHANGE_TIMEOUT, "nginx serves what is written by hand", || answer(host, "hand-written.localhost", "/"));
    nginx
}

#[test]
fn an_nginx_is_never_sent_the_signal_that_starts_a_second_one() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let nginx = by_hand(&host);
    // USR2 is what a pid file goes by when nothing is said.
    let output = example(&host, "waypost.toml").replace(", signal = \"HUP\"", "");
    let text = [&agent_section(&host), &docker_section(&engine), &output[..]].concat();
    let agent = Agent::start(&host, "agent", &text);
    let line = agent.logs(&["WARN", "names process", "second nginx"]);
    assert!(line.contains("nginx.pid") && line.contains("expected signal = \"HUP\""), "{line}");
    let second = host.dir().join("nginx.pid.oldbin");
    assert!(!second.exists(), "{}", nginx.log());
}

#[test]
fn a_hand_written_file_includes_what_the_agent_writes() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let nginx = by_hand(&host);

    let text = [&agent_section(&host), &docker_section(&engine), &example(&host, "waypost.toml")[..]].concat();
    let agent = Agent::start(&host, "agent", &text);
    let shop = labelled(&engine, &["waypost.service=shop", "waypost.domain=shop.example"], &[]);
    answers(&host, "a service is routed beside it", "shop.example", "/", &shop);
    let port = ["waypost.service=echo", "waypost.listen-port=7000", "waypost.protocol=tcp"];
    let echo = labelled(&engine, &port, &["--env", "TYPE=TCP"]);
    eventually(CHANGE_TIMEOUT, "a stream as well", || {
        let seen = host.connect(7000)?.read_line()?;
        ensure!(seen == echo.greeting(), "{seen}");
        Ok(())
    });
    assert_eq!(answer(&host, "hand-written.localhost", "/").unwrap(), "written by hand");
    unavailable(&host, "nobody else is", "nobody.example");

    // What nginx refuses beside files of the operator's: the old workers go on, and the agent says so.
    let broken = format!("{}\nhttp_is_here_twice on;\n", example(&host, "nginx.conf"));
    std::fs::write(host.dir().join("nginx.conf"), broken).unwrap();
    let api = labelled(&engine, &["waypost.service=api", "waypost.domain=api.example"], &[]);
    agent.logs(&["no new worker"]);
    assert_eq!(answer(&host, "shop.example", "/").unwrap(), shop.greeting(), "{}", nginx.log());
    std::fs::write(host.dir().join("nginx.conf"), example(&host, "nginx.conf")).unwrap();
    answers(&host, "it is tried again until it is done", "api.example", "/", &api);
}

#[test]
fn no_request_is_lost_while_containers_are_replaced() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let agent = Agent::start(&host, "agent", &configuration(&engine, &Section::nginx(&host)));
    let start = || labelled(&engine, &["waypost.service=web", "waypost.domain=web.example"], &["--env", "LINGER=2"]);
    let mut old = start();
    // For 100 ms after a reload nginx has old workers take connections as well, and they do not know the service.
    eventually(CHANGE_TIMEOUT, "the service is routed by all workers", || {
        (0..200).try_for_each(|_| answer(&host, "web.example", "/").map(drop))
    });
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut lost = Vec::new();
            while !done.load(Ordering::Relaxed) {
                asked.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = answer(&host, "web.example", "/") {
                    lost.push(format!("{error:#}"));
                }
            }
            lost
        });
        for _ in 0..5 {
            let new = start();
            answers(&host, "the new instance answers", "web.example", "/", &new);
            old.act("stop");
            eventually(CHANGE_TIMEOUT, "the old one is gone from the files", || {
                ensure!(!agent.proxy_file("http.conf").contains(old.short_id()));
                Ok(())
            });
            old = new;
        }
        done.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    let asked = asked.load(Ordering::Relaxed);
    assert!(lost.is_empty(), "{} of {asked} requests were lost: {lost:#?}", lost.len());
    assert!(asked > 100, "only {asked} requests");
}
