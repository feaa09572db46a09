//! Services of small servers on one host, registered in etcd as the layout `json` writes them, that change all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use etcd_client::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::etcd::Etcd;
use crate::host::Host;
use crate::netns_runtime::NetnsRuntime;
use crate::server::Server;

/// How long a server that was taken from the registry goes on at least, as a container does after its stop signal.
const GRACE: Duration = Duration::from_secs(2);
/// Instances that a service has at most, as a multiple of what it began with.
const CROWD: usize = 2;

/// Where entries go, and where servers listen.
pub struct ChurningServices {
    inside: NetnsRuntime,
    client: Client,
    address: Ipv4Addr,
    /// By service, then by instance.
    services: BTreeMap<String, BTreeMap<String, Member>>,
    /// Each service began with so many.
    each: usize,
    leaving: Vec<Leaving>,
    /// What tcp services are served by; it never changes.
    steady: Server,
    random: u64,
    started: u64,
    /// The longest that a server had to wait until the proxy no longer knew it.
    slowest: Duration,
}

/// A registered server.
struct Member {
    server: Server,
    weight: u32,
}

/// A server that is in the registry no more.
struct Leaving {
    server: Server,
    since: Instant,
}

impl ChurningServices {
    /// Starts `services` http services of `each` instances on `host`.
    pub fn start(host: &Host, etcd: &Etcd<'_>, services: usize, each: usize) -> ChurningServices {
        let inside = NetnsRuntime::of(host);
        let url = etcd.url();
        let client = inside.run(async move { Client::connect([url], None).await.expect("etcd answers") });
        let steady = Server::start(&inside, host.address(), "steady");
        let mut fleet = ChurningServices {
            inside,
            steady,
            client,
            address: host.address(),
            services: BTreeMap::new(),
            each,
            leaving: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            started: 0,
            slowest: Duration::ZERO,
        };
        for service in (0..services).map(|number| format!("s{number}")) {
            (0..each).for_each(|_| _ = fleet.join(&service));
        }
        fleet
    }

    /// The domains of all services; the first label is the service.
    pub fn domains(&self) -> Vec<String> {
        self.services.keys().map(|service| domain(service)).collect()
    }

    /// One change of one endpoint, by chance: an instance joins, leaves, moves to another port or gets another weight.
    pub fn change(&mut self) {
        let service = pick(&mut self.random, self.services.keys()).expect("a service").clone();
        let count = self.services[&service].len();
        match self.chance(4) {
            0 if count < self.each * CROWD => _ = self.join(&service),
            1 if count > self.each => self.leave(&service),
            2 => self.weigh(&service),
            _ => self.replace(&service),
        }
    }

    /// Gives the tcp service `name` the port `listen`, on which the proxy has to begin to listen.
    pub fn serve_port(&mut self, name: &str, listen: u16) {
        let attributes = json!({"protocol": "tcp", "listen-port": listen.to_string()});
        let port = self.steady.port();
        self.put(name, "one", &json!({"address": self.address, "port": port, "attributes": attributes}));
    }

    /// Stops the servers that have left, had their time, and are no longer in the proxy's `files`; says how many wait.
    pub fn reap(&mut self, files: &str) -> usize {
        let named = self.named_in(files);
        let known = |leaving: &Leaving| named.contains(&leaving.server.port());
        let (stay, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(|one| known(one) || one.since.elapsed() < GRACE);
        let waited = gone.iter().map(|leaving| leaving.since.elapsed()).max();
        self.slowest = self.slowest.max(waited.unwrap_or_default());
        self.leaving = stay;
        self.leaving.len()
    }

    /// Compares the proxy's `files` with what is registered.
    ///
    /// # Errors
    /// When a registered server is missing, or one is left over.
    pub fn agrees(&self, files: &str) -> anyhow::Result<()> {
        let registered: BTreeSet<_> =
            self.services.values().flat_map(BTreeMap::values).map(|member| member.server.port()).collect();
        let named = self.named_in(files);
        let (missing, left): (Vec<_>, Vec<_>) =
            (registered.difference(&named).collect(), named.difference(&registered).collect());
        anyhow::ensure!(missing.is_empty() && left.is_empty(), "missing: {missing:?}, left over: {left:?}");
        Ok(())
    }

    /// The ports of http servers that stand in `files`.
    fn named_in(&self, files: &str) -> BTreeSet<u16> {
        let address = format!("{}:", self.address);
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let ports = files.split(&address).skip(1).filter_map(|rest| digits(rest).parse().ok());
        ports.filter(|port| *port != self.steady.port()).collect()
    }

    /// The longest that a server had to go on after it was taken from the registry, at least the grace of two seconds.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Lets time pass.
    pub fn wait(&self, time: Duration) {
        self.inside.run(async move { tokio::time::sleep(time).await });
    }

    /// Starts one more instance of a service, or the first one; says what it answers.
    pub fn join(&mut self, service: &str) -> String {
        self.started += 1;
        let id = format!("i{}", self.started);
        let name = format!("{service}/{id}");
        let server = Server::start(&self.inside, self.address, &name);
        self.register(service, id, Member { server, weight: 10 });
        name
    }

    /// Takes an instance of a service from the registry; its id, and the server, which goes on until it is dropped.
    pub fn withdraw(&mut self, service: &str) -> (String, Server) {
        let all = self.services.get_mut(service).expect("a known service");
        let id = pick(&mut self.random, all.keys()).expect("an instance").clone();
        let member = all.remove(&id).expect("it was picked");
        let (mut client, key) = (self.client.clone(), key(service, &id));
        self.inside.run(async move { client.delete(key, None).await.expect("etcd takes it") });
        (id, member.server)
    }

    fn leave(&mut self, service: &str) {
        let (_, server) = self.withdraw(service);
        self.leaving.push(Leaving { server, since: Instant::now() });
    }

    /// The same instance at another port, as a container that was restarted.
    fn replace(&mut self, service: &str) {
        let all = self.services.get_mut(service).expect("a known service");
        let id = pick(&mut self.random, all.keys()).expect("an instance").clone();
        let Member { server, weight } = all.remove(&id).expect("it was picked");
        let new = Server::start(&self.inside, self.address, server.name());
        self.leaving.push(Leaving { server, since: Instant::now() });
        self.register(service, id, Member { server: new, weight });
    }

    fn weigh(&mut self, service: &str) {
        let weight = 1 + u32::try_from(self.chance(100)).expect("a small number");
        let all = self.services.get_mut(service).expect("a known service");
        let id = pick(&mut self.random, all.keys()).expect("an instance").clone();
        let member = all.remove(&id).expect("it was picked");
        self.register(service, id, Member { weight, ..member });
    }

    fn register(&mut self, service: &str, id: String, member: Member) {
        let attributes = json!({"protocol": "http", "domain": domain(service)});
        let value = json!({"address": self.address, "port": member.server.port(), "weight": member.weight,
            "attributes": attributes});
        self.put(service, &id, &value);
        self.services.entry(service.to_owned()).or_default().insert(id, member);
    }

    fn put(&mut self, service: &str, id: &str, value: &Value) {
        let (mut client, key, value) = (self.client.clone(), key(service, id), value.to_string());
        self.inside.run(async move { client.put(key, value, None).await.expect("etcd takes it") });
    }

    fn chance(&mut self, of: usize) -> usize {
        chance(&mut self.random, of)
    }
}

fn key(service: &str, id: &str) -> String {
    format!("/waypost/services/{service}/{id}")
}

fn domain(service: &str) -> String {
    format!("{service}.example")
}

/// Below `of`; the same numbers in every run (xorshift).
fn chance(random: &mut u64, of: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    usize::try_from(*random >> 33).expect("31 bits") % of
}

fn pick<'a, T>(random: &mut u64, mut from: impl ExactSizeIterator<Item = &'a T>) -> Option<&'a T> {
    let count = from.len();
    if count == 0 { None } else { from.nth(chance(random, count)) }
}
