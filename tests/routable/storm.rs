//! What a storm costs: many services that start, die, start again and half of which die, beside containers that are
//! nobody's business.
//!
//! Each side has the machine to itself: a host with an engine and the foreign containers, then the agent or the floor,
//! then the storm. What is counted is processor time, user and system, of the process and of the children it has waited
//! for, from `/proc/<pid>/stat`. So every `haproxy -c` of the agent is in it. The `HAProxy` that serves is not, on
//! either side: it is a child that goes on, and its workers are children of its master. Nor is what Docker and etcd
//! spend, nor `waypost catalog`, which is asked after the last reading. Containers are made before the first reading.
//!
//! A side that routes to anything else than the survivors in the end has no figure.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Agent, Engine, Etcd, Network, START_TIMEOUT, eventually};

use crate::processor::Spent;
use crate::{Arguments, REST, Way, anchor, ask, configuration, create, start_floor};

/// After the storm, for what is put off: files that a live proxy does not wait for follow within 15 seconds.
const QUIET: Duration = Duration::from_secs(25);
/// The whole storm, after the first start, has to be over by then.
const STORM: Duration = Duration::from_mins(1);
/// Containers that one `docker run` after the other starts at the same time.
const HANDS: usize = 4;
/// Where one part of the measurement ends and the next begins.
const PARTS: [&str; 4] = ["all started", "killed, started, half killed", "until routed right", "quiet"];

/// A reading at the end of a part.
struct Reading {
    at: Instant,
    spent: Spent,
}

/// What one side came to.
struct Course(Vec<Reading>);

/// Measures both sides, one after the other.
pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    let arguments = &Arguments { way: Way::First, ..arguments.clone() };
    let lab = Network::new();
    let etcd = lab.etcd();
    let (waypost, notes) = ours(&lab, &etcd, arguments).context("waypost")?;
    let floor = theirs(&lab, &etcd, arguments).context("floor")?;
    println!(
        "processor time over a storm: {} services beside {} foreign containers, milliseconds",
        arguments.services, arguments.foreign
    );
    println!("{:<30}{:>10}{:>10}{:>10}{:>8}{:>18}", "", "floor", "waypost", "(checks)", "ratio", "took (each)");
    for (number, name) in PARTS.iter().enumerate() {
        row(name, (&floor, &waypost), (number, number + 1));
    }
    row("all", (&floor, &waypost), (0, PARTS.len()));
    println!("{notes}");
    Ok(())
}

fn row(name: &str, (floor, waypost): (&Course, &Course), (from, to): (usize, usize)) {
    let (least, ours) = (floor.spent(from, to), waypost.spent(from, to));
    let milliseconds = |time: Duration| time.as_millis();
    let ratio = if least.sum().is_zero() {
        "-".to_owned()
    } else {
        format!("{:.2}", ours.sum().as_secs_f64() / least.sum().as_secs_f64())
    };
    let took = format!("{:.1}s {:.1}s", floor.took(from, to).as_secs_f64(), waypost.took(from, to).as_secs_f64());
    println!(
        "{name:<30}{:>10}{:>10}{:>10}{ratio:>8}{took:>18}",
        milliseconds(least.sum()),
        milliseconds(ours.sum()),
        milliseconds(ours.children)
    );
}

impl Course {
    fn spent(&self, from: usize, to: usize) -> Spent {
        self.0[to].spent - self.0[from].spent
    }

    fn took(&self, from: usize, to: usize) -> Duration {
        self.0[to].at - self.0[from].at
    }
}

/// The agent's side, and what its log and its report say of it.
fn ours(lab: &Network, etcd: &Etcd<'_>, arguments: &Arguments) -> Result<(Course, String)> {
    let host = lab.host("waypost");
    let engine = Engine::start(&host);
    foreign(&engine, arguments.foreign)?;
    let agent = Agent::start(&host, "agent", &configuration(&engine, etcd, arguments));
    agent.logs(&["proxy ready"]);
    anchor(&engine, Way::First);
    let before = counts(&agent)?;
    let course = blow(&engine, agent.id(), arguments)?;
    let after = counts(&agent)?;
    let notes = format!(
        "the agent meanwhile: {} times new files, {} reloads, {} changes live",
        after[0] - before[0],
        after[1] - before[1],
        after[2] - before[2]
    );
    Ok((course, notes))
}

/// Sets of files, reloads and live changes of the agent's only output.
fn counts(agent: &Agent<'_>) -> Result<[u64; 3]> {
    let report = agent.report()?;
    let output = report["outputs"].as_object().and_then(|outputs| outputs.values().next()).context("no output")?;
    let count = |key: &str| output[key].as_u64().with_context(|| format!("no count of {key}"));
    Ok([count("writes")?, count("reloads")?, count("live")?])
}

fn theirs(lab: &Network, etcd: &Etcd<'_>, arguments: &Arguments) -> Result<Course> {
    let host = lab.host("floor");
    let engine = Engine::start(&host);
    foreign(&engine, arguments.foreign)?;
    let mut floor = start_floor(&engine, etcd, Way::First)?;
    eventually(START_TIMEOUT, "the floor's HAProxy listens", || host.connect(80));
    anchor(&engine, Way::First);
    let course = blow(&engine, floor.id(), arguments)?;
    ensure!(floor.ended().is_none(), "it has ended: {}", floor.log());
    Ok(course)
}

/// Starts containers without any label or port, that only wait.
fn foreign(engine: &Engine<'_>, count: usize) -> Result<()> {
    let run = |hand: usize| -> Result<()> {
        (hand..count).step_by(HANDS).try_for_each(|_| {
            engine.try_docker(&["run", "--detach", "--network", "none", "whoami"])?;
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|hand| scope.spawn(move || run(hand))).collect();
        hands.into_iter().try_for_each(|hand| hand.join().expect("a starting thread"))
    })
}

/// The storm itself, and the readings of the process `id` between its parts.
fn blow(engine: &Engine<'_>, id: u32, arguments: &Arguments) -> Result<Course> {
    let ids: Vec<String> = (0..arguments.services).map(|number| create(engine, Way::First, number)).collect();
    let (killed, left) = ids.split_at(ids.len() / 2);
    let act = |action: &str, ids: &[String]| {
        let words: Vec<&str> = [action].into_iter().chain(ids.iter().map(String::as_str)).collect();
        engine.docker(&words);
    };
    let read = || -> Result<Reading> { Ok(Reading { at: Instant::now(), spent: Spent::by(id)? }) };
    std::thread::sleep(REST);
    let mut readings = vec![read()?];
    act("start", &ids);
    routed(engine, &ids, 0);
    readings.push(read()?);
    act("kill", &ids);
    act("start", &ids);
    act("kill", killed);
    readings.push(read()?);
    let took = readings[2].at - readings[1].at;
    ensure!(took < STORM, "the engine took {took:.1?} for a storm of {STORM:?}: the figure would be too good");
    routed(engine, left, killed.len());
    readings.push(read()?);
    std::thread::sleep(QUIET);
    readings.push(read()?);
    routed(engine, left, killed.len());
    Ok(Course(readings))
}

/// Waits until each of `ids` answers for its own domain, and nothing for the first `killed` domains before theirs.
fn routed(engine: &Engine<'_>, ids: &[String], killed: usize) {
    eventually(START_TIMEOUT, "exactly the services that are there are routed", || {
        for number in 0..killed + ids.len() {
            let (status, body) = ask(engine.host(), &Way::First.domain(number))?;
            let right = match number.checked_sub(killed) {
                Some(place) => status == 200 && body.contains(&ids[place][..12]),
                None => status == 503,
            };
            ensure!(right, "service {number} of which {killed} are gone: {status} {body}");
        }
        Ok(())
    });
}
