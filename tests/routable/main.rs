//! How long it takes from the start of a container until a request through `HAProxy` is answered by it, and what
//! the agent costs meanwhile: memory, and the time of its own start.
//!
//! ```text
//! cargo build --release && cargo run --release -p waypost-tests --bin start-to-routable -- --containers 100
//! ```
//!
//! Runs as root (it makes namespaces) and needs what `tests/run` installs; takes some four minutes. Two hosts, each with
//! a Docker engine and an `HAProxy` of its own, share one etcd and take turns: on one the agent routes, on the
//! other the least program that can ([`floor`]). A turn begins at the engine's own time of the start and ends with
//! the first good answer to a new connection; connections follow each other a millisecond apart.

#![allow(clippy::disallowed_methods)] // it measures wall time, and lets a burst pass before it measures the next

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use harness::{
    Agent, Engine, Etcd, Host, Lab, SOON, START, agent_section, docker_section, etcd_section, eventually,
    haproxy_section,
};

mod floor;
mod footprint;

/// Between two turns: nothing is debounced, deferred or reloading any more.
const REST: Duration = Duration::from_millis(700);
/// Between two connections of one turn.
const EVERY: Duration = Duration::from_millis(1);
/// Turns of each side before anything is counted.
const WARM_UP: usize = 3;

/// Measures container start to routable, beside a minimal native program.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Containers started on each side
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// Let the agent put files into place without asking `haproxy -c` first
    #[arg(long)]
    without_check: bool,
    /// Starts of the agent, for its time to the first file
    #[arg(long, default_value_t = 20)]
    starts: usize,
}

#[derive(Subcommand)]
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
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let lab = Lab::new();
    let etcd = lab.etcd();
    let (ours, theirs) = (lab.host("waypost"), lab.host("floor"));
    let (our_engine, their_engine) = (Engine::start(&ours), Engine::start(&theirs));
    let mut agent = Agent::start(&ours, "agent", &configuration(&our_engine, &etcd, arguments));
    agent.logs(&["is ready"]);
    let _floor = start_floor(&their_engine, &etcd)?;
    eventually(START, "the floor's HAProxy listens", || theirs.connect(80));
    let fresh = footprint::memory(&agent)?;

    let (mut waypost, mut floor) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + arguments.containers {
        // Who comes first changes from turn to turn.
        let mut sides = [(&our_engine, &mut waypost), (&their_engine, &mut floor)];
        sides.rotate_left(number % 2);
        for (engine, times) in sides {
            let time =
                turn(engine, number).with_context(|| format!("container {number} on {}", engine.host().name()))?;
            if number >= WARM_UP {
                times.push(time);
            }
        }
    }
    agent.lives();
    println!("container start to the first answer through HAProxy, {} containers, milliseconds", arguments.containers);
    println!("{}", table(&mut waypost, &mut floor));
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
    let mut output = haproxy_section(engine.host());
    if arguments.without_check {
        output = output
            .lines()
            .filter(|line| !line.starts_with("check"))
            .fold(String::new(), |text, line| text + line + "\n");
    }
    [&agent_section(engine.host()), &docker_section(engine), &etcd_section(etcd, "15s"), lists, &output].concat()
}

fn start_floor(engine: &Engine<'_>, etcd: &Etcd<'_>) -> Result<harness::Process> {
    let host = engine.host();
    let endpoint = engine.endpoint();
    let socket = endpoint.strip_prefix("unix://").context("a socket")?;
    let mut command = host.command(std::env::current_exe()?);
    command.args(["floor", "--docker", socket, "--etcd", &etcd.url(), "--address", &host.address().to_string()]);
    command.arg("--dir").arg(host.dir());
    Ok(host.spawn("floor", command))
}

/// Starts a container that was made before, asks for it until it answers, and removes it.
fn turn(engine: &Engine<'_>, number: usize) -> Result<Duration> {
    let domain = format!("c{number}.example.com");
    let labels = [format!("waypost.domain={domain}"), format!("waypost.service=c{number}")];
    let id = engine.docker(&["create", "--publish", "8000", "--label", &labels[0], "--label", &labels[1], "whoami"]);
    std::thread::sleep(REST);
    let answered = std::thread::scope(|scope| {
        let start = scope.spawn(|| engine.try_docker(&["start", &id]));
        let answered = first_answer(engine.host(), &domain, &id[..12]);
        start.join().expect("the starting thread")?;
        answered
    })?;
    let started = engine.docker(&["inspect", "--format", "{{.State.StartedAt}}", &id]);
    let started = humantime::parse_rfc3339(&started).with_context(|| format!("{started:?} is no time"))?;
    engine.docker(&["rm", "--force", &id]);
    eventually(SOON, "the route is taken back", || {
        let status = ask(engine.host(), &domain).map_or(0, |(status, _)| status);
        ensure!(status != 200, "it still answers");
        Ok(())
    });
    Ok(answered.duration_since(started)?)
}

fn first_answer(host: &Host, domain: &str, id: &str) -> Result<SystemTime> {
    let deadline = Instant::now() + SOON;
    loop {
        match ask(host, domain) {
            Ok((200, body)) => {
                let now = SystemTime::now();
                ensure!(body.contains(id), "{domain} is answered by {body:?}, expected {id}");
                return Ok(now);
            }
            last => ensure!(Instant::now() < deadline, "not within {SOON:?}; last seen: {last:?}"),
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
