//! A new configuration without a restart: `SIGHUP` takes up a good one and leaves all as it is for a bad one.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, Host, Load, LoadOptions, Network, Section, Signal, agent_section,
    docker_section, etcd_section, eventually,
};
use serde_json::json;

const NAME: &str = "web.example";

fn configuration(engine: &Engine<'_>, etcd: &Etcd<'_>, output: &Section) -> String {
    let agent = agent_section(engine.host());
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    [&agent, &docker_section(engine), &etcd_section(etcd, "15s"), grouping, &output.to_string()].concat()
}

/// Gives the running agent another configuration.
fn tell(host: &Host, agent: &Agent<'_>, text: &str) {
    std::fs::write(host.dir().join("agent.toml"), text).unwrap();
    agent.signal(Signal::HUP);
}

fn proxy(agent: &Agent<'_>) -> anyhow::Result<u32> {
    let noted = agent.proxy_file(".waypost-haproxy.pid");
    Ok(noted.lines().next().context("no proxy runs")?.parse()?)
}

#[test]
fn a_new_configuration_is_taken_up_under_load_and_a_bad_one_is_not() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let output = || Section::haproxy(&host);
    let text = |output: Section| configuration(&engine, &etcd, &output);
    let mut agent = Agent::start(&host, "agent", &text(output()));
    let labels = ["--label", "waypost.service=web", "--label", "waypost.domain=web.example"];
    let web = engine.run(&[&["--publish", "8000"], &labels[..], &["whoami"]].concat());
    let answer = || host.connect(80)?.get_of(NAME, "/")?.good();
    assert_eq!(eventually(CHANGE_TIMEOUT, "the service is routed", answer), web.greeting());
    let (watch, pid) = (etcd.watch("/waypost/services/"), proxy(&agent).unwrap());
    let load = Load::from(&host, LoadOptions::new(SocketAddr::new(host.address().into(), 80), vec![NAME.to_owned()]));

    tell(&host, &agent, &text(output().with("plugin", "haproxi")));
    agent.logs(&["new configuration refused; keeping the old one", "output[0]", "haproxi"]);
    let supervised = |words: &[&str]| {
        let words = [words, &["-f", "{dir}/haproxy.cfg"]].concat();
        text(output().with("reload", json!({"supervise": words, "signal": "USR2"})))
    };
    tell(&host, &agent, &supervised(&["no-such-proxy", "-Ws"]));
    agent.logs(&["new configuration refused; keeping the old one", "output[0]", "no-such-proxy is not there"]);

    tell(&host, &agent, &text(output().setting("defaults-lines", json!(["option http-server-close"]))));
    agent.logs(&["reloading the configuration"]);
    eventually(CHANGE_TIMEOUT, "the files follow the new configuration", || {
        ensure!(agent.proxy_file("haproxy.cfg").contains("option http-server-close"));
        ensure!(agent.report()?["outputs"]["haproxy"]["settled"] == true);
        Ok(())
    });
    assert_eq!(proxy(&agent).unwrap(), pid, "the proxy was not adopted");
    let tally = load.finish();
    assert!(tally.sent() > 0 && tally.lost() == 0, "{tally}: {:?}", tally.losses);
    assert_eq!((watch.deleted(), watch.written()), (vec![], vec![]), "registrations did not stay as they were");

    // A proxy that is to run with other words is another proxy.
    tell(&host, &agent, &supervised(&["haproxy", "-Ws", "-dM"]));
    eventually(CHANGE_TIMEOUT, "another proxy runs", || {
        ensure!(proxy(&agent)? != pid);
        ensure!(answer()? == web.greeting());
        Ok(())
    });
    assert!(agent.stop().success(), "{}", agent.log());
    assert_eq!(etcd.keys("/waypost/services/"), [""; 0]);
}

/// `sh CHECK DIR` refuses the weight 13, naming its line.
const CHECK: &str = r#"line=$(grep -n 'weight 13$' "$1/haproxy.cfg" | head -n 1 | cut -d: -f1)
[ -z "$line" ] && exec haproxy -c -f "$1/haproxy.cfg"
echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : an unlucky weight" >&2
exit 1
"#;

#[test]
fn what_is_held_back_stays_as_it_was_over_a_hangup_and_a_crash() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let check = host.dir().join("check");
    std::fs::write(&check, CHECK).unwrap();
    let output = Section::haproxy(&host).with("check", json!(["sh", check, "{dir}"])).setting("check", false);
    let text = |output: &Section| {
        let agent = Section::agent(&host).with("register", false);
        format!("{agent}{}{output}", etcd_section(&etcd, "15s"))
    };
    let put = |name: &str, port: u16, weight: u16| {
        let attributes = json!({"protocol": "http", "domain": format!("{name}.example")});
        let value = json!({"address": host.address(), "port": port, "weight": weight, "attributes": attributes});
        etcd.put(&format!("/waypost/services/{name}/one"), &value.to_string());
    };
    let mut agent = Agent::start(&host, "agent", &text(&output));
    let becomes = |agent: &Agent<'_>, what: &str, expected: &[&str]| {
        eventually(CHANGE_TIMEOUT, what, || {
            let file = agent.proxy_file("haproxy.cfg");
            let found: Vec<_> = expected.iter().filter(|server| !file.contains(**server)).collect();
            ensure!(found.is_empty(), "{found:?} are not in the file");
            let (output, one) = (&agent.report()?["outputs"]["haproxy"], "1 service is not served as wanted: bad");
            ensure!(output["settled"] == true || output["differences"] == json!([one]), "{output}");
            Ok(())
        });
    };
    put("bad", 1111, 10);
    put("good", 1111, 10);
    becomes(&agent, "both are routed", &[":1111 weight 10"]);
    put("bad", 2222, 13);
    put("good", 2222, 20);
    becomes(&agent, "one stays as it was", &[":1111 weight 10", ":2222 weight 20"]);

    tell(&host, &agent, &text(&output.setting("defaults-lines", json!(["option http-server-close"]))));
    becomes(&agent, "it stays with a new configuration", &["http-server-close", ":1111 weight 10"]);
    agent.kill();
    agent.start_again();
    put("good", 3333, 30);
    becomes(&agent, "it stays after a crash", &[":1111 weight 10", ":3333 weight 30"]);
    let report = agent.report().unwrap();
    assert!(report["problems"][0]["text"].as_str().unwrap().contains("it stays as it was"), "{}", report["problems"]);
    put("bad", 4444, 40);
    becomes(&agent, "it joins when it is good", &[":4444 weight 40", ":3333 weight 30"]);
}
