//! What the agent believes of its proxy is what the proxy does: days that went wrong once, one file for each.

mod byhand;
mod claims;
mod dns;
mod leaving;
mod lines;
mod lost;
mod newcomer;
mod only;
mod ordinary;
mod quiet;
mod refused;
mod route;
mod settings;
mod standby;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use anyhow::{Context, ensure};
use harness::{Agent, CHANGE_TIMEOUT, Etcd, Host, NetnsRuntime, Reply, Section, Server, etcd_section, eventually};
use serde_json::{Value, json};

/// Servers on one host, and their entries in etcd, as the layout `json` writes them.
struct Offers<'a> {
    etcd: &'a Etcd<'a>,
    address: Ipv4Addr,
    inside: NetnsRuntime,
    servers: BTreeMap<String, Server>,
}

impl<'a> Offers<'a> {
    fn on(host: &Host, etcd: &'a Etcd<'a>) -> Offers<'a> {
        Offers { etcd, address: host.address(), inside: NetnsRuntime::of(host), servers: BTreeMap::new() }
    }

    /// Starts a server that answers with `place`, which is `<service>/<id>`, and registers it; gives its port.
    fn join(&mut self, place: &str, attributes: &Value) -> u16 {
        let server = Server::start(&self.inside, self.address, place);
        let port = server.port();
        self.servers.insert(place.to_owned(), server);
        self.put(place, &json!({"address": self.address, "port": port, "attributes": attributes}));
        port
    }

    /// An http service of one instance.
    fn http(&mut self, service: &str, domain: &str) -> u16 {
        self.join(&format!("{service}/one"), &http(domain, "/"))
    }

    /// A tcp service of one instance.
    fn tcp(&mut self, service: &str, listen: u16) -> u16 {
        self.join(&format!("{service}/one"), &json!({"protocol": "tcp", "listen-port": listen.to_string()}))
    }

    /// Takes an instance from the registry and stops its server.
    fn leave(&mut self, place: &str) {
        self.etcd.delete(&key(place));
        self.servers.remove(place);
    }

    fn put(&self, place: &str, value: &Value) {
        self.etcd.put(&key(place), &value.to_string());
    }
}

fn key(place: &str) -> String {
    format!("/waypost/services/{place}")
}

fn http(domain: &str, path: &str) -> Value {
    json!({"protocol": "http", "domain": domain, "path": path})
}

/// The stats socket of the `HAProxy` on `host`.
fn socket(host: &Host) -> String {
    host.dir().join("haproxy.sock").display().to_string()
}

/// `HAProxy` as the README has it: supervised, and told over its stats socket.
fn live(host: &Host) -> Section {
    let socket = socket(host);
    Section::haproxy(host).with("live", json!({"socket": socket})).setting("socket", socket)
}

/// The same, from which services that leave go at once.
fn at_once(host: &Host) -> Section {
    live(host).with("linger", "0s")
}

/// An agent that only discovers, with one output. Entries that no agent wrote leave at once.
fn discovering(host: &Host, etcd: &Etcd<'_>, output: &Section) -> String {
    let agent = Section::agent(host).with("register", false);
    let discover = Section::new("[discover]").with("self-preservation", false);
    format!("{agent}{}{discover}{output}", etcd_section(etcd, "15s"))
}

/// Makes `text` the configuration of the next start.
fn configure(host: &Host, text: &str) {
    std::fs::write(host.dir().join("agent.toml"), text).unwrap();
}

/// Ends the agent without any notice, so that its proxy goes on, and starts it again.
#[track_caller]
fn restart(agent: &mut Agent<'_>) {
    agent.kill();
    agent.start_again();
}

fn ask(host: &Host, domain: &str, path: &str) -> anyhow::Result<Reply> {
    host.connect(80)?.get_of(domain, path)
}

/// Waits until `place` answers for a domain.
#[track_caller]
fn answers(host: &Host, domain: &str, path: &str, place: &str) {
    eventually(CHANGE_TIMEOUT, &format!("{domain}{path} is answered by {place}"), || {
        let seen = ask(host, domain, path)?.good()?;
        ensure!(seen == place, "{seen}");
        Ok(())
    });
}

/// Waits until `place` answers at a port.
#[track_caller]
fn listens(host: &Host, port: u16, place: &str) {
    eventually(CHANGE_TIMEOUT, &format!("port {port} is answered by {place}"), || {
        let seen = host.connect(port)?.get("/")?.good()?;
        ensure!(seen == place, "{seen}");
        Ok(())
    });
}

/// Waits until nobody answers for a domain.
#[track_caller]
fn unavailable(host: &Host, domain: &str, path: &str) {
    eventually(CHANGE_TIMEOUT, &format!("{domain}{path} is answered by nobody"), || {
        let reply = ask(host, domain, path)?;
        ensure!(reply.status == 503, "{reply:?}");
        Ok(())
    });
}

/// What is told of the one output.
fn output(agent: &Agent<'_>) -> anyhow::Result<Value> {
    let report = agent.report()?;
    let outputs = report["outputs"].as_object().context("no outputs")?;
    Ok(outputs.values().next().context("no output")?.clone())
}

fn reloads(agent: &Agent<'_>) -> u64 {
    output(agent).unwrap()["reloads"].as_u64().unwrap()
}

/// Waits until the output is up to date, or lacks only what is refused; gives the number of reloads.
#[track_caller]
fn calm(agent: &Agent<'_>) -> u64 {
    eventually(CHANGE_TIMEOUT, "the output is up to date but for what is refused", || {
        let state = output(agent)?;
        let differences = state["differences"].as_array().cloned().unwrap_or_default();
        let refused = |one: &Value| one.as_str().is_some_and(|text| text.contains("not served as wanted"));
        ensure!(differences.iter().all(refused), "{state}");
        state["reloads"].as_u64().context("no number of reloads")
    })
}

/// Waits until the output is up to date and nothing is wrong; gives the number of reloads.
#[track_caller]
fn clean(agent: &Agent<'_>) -> u64 {
    eventually(CHANGE_TIMEOUT, "the output is up to date and nothing is wrong", || {
        let (report, state) = (agent.report()?, output(agent)?);
        ensure!(state["settled"] == true && report["problems"] == json!([]), "{state} {}", report["problems"]);
        state["reloads"].as_u64().context("no number of reloads")
    })
}

/// Waits until what is wrong with `unit` is told with all of `words`.
#[track_caller]
fn told(agent: &Agent<'_>, unit: &str, words: &[&str]) -> String {
    eventually(CHANGE_TIMEOUT, &format!("it is told of {unit}: {words:?}"), || {
        let report = agent.report()?;
        let problems = report["problems"].as_array().cloned().unwrap_or_default();
        let texts = problems.iter().filter(|problem| problem["subject"] == unit).filter_map(|one| one["text"].as_str());
        let found = texts.clone().find(|text| words.iter().all(|word| text.contains(word))).map(str::to_owned);
        found.with_context(|| format!("{}", report["problems"]))
    })
}

/// What the running `HAProxy` answers to a command on its stats socket.
fn command(host: &Host, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket(host))?;
    stream.set_read_timeout(Some(CHANGE_TIMEOUT))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
