//! What a change costs, at several sizes: `cargo test -p waypost-plugin-haproxy --test live figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use waypost_plugin_haproxy::{plan, queries};
use waypost_plugin_sdk::{Change, Instance, Service, sample};

use crate::agent::{Tally, all, changes, settle};
use crate::haproxy::{Catalog, Haproxy, node};

/// Changes of each kind.
const TIMES: usize = 50;

fn instance(service: usize, number: usize) -> Instance {
    Instance {
        id: format!("i{number}"),
        address: format!("127.0.{}.{}", service % 250, 1 + number % 250),
        port: u16::try_from(1000 + service).unwrap(),
        attributes: vec![("protocol".to_owned(), "http".to_owned())],
        ..sample::instance()
    }
}

fn catalog(services: usize, each: usize) -> Catalog {
    let service = |number: usize| Service {
        name: format!("s{number}.example"),
        instances: (0..each).map(|instance_number| instance(number, instance_number)).collect(),
        denied: Vec::new(),
    };
    (0..services).map(service).map(|service| (service.name.clone(), service)).collect()
}

#[test]
#[ignore = "measures; the test profile is not optimised"]
fn at_three_sizes() {
    println!("servers | change | queries | commands | on the socket, median | one round in the plugin");
    for (services, each) in [(1, 10), (100, 10), (1000, 10), (1, 10_000)] {
        let base = catalog(services, each);
        let haproxy = Haproxy::start("127.0.0.1", r#""check": false,"#, &base);
        let mut joined = base.clone();
        joined.get_mut("s0.example").unwrap().instances.push(instance(0, each));
        let mut first = base.clone();
        first.extend(catalog(services + 1, 1).into_iter().filter(|(name, _)| !base.contains_key(name)));
        for (what, before, after) in
            [("joins", &base, &joined), ("leaves", &joined, &base), ("new", &base, &first), ("gone", &first, &base)]
        {
            let (there, back) = (changes(&haproxy, before, after), changes(&haproxy, after, before));
            let mut times = Vec::new();
            let mut tally = Tally::default();
            if what == "leaves" || what == "gone" {
                settle(&haproxy, &back, &mut || false);
            }
            for _ in 0..TIMES {
                tally = settle(&haproxy, &there, &mut || false);
                times.push(tally.spoken);
                settle(&haproxy, &back, &mut || false);
            }
            if what == "leaves" || what == "gone" {
                settle(&haproxy, &there, &mut || false);
            }
            times.sort();
            let plugin = plugin_alone(&haproxy, &there);
            println!(
                "{} | {what} | {} | {} | {:?} | {plugin:?}",
                services * each,
                tally.queries,
                tally.commands,
                times[TIMES / 2]
            );
        }
        let mut lines = 0;
        let mut spoken = Duration::ZERO;
        for batch in all(&haproxy, &base).chunks(32) {
            let tally = settle(&haproxy, batch, &mut || false);
            (lines, spoken) = (lines + tally.queries, spoken + tally.spoken);
        }
        println!("{} | all | {lines} | 0 | {spoken:?}", services * each);
        floor(&haproxy);
    }
}

/// One round without the socket.
fn plugin_alone(haproxy: &Haproxy, changes: &[Change]) -> Duration {
    let lines = queries(&haproxy.settings, changes).unwrap();
    let answers: Vec<String> = lines.iter().map(|line| haproxy.ask(line)).collect();
    let start = Instant::now();
    queries(&haproxy.settings, changes).unwrap();
    plan(&haproxy.settings, &node(), changes, &answers).unwrap();
    start.elapsed()
}

fn floor(haproxy: &Haproxy) {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let start = Instant::now();
            haproxy.ask("set server s0.example/i0 weight 1");
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("floor: one `set server`: {:?}", times[TIMES / 2]);
}
