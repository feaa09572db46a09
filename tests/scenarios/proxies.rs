//! How proxies take changes up: by pid file, by command, without losing a request; and who gets what two want.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Haproxy, Host, Network, Section, agent_section, docker_section,
    etcd_section, eventually, waypost,
};

/// An agent with the embedded registry, and an output with these further lines instead of supervision.
fn configuration(engine: &Engine<'_>, reload: &str) -> String {
    let host = engine.host();
    let output = Section::haproxy(host).without("reload").to_string();
    let grouping = "[[grouping]]\nplugin = \"labels\"\n".to_owned();
    [agent_section(host), docker_section(engine), grouping, output, format!("{reload}\n")].concat()
}

fn labelled<'a>(engine: &'a Engine<'_>, labels: &[&str], more: &[&str]) -> Container<'a> {
    let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    engine.run(&[&["--publish", "8000"], &labels[..], more, &["whoami"]].concat())
}

/// Who answers for `name` at the frontend.
fn answer(host: &Host, name: &str) -> anyhow::Result<String> {
    host.connect(80)?.get_of(name, "/")?.good()
}

/// Starts `HAProxy` as a service manager would, on what the agent wrote, and follows containers through it.
fn reloads_by(reload: impl Fn(&Host) -> String) {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let agent = Agent::start(&host, "agent", &configuration(&engine, &reload(&host)));
    let web = labelled(&engine, &["waypost.service=web", "waypost.domain=web.example"], &[]);
    eventually(CHANGE_TIMEOUT, "the first file is written", || {
        ensure!(agent.proxy_file("routes.map").contains("web.example"), "{}", agent.proxy_file("routes.map"));
        Ok(())
    });
    let file = host.dir().join("proxy/haproxy.cfg");
    let proxy = Haproxy::start(&host, file.to_str().unwrap());
    eventually(CHANGE_TIMEOUT, "the service is routed", || answer(&host, "web.example"));
    let api = labelled(&engine, &["waypost.service=api", "waypost.domain=api.example"], &[]);
    let seen = eventually(CHANGE_TIMEOUT, "a service that comes later is routed too", || answer(&host, "api.example"));
    assert_eq!(seen, api.greeting());
    api.kill();
    eventually(CHANGE_TIMEOUT, "one that leaves is not", || {
        ensure!(answer(&host, "api.example").is_err());
        Ok(())
    });
    assert_eq!(answer(&host, "web.example").unwrap(), web.greeting(), "{}", proxy.log());
}

/// Ends when the master has a new worker: a signal that comes while it takes up the one before would be lost.
const RELOAD: &str = "master=$(cat \"$1\") && old=$(cat /proc/$master/task/$master/children) && kill -USR2 $master
while sleep 0.02; do
    for worker in $(cat /proc/$master/task/$master/children); do
        case \" $old \" in *\" $worker \"*) ;; *) exit 0 ;; esac
    done
done
";

#[test]
fn a_proxy_is_told_by_its_pid_file() {
    reloads_by(|host| {
        format!("reload = {{ pid-file = \"{}\", signal = \"USR2\" }}", host.dir().join("haproxy.pid").display())
    });
}

#[test]
fn a_proxy_is_told_by_a_command() {
    reloads_by(|host| {
        let script = host.dir().join("reload-haproxy");
        std::fs::write(&script, RELOAD).unwrap();
        let (script, pid_file) = (script.display(), host.dir().join("haproxy.pid"));
        format!("reload = {{ command = [\"sh\", \"{script}\", \"{}\"] }}", pid_file.display())
    });
}

#[test]
fn no_request_is_lost_while_containers_are_replaced() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let supervise = "reload = { supervise = [\"haproxy\", \"-Ws\", \"-f\", \"{dir}/haproxy.cfg\"] }";
    let agent = Agent::start(&host, "agent", &configuration(&engine, supervise));
    let start = || labelled(&engine, &["waypost.service=web", "waypost.domain=web.example"], &["--env", "LINGER=2"]);
    let mut old = start();
    eventually(CHANGE_TIMEOUT, "the service is routed", || answer(&host, "web.example"));

    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut lost = Vec::new();
            while !done.load(Ordering::Relaxed) {
                asked.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = answer(&host, "web.example") {
                    lost.push(format!("{error:#}"));
                }
            }
            lost
        });
        for round in 0..8 {
            let new = start();
            eventually(CHANGE_TIMEOUT, "the new instance answers", || {
                let seen = answer(&host, "web.example")?;
                ensure!(seen == new.greeting(), "round {round}: {seen}");
                Ok(())
            });
            old.act("stop");
            eventually(CHANGE_TIMEOUT, "the old one is gone from the files", || {
                ensure!(!agent.proxy_file("haproxy.cfg").contains(old.short_id()));
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

#[test]
fn who_has_a_domain_keeps_it_and_a_newcomer_goes_without() {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let reload = "linger = \"1s\"\nreload = { supervise = [\"haproxy\", \"-Ws\", \"-f\", \"{dir}/haproxy.cfg\"] }";
    let agent = Agent::start(&host, "agent", &configuration(&engine, reload));
    let first = labelled(&engine, &["waypost.service=beta", "waypost.domain=both.example,beta.example"], &[]);
    let answers = |what: &str, domain: &str, expected: &str| {
        eventually(CHANGE_TIMEOUT, what, || {
            let seen = answer(&host, domain)?;
            ensure!(seen == expected, "{seen}");
            Ok(())
        });
    };
    answers("the first has the domain", "both.example", &first.greeting());
    let newcomer = ["waypost.service=alpha", "waypost.domain=both.example,alpha.example"];
    let second = labelled(&engine, &newcomer, &[]);
    answers("the newcomer has what nobody had", "alpha.example", &second.greeting());
    assert_eq!(answer(&host, "both.example").unwrap(), first.greeting());
    let line = agent.logs(&["WARN", "alpha", "beta"]);
    assert!(line.contains("it goes without domain both.example, which service beta has had since 20"), "{line}");
    first.kill();
    answers("it has the domain when the first is gone for good", "both.example", &second.greeting());
}

/// An `[[output]]` of its own port, directory and pace.
fn output(host: &Host, name: &str, port: u16, more: &str) -> String {
    let directory = host.dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    format!(
        "[[output]]\nplugin = \"haproxy\"\ndirectory = \"{}\"\n{more}\n\
         check = [\"haproxy\", \"-c\", \"-f\", \"{{dir}}/haproxy.cfg\"]\n\
         reload = {{ supervise = [\"haproxy\", \"-Ws\", \"-f\", \"{{dir}}/haproxy.cfg\"] }}\n\
         settings = {{ http-bind = \"*:{port}\", stats-bind = \"127.0.0.1:{}\" }}\n",
        directory.display(),
        port + 2000
    )
}

#[test]
fn several_outputs_each_have_their_services_their_directory_and_their_pace() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("edge");
    let engine = Engine::start(&host);
    let container = engine.run(&["--publish", "8000", "whoami"]);
    let text = [
        &agent_section(&host),
        "register = false\n",
        &etcd_section(&etcd, "15s"),
        &output(&host, "all", 80, ""),
        &output(&host, "inner", 81, "services = [\"*.inner\"]\ndebounce = { min = \"2s\", max = \"20s\" }"),
    ];
    let _agent = Agent::start(&host, "agent", &text.concat());
    let put = |service: &str| {
        let value = serde_json::json!({"service": service, "id": "a", "address": host.address(), "transport": "tcp",
            "port": container.published("8000"), "readiness": "ready", "attributes": {"protocol": "http", "domain": service}});
        etcd.put(&format!("/waypost/services/{service}/a"), &value.to_string());
    };
    let answer = |port: u16, name: &str| host.connect(port)?.get_of(name, "/")?.good();
    put("web.outer");
    eventually(CHANGE_TIMEOUT, "the first output routes it", || answer(80, "web.outer"));
    // A storm: each change comes long before the second output has been quiet for its two seconds.
    for number in 0..12 {
        put(&format!("s{number}.inner"));
    }
    for port in [80, 81] {
        eventually(CHANGE_TIMEOUT, &format!("port {port} routes the last of them"), || answer(port, "s11.inner"));
        assert_eq!(answer(port, "s0.inner").unwrap(), container.greeting());
    }
    assert!(answer(81, "web.outer").is_err(), "the second output takes what is not its own");
    let config = host.dir().join("agent.toml");
    let report = waypost(&host, &["catalog", "--json", "--config", config.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let writes = |name: &str| report["outputs"][name]["writes"].as_u64().unwrap();
    // Its base, the first change of a quiet system, and the rest of the storm; one more when the machine was slow.
    assert!(writes("haproxy-2") <= 4 && writes("haproxy-2") < writes("haproxy"), "{}", report["outputs"]);
}
