//! After random changes, a process that was only spoken to equals one that was started from the files.

use std::env;

use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes};

use crate::agent::{all, changes, settle};
use crate::haproxy::{Catalog, Haproxy, compose};

/// xorshift64*: the same changes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }
}

const HTTP: &[&str] = &["shop", "team/app", "web.example", "blog", "api", "wiki", "mail", "status"];
const TCP: &[&str] = &["db", "cache"];
const DOMAINS: &[&str] = &["", "", "", "", "a.example", "b.example", "*.c.example", "a.example,d.example", "e.example"];
const PATHS: &[&str] = &["", "/", "/api", "/api/v2,/x"];
const ADDRESSES: &[&str] = &["127.0.0.1", "127.0.0.9", "::1"];

fn instance(random: &mut Random, service: &str) -> Instance {
    // Below what the system gives to those who ask for any port.
    let listen_port = 19_000 + service.len();
    let facts = if TCP.contains(&service) {
        vec![("protocol", "tcp".to_owned()), ("listen-port", listen_port.to_string())]
    } else {
        let domain = random.pick(DOMAINS);
        let domain = if domain.is_empty() { format!("{}.test", service.replace('/', "-")) } else { domain.to_owned() };
        vec![("protocol", "http".to_owned()), ("domain", domain), ("path", random.pick(PATHS).to_owned())]
    };
    Instance {
        service: service.to_owned(),
        id: random.pick(&["a", "b-1", "c.d:80"]).to_owned(),
        address: random.pick(ADDRESSES).to_owned(),
        port: u16::try_from(9000 + random.below(20)).unwrap(),
        transport: Transport::Tcp,
        readiness: if random.below(5) == 0 { Readiness::Draining } else { Readiness::Ready },
        weight: [None, None, Some(0), Some(7), Some(256)][usize::try_from(random.below(5)).unwrap()],
        attributes: attributes::sorted(facts),
    }
}

/// One instance joins, leaves or changes. A service whose last one leaves goes, or stays without a server for a while.
fn step(random: &mut Random, catalog: &mut Catalog) {
    let names = if random.below(8) == 0 { TCP } else { HTTP };
    let name = random.pick(names);
    let service = catalog.entry(name.to_owned()).or_insert(Service {
        name: name.to_owned(),
        instances: Vec::new(),
        denied: Vec::new(),
    });
    service.instances.retain(|instance| instance.readiness != Readiness::Gone);
    let new = instance(random, name);
    let old = service.instances.iter().position(|old| old.id == new.id);
    match (old, random.below(4)) {
        (Some(old), 0) => service.instances[old] = new,
        (Some(old), 1) => service.instances[old].weight = new.weight,
        (Some(old), 2) if service.instances.len() == 1 => service.instances[old].readiness = Readiness::Gone,
        (Some(old), _) => drop(service.instances.remove(old)),
        (None, _) => service.instances.push(new),
    }
    service.instances.sort_by(|a, b| a.id.cmp(&b.id));
    if service.instances.is_empty() {
        catalog.remove(name);
    }
}

/// `WAYPOST_CHANGES` sets another number of changes.
fn count() -> usize {
    env::var("WAYPOST_CHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

fn run(more: &str, seed: u64, calls: usize, least: usize) {
    let mut random = Random(seed);
    let mut lost = Random(seed + 1);
    let mut catalog = Catalog::new();
    for _ in 0..30 {
        step(&mut random, &mut catalog);
    }
    let mut haproxy = Haproxy::start("127.0.0.1", more, &catalog);
    let (mut lines, mut reloads, mut lucky) = (0, 0, 0);
    for call in 1..=calls {
        let before = catalog.clone();
        for _ in 0..=random.below(3) {
            step(&mut random, &mut catalog);
        }
        let changes = changes(&haproxy, &before, &catalog);
        let tally = settle(&haproxy, &changes, &mut || lost.below(10) == 0);
        lines += tally.commands + tally.queries;
        if tally.reload {
            haproxy.restart(&catalog);
            reloads += 1;
        } else {
            lucky += 1;
            if call % 20 == 0 {
                compare(&haproxy, &catalog, more);
            }
        }
    }
    let tally = settle(&haproxy, &all(&haproxy, &catalog), &mut || false);
    println!("{more} {calls} calls, {lines} lines, {reloads} reloads; at last {tally:?}");
    assert!((tally.commands, tally.reload) == (0, false), "asked again, nothing is left to do");
    assert!(lucky * 10 > calls * least, "{lucky} of {calls} calls needed no reload");
    compare(&haproxy, &catalog, more);
}

/// Against a fresh process from the same files.
fn compare(haproxy: &Haproxy, catalog: &Catalog, more: &str) {
    let accepted = compose(&haproxy.settings, catalog).1;
    let fresh = Haproxy::start("127.0.0.2", more, catalog);
    assert_eq!(haproxy.servers(&accepted), fresh.servers(&accepted));
    if !more.contains("acl") {
        let (mut routes, fresh) = (haproxy.map("routes.map"), fresh.map("routes.map"));
        // Where a domain ends is left in the map until the next reload, when no service is left that needs it.
        routes.retain(|key, section| section != "." || fresh.contains_key(key));
        assert_eq!(routes, fresh);
    }
}

#[test]
fn by_map() {
    run(r#""standby-backends": 12,"#, 1, count(), 7);
}

#[test]
fn by_map_without_made_backends() {
    run(r#""standby-backends": 12, "dynamic-backends": false,"#, 4, count() / 2, 7);
}

#[test]
fn by_acl() {
    run(r#""routing": "acl","#, 2, count() / 4, 2);
}

#[test]
fn without_checks_and_prepared_backends() {
    run(r#""check": false, "standby-backends": 0,"#, 3, count() / 2, 5);
}
