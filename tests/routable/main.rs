//! How long it takes from the start of a container until a request through `HAProxy` is answered by it, and what
//! the agent costs meanwhile: memory, and the time of its own start.
//!
//! ```text
//! cargo build --release && cargo run --release -p waypost-tests --bin start-to-routable -- --containers 100
//! cargo run --release -p waypost-tests --bin start-to-routable -- --containers 100 --way first
//! cargo run --release -p waypost-tests --bin start-to-routable -- --containers 100 --way joins
//! cargo run --release -p waypost-tests --bin start-to-routable -- --storm
//! ```
//!
//! Runs as root (it makes namespaces) and needs what `tests/run` installs; takes some four minutes. Two hosts, each with
//! a Docker engine and an `HAProxy` of its own, share one etcd and take turns: on one the agent routes, on the
//! other the least program that can ([`floor`]). A turn begins at the engine's own time of the start and ends with
//! the first good answer to a new connection; connections follow each other a millisecond apart. `--way` says what
//! the container is and how it reaches the proxy: by a reload, or live over the stats socket.
//! `--storm` measures something else: the processor time of both while many services come and go ([`storm`]).

#![allow(clippy::disallowed_methods)] // it measures wall time, and lets a burst pass before it measures the next

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, Host, Network, START_TIMEOUT, Section, agent_section, docker_section,
    etcd_section, eventually,
};
use serde_json::json;

mod ends;
mod floor;
mod footprint;
mod processor;
mod storm;

/// Between two turns: nothing is debounced, deferred or reloading any more.
const REST: Duration = Duration::from_millis(700);
/// Between two connections of one turn.
const EVERY: Duration = Duration::from_millis(1);
/// Turns of each side before anything is counted.
const WARM_UP: usize = 3;

/// Measures container start to routable, beside a minimal native program.
#[derive(Clone, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Containers started on each side
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// How the container reaches the proxy
    #[arg(long, value_enum, default_value_t = Way::Reload)]
    way: Way,
    /// Let the agent put files into place without asking `haproxy -c` first
    #[arg(long)]
    without_check: bool,
    /// Starts of the agent, for its time to the first file
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Measure the processor time of a storm instead
    #[arg(long)]
    storm: bool,
    /// Services of the storm
    #[arg(long, default_value_t = 50)]
    services: usize,
    /// Containers without labels that run beside the storm
    #[arg(long, default_value_t = 200)]
    foreign: usize,
    /// Standby backends of the agent's `HAProxy`; those of its plugin unless given (the floor has 500)
    #[arg(long)]
    standbys: Option<usize>,
}

/// What a container is to the proxy, and how it gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// The first of a new http service, by a reload
    Reload,
    /// The first of a new http service, over the stats socket
    First,
    /// One more of a service, over the stats socket
    Joins,
}

impl Way {
    fn service(self, number: usize) -> String {
        if self == Way::Joins { "web".to_owned() } else { format!("c{number}") }
    }

    fn domain(self, number: usize) -> String {
        format!("{}.example.com", self.service(number))
    }
}

#[derive(Clone, Subcommand)]
enum Role {
    /// The minimal program itself; started by this one
    #[command(hide = true)]
    Floor(floor::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.role {
        Some(Role::Floor(options)) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(floor::run(options))
        }
        None if arguments.storm => storm::measure(&arguments),
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (ours, theirs) = (lab.host("waypost"), lab.host("floor"));
    let (our_engine, their_engine) = (Engine::start(&ours), Engine::start(&theirs));
    let mut agent = Agent::start(&ours, "agent", &configuration(&our_engine, &etcd, arguments));
    agent.logs(&["proxy ready"]);
    let _floor = start_floor(&their_engine, &etcd, arguments.way)?;
    eventually(START_TIMEOUT, "the floor's HAProxy listens", || theirs.connect(80));
    let fresh = footprint::memory(&agent)?;
    for engine in [&our_engine, &their_engine] {
        anchor(engine, arguments.way);
    }

    let (mut waypost, mut floor) = (Vec::new(), Vec::new());
    let (mut our_ends, mut their_ends) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + arguments.containers {
        // Who comes first changes from turn to turn.
        let mut sides = [(&our_engine, &mut waypost, &mut our_ends), (&their_engine, &mut floor, &mut their_ends)];
        sides.rotate_left(number % 2);
        for (engine, times, ends) in sides {
            let turned = turn(engine, number, arguments.way);
            let (start, end) = turned.with_context(|| format!("container {number} on {}", engine.host().name()))?;
            if number >= WARM_UP {
                times.push(start);
                ends.extend(end);
            }
        }
    }
    println!("container start to the first answer through HAProxy, {} containers, milliseconds", arguments.containers);
    println!("{}", table(&mut waypost, &mut floor));
    if !our_ends.is_empty() {
        println!("container killed to its server gone from HAProxy, milliseconds");
        println!("{}", table(&mut our_ends, &mut their_ends));
    }
    println!("memory of the agent (labels, json, haproxy), idle after its start: {fresh}");
    println!(
        "the same, idle after {} containers came and went: {}",
        waypost.len() + WARM_UP,
        footprint::memory(&agent)?
    );
    agent.stop();
    println!("{}", footprint::starts(&our_engine, &etcd, arguments.starts)?);
    Ok(())
}

fn configuration(engine: &Engine<'_>, etcd: &Etcd<'_>, arguments: &Arguments) -> String {
    let lists = "[[grouping]]\nplugin = \"labels\"\n[[layout]]\nplugin = \"json\"\n";
    let mut output = Section::haproxy(engine.host());
    if arguments.without_check {
        output = output.without("check");
    }
    if arguments.way != Way::Reload {
        let socket = ends::socket(engine.host(), "proxy");
        output = output.with("live", json!({"socket": socket})).setting("socket", json!(socket));
        if let Some(count) = arguments.standbys {
            output = output.setting("standby-backends", count);
        }
    }
    let agent = agent_section(engine.host());
    [&agent, &docker_section(engine), &etcd_section(etcd, "15s"), lists, &output.to_string()].concat()
}

fn start_floor(engine: &Engine<'_>, etcd: &Etcd<'_>, way: Way) -> Result<harness::Process> {
    let host = engine.host();
    let endpoint = engine.endpoint();
    let socket = endpoint.strip_prefix("unix://").context("a socket")?;
    let mut command = host.command(std::env::current_exe()?);
    command.args(["floor", "--docker", socket, "--etcd", &etcd.url(), "--address", &host.address().to_string()]);
    command.arg("--dir").arg(host.dir()).args((way != Way::Reload).then_some("--live"));
    Ok(host.spawn("floor", command))
}

/// The frontend of http services comes with the first of them, and a service that others join has one already.
fn anchor(engine: &Engine<'_>, way: Way) {
    let id = create(engine, way, usize::MAX);
    engine.docker(&["start", &id]);
    eventually(CHANGE_TIMEOUT, "the first container is served", || {
        first_answer(engine.host(), &way.domain(usize::MAX), &id[..12])
    });
}

fn create(engine: &Engine<'_>, way: Way, number: usize) -> String {
    let labels = [format!("waypost.domain={}", way.domain(number)), format!("waypost.service={}", way.service(number))];
    engine.docker(&["create", "--publish", "8000", "--label", &labels[0], "--label", &labels[1], "whoami"])
}

/// Starts a container that was made before, asks for it until it answers, and removes it; gives the time of its start and,
/// where others stay, of its end.
fn turn(engine: &Engine<'_>, number: usize, way: Way) -> Result<(Duration, Option<Duration>)> {
    let domain = way.domain(number);
    let id = create(engine, way, number);
    std::thread::sleep(REST);
    let answered = std::thread::scope(|scope| {
        let start = scope.spawn(|| engine.try_docker(&["start", &id]));
        let answered = first_answer(engine.host(), &domain, &id[..12]);
        start.join().expect("the starting thread")?;
        answered
    })?;
    let started = time_of(engine, &id, "StartedAt")?;
    let mut end = None;
    if way == Way::Joins {
        std::thread::sleep(REST);
        let gone = std::thread::scope(|scope| {
            let kill = scope.spawn(|| engine.try_docker(&["kill", &id]));
            let gone = ends::gone(engine.host(), &id[..12]);
            kill.join().expect("the killing thread")?;
            gone
        })?;
        end = Some(gone.duration_since(time_of(engine, &id, "FinishedAt")?)?);
    }
    engine.docker(&["rm", "--force", &id]);
    eventually(CHANGE_TIMEOUT, "the route is taken back", || {
        let answer = ask(engine.host(), &domain);
        let answers = answer.is_ok_and(|(status, body)| status == 200 && body.contains(&id[..12]));
        ensure!(!answers, "it still answers");
        Ok(())
    });
    Ok((answered.duration_since(started)?, end))
}

/// When the engine says that a container started or finished.
fn time_of(engine: &Engine<'_>, id: &str, what: &str) -> Result<SystemTime> {
    let text = engine.docker(&["inspect", "--format", &format!("{{{{.State.{what}}}}}"), id]);
    humantime::parse_rfc3339(&text).with_context(|| format!("{text:?} is no time"))
}

fn first_answer(host: &Host, domain: &str, id: &str) -> Result<SystemTime> {
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    loop {
        match ask(host, domain) {
            Ok((200, body)) if body.contains(id) => return Ok(SystemTime::now()),
            last => ensure!(Instant::now() < deadline, "not within {CHANGE_TIMEOUT:?}; last seen: {last:?}"),
        }
        std::thread::sleep(EVERY);
    }
}

fn ask(host: &Host, domain: &str) -> Result<(u16, String)> {
    let reply = host.connect(80)?.get_of(domain, "/")?;
    Ok((reply.status, reply.body))
}

fn table(waypost: &mut [Duration], floor: &mut [Duration]) -> String {
    waypost.sort();
    floor.sort();
    let mut text = format!("{:<5}{:>10}{:>10}{:>8}\n", "", "floor", "waypost", "ratio");
    let last = waypost.len() - 1;
    for (name, rank) in [("min", 0), ("p50", last / 2), ("p99", last * 99 / 100), ("max", last)] {
        let (least, ours) = (milliseconds(floor[rank]), milliseconds(waypost[rank]));
        _ = writeln!(text, "{name:<5}{least:>10.1}{ours:>10.1}{:>8.2}", ours / least);
    }
    text
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
