//! Draining, from the stop signal into the proxy: what is open finishes, what is new goes elsewhere.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use harness::{
    Agent, CHANGE_TIMEOUT, Connection, Container, Engine, Host, Network, agent_section, always, docker_section,
    eventually, haproxy_section, nginx_section,
};
use tokio::time::Instant;

const NAME: &str = "web.example";

/// Which proxy, and so which output: the promises are the same.
#[derive(Clone, Copy)]
enum Proxy {
    /// `HAProxy`, told by a reload.
    Haproxy,
    /// `HAProxy`, told over its stats socket.
    Live,
    /// nginx, told by a reload.
    Nginx,
}

impl Proxy {
    /// The output.
    fn section(self, host: &Host) -> String {
        match self {
            Proxy::Haproxy => haproxy_section(host),
            Proxy::Live => {
                let socket = host.dir().join("haproxy.sock").display().to_string();
                let told = format!("live = {{ socket = \"{socket}\" }}\nsettings = {{ socket = \"{socket}\" }}\n");
                haproxy_section(host) + &told
            }
            Proxy::Nginx => nginx_section(host),
        }
    }

    /// How long after the stop signal a new request may still reach the container: event, render, check, and until the
    /// last worker that knew nothing of it has stopped listening. Most take a tenth of it; the machine may be busy.
    fn chain(self) -> Duration {
        match self {
            Proxy::Haproxy | Proxy::Nginx => Duration::from_secs(3),
            Proxy::Live => Duration::from_secs(1),
        }
    }

    /// The file that names servers by their containers, or by their ports.
    fn file(self) -> &'static str {
        match self {
            Proxy::Haproxy | Proxy::Live => "haproxy.cfg",
            Proxy::Nginx => "http.conf",
        }
    }
}

fn configuration(engine: &Engine<'_>, proxy: Proxy) -> String {
    let host = engine.host();
    let grouping = "[[grouping]]\nplugin = \"labels\"\n";
    [&agent_section(host), &docker_section(engine), grouping, &proxy.section(host)].concat()
}

/// A container of the service; asked to stop, it goes on for `linger` seconds, as one that finishes what it has.
fn start<'a>(engine: &'a Engine<'_>, linger: u32) -> Container<'a> {
    let linger = format!("LINGER={linger}");
    let domain = format!("waypost.domain={NAME}");
    let labels = ["--label", "waypost.service=web", "--label", &domain];
    engine.run(&[&["--publish", "8000", "--env", &linger][..], &labels, &["whoami"]].concat())
}

fn answer(host: &Host) -> anyhow::Result<String> {
    host.connect(80)?.get_of(NAME, "/")?.good()
}

/// Waits until all of `containers` get requests, and nobody else.
#[track_caller]
fn answered_by(host: &Host, what: &str, containers: &[&Container<'_>]) {
    let mut expected: Vec<_> = containers.iter().map(|container| container.greeting()).collect();
    expected.sort();
    eventually(CHANGE_TIMEOUT, what, || {
        let mut seen = (0..3 * expected.len()).map(|_| answer(host)).collect::<anyhow::Result<Vec<_>>>()?;
        seen.sort();
        seen.dedup();
        ensure!(seen == expected, "{seen:?} instead of {expected:?}");
        Ok(())
    });
}

/// Clients of a load.
const CLIENTS: usize = 4;

/// What became of the requests of a load.
#[derive(Default)]
struct Tally {
    asked: usize,
    /// When each container was last sent a request that it answered.
    last: BTreeMap<String, Instant>,
    lost: Vec<String>,
}

/// Sends requests, each on a connection of its own, while `work` is done.
fn under_load<T>(host: &Host, work: impl FnOnce() -> T) -> (T, Tally) {
    let (tally, done) = (Mutex::new(Tally::default()), AtomicBool::new(false));
    let client = || {
        while !done.load(Ordering::Relaxed) {
            let began = Instant::now();
            let reply = answer(host);
            let mut tally = tally.lock().unwrap();
            tally.asked += 1;
            match reply {
                Ok(greeting) => _ = tally.last.insert(greeting, began),
                Err(error) => tally.lost.push(format!("{error:#}")),
            }
        }
    };
    let result = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        result
    });
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    (result, tally.into_inner().unwrap())
}

/// A download of `lines` lines, a tenth of a second each, that has begun.
fn download(host: &Host, lines: usize) -> anyhow::Result<(Connection, String)> {
    let mut connection = host.connect(80)?;
    connection.send_line(&format!("GET /slow/{lines} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r"))?;
    while !connection.read_line()?.is_empty() {}
    let first = connection.read_line()?;
    Ok((connection, first))
}

fn what_is_open_finishes_and_what_is_new_goes_elsewhere(proxy: Proxy) {
    const LINES: usize = 40;
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let (stopped, other) = (start(&engine, 8), start(&engine, 0));
    let _agent = Agent::start(&host, "agent", &configuration(&engine, proxy));
    answered_by(&host, "both are routed", &[&stopped, &other]);
    let (mut open, first) = eventually(CHANGE_TIMEOUT, "a download from the container that is to stop", || {
        let begun = download(&host, LINES)?;
        ensure!(begun.1 == stopped.greeting(), "{}", begun.1);
        Ok(begun)
    });
    let ((began, rest), tally) = under_load(&host, || {
        std::thread::scope(|scope| {
            let began = Instant::now();
            scope.spawn(|| engine.docker(&["stop", "--time", "20", stopped.id()]));
            let rest: Vec<_> = (1..LINES).map_while(|_| open.read_line().ok()).collect();
            always(proxy.chain(), "the other one answers", || answer(&host).map(drop));
            (began, rest)
        })
    });
    assert_eq!(rest.len(), LINES - 1, "the download broke off");
    assert!(rest.iter().all(|line| *line == first), "{rest:?}");
    let reached = tally.last.get(&stopped.greeting()).map(|at| at.saturating_duration_since(began));
    println!("the last request reached the stopped container {reached:?} after the signal, of {} in all", tally.asked);
    assert!(reached.is_none_or(|late| late < proxy.chain()), "a request reached it {reached:?} after the stop signal");
    assert!(tally.lost.is_empty(), "{} of {} requests were lost: {:#?}", tally.lost.len(), tally.asked, tally.lost);
}

#[test]
fn a_download_finishes_when_its_container_is_stopped() {
    what_is_open_finishes_and_what_is_new_goes_elsewhere(Proxy::Haproxy);
}

#[test]
fn a_download_finishes_when_its_container_is_stopped_and_haproxy_is_told_live() {
    what_is_open_finishes_and_what_is_new_goes_elsewhere(Proxy::Live);
}

#[test]
fn a_download_finishes_when_its_container_is_stopped_behind_nginx() {
    what_is_open_finishes_and_what_is_new_goes_elsewhere(Proxy::Nginx);
}

fn a_rolling_replacement_loses_nothing(proxy: Proxy) {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let old: Vec<_> = (0..3).map(|_| start(&engine, 3)).collect();
    let _agent = Agent::start(&host, "agent", &configuration(&engine, proxy));
    answered_by(&host, "all three are routed", &old.iter().collect::<Vec<_>>());
    let (new, tally) = under_load(&host, || {
        let replace = |old: &Container<'_>| {
            let new = start(&engine, 3);
            eventually(CHANGE_TIMEOUT, "the new instance is routed", || {
                let seen = answer(&host)?;
                ensure!(seen == new.greeting(), "{seen}");
                Ok(())
            });
            old.act("stop");
            new
        };
        old.iter().map(replace).collect::<Vec<_>>()
    });
    answered_by(&host, "only the new ones are left", &new.iter().collect::<Vec<_>>());
    println!("replaced three: {} requests, {} lost", tally.asked, tally.lost.len());
    assert!(tally.lost.is_empty(), "{} of {} requests were lost: {:#?}", tally.lost.len(), tally.asked, tally.lost);
    assert!(tally.asked > 200, "only {} requests", tally.asked);
}

#[test]
fn three_instances_are_replaced_under_load() {
    a_rolling_replacement_loses_nothing(Proxy::Haproxy);
}

#[test]
fn three_instances_are_replaced_under_load_and_haproxy_is_told_live() {
    a_rolling_replacement_loses_nothing(Proxy::Live);
}

#[test]
fn three_instances_are_replaced_under_load_behind_nginx() {
    a_rolling_replacement_loses_nothing(Proxy::Nginx);
}

fn a_crash_is_hidden(proxy: Proxy) {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let containers: Vec<_> = (0..3).map(|_| start(&engine, 0)).collect();
    let agent = Agent::start(&host, "agent", &configuration(&engine, proxy));
    answered_by(&host, "all three are routed", &containers.iter().collect::<Vec<_>>());
    let ((), tally) = under_load(&host, || {
        containers[0].kill();
        eventually(CHANGE_TIMEOUT, "the killed one is gone from the files", || {
            ensure!(agent.proxy_file(proxy.file()).matches("    server ").count() == 2);
            Ok(())
        });
        always(proxy.chain(), "the others answer", || answer(&host).map(drop));
    });
    println!("killed one of three: {} requests, {} lost: {:?}", tally.asked, tally.lost.len(), tally.lost);
    // Whatever was under way there is lost; what came after it was tried again elsewhere.
    assert!(tally.lost.len() <= CLIENTS, "{} of {} requests were lost", tally.lost.len(), tally.asked);
    answered_by(&host, "two are left", &[&containers[1], &containers[2]]);
}

#[test]
fn one_of_three_is_killed_under_load() {
    a_crash_is_hidden(Proxy::Haproxy);
}

#[test]
fn one_of_three_is_killed_under_load_and_haproxy_is_told_live() {
    a_crash_is_hidden(Proxy::Live);
}

#[test]
fn one_of_three_is_killed_under_load_behind_nginx() {
    a_crash_is_hidden(Proxy::Nginx);
}
