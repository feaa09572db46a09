//! Reloads and changes through an `HAProxy` that the agent supervises, and plain restarts for comparison.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::{Course, FORCED, Row, alone, live, state};
use crate::agent::proxy_dir;
use crate::sections::TELLS;
use crate::{
    Agent, CHANGE_TIMEOUT, ChurningServices, Haproxy, Host, Load, Network, START_TIMEOUT, Tally, eventually,
    haproxy_section,
};

/// Changes between two looks at the files.
const LOOK: usize = 50;
/// Between two restarts: some requests are answered.
const REST: Duration = Duration::from_millis(300);

/// A host with an agent, the agent's proxy and a fleet, and clients on another host.
struct Site<'a> {
    course: &'a Course,
    lab: &'a Network,
    host: &'a Host,
    agent: Agent<'a>,
    fleet: ChurningServices,
}

/// The parts of `course` that concern `HAProxy`.
pub fn haproxy(course: &Course) -> Vec<Row> {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let fleet = ChurningServices::start(&host, &etcd, course.services, course.instances);
    let keys = if course.live { live(&host) } else { format!("settings = {{ {TELLS} }}\n") };
    let output = haproxy_section(&host) + &keys;
    let agent = Agent::start(&host, "agent", &alone(&host, &etcd, &output));
    let mut site = Site { course, lab: &lab, host: &host, agent, fleet };
    for domain in site.fleet.domains() {
        eventually(START_TIMEOUT, "every service is routed", || host.connect(80)?.get_of(&domain, "/")?.good());
    }
    let mut rows = Vec::new();
    if course.reloads > 0 {
        rows.push(site.part("HAProxy, forced reloads", course.reloads, Site::reloads));
    }
    if course.changes > 0 {
        rows.push(site.part("HAProxy, endpoints change", course.changes, Site::changes));
    }
    if course.restarts > 0 {
        rows.push(site.restarts());
    }
    rows
}

impl<'a> Site<'a> {
    fn part(&mut self, what: &'static str, steps: usize, work: fn(&mut Site<'a>)) -> Row {
        let (load, begun, before) = (self.load(), Instant::now(), self.reload_count());
        work(self);
        let (time, tally) = (begun.elapsed(), load.finish());
        Row { what, control: false, steps, reloads: Some(self.reload_count() - before), time, tally }
    }

    fn load(&self) -> Load {
        Load::from(self.lab.hub(), self.course.load((self.host.address(), 80), self.fleet.domains()))
    }

    /// Makes the proxy listen elsewhere, over and over.
    fn reloads(&mut self) {
        for number in 0..self.course.reloads {
            let before = self.reload_count();
            self.fleet.serve_port("forced", FORCED[number % FORCED.len()]);
            eventually(CHANGE_TIMEOUT, "the agent has reloaded", || {
                let (reloads, settled) = state(&self.agent)?;
                ensure!(reloads > before && settled, "{reloads} reloads after {before}, settled: {settled}");
                Ok(())
            });
        }
    }

    /// Changes endpoints at the pace of the course.
    fn changes(&mut self) {
        let period = Duration::from_secs(1) / self.course.pace;
        let mut next = Instant::now();
        for number in 1..=self.course.changes {
            self.fleet.change();
            if number % LOOK == 0 {
                self.fleet.reap(&self.files());
            }
            next += period;
            self.fleet.wait(next.saturating_duration_since(Instant::now()));
        }
        eventually(CHANGE_TIMEOUT, "the proxy's files are those of the registry, and the proxy has them", || {
            self.fleet.agrees(&self.files())?;
            ensure!(state(&self.agent)?.1, "not settled");
            let waiting = self.fleet.reap(&self.files());
            ensure!(waiting == 0, "{waiting} servers have to wait");
            Ok(())
        });
    }

    /// The same proxy without the agent, ended and started.
    fn restarts(&mut self) -> Row {
        self.agent.stop();
        let file = proxy_dir(self.host).join("haproxy.cfg");
        let mut proxy = Haproxy::start(self.host, file.to_str().expect("a path in UTF-8"));
        eventually(START_TIMEOUT, "the proxy serves without the agent", || self.host.connect(80));
        let (load, begun) = (self.load(), Instant::now());
        for _ in 0..self.course.restarts {
            self.fleet.wait(REST);
            proxy.restart();
        }
        self.fleet.wait(REST);
        let (time, tally): (_, Tally) = (begun.elapsed(), load.finish());
        let what = "control: HAProxy plainly restarted";
        Row { what, control: true, steps: self.course.restarts, reloads: None, time, tally }
    }

    fn files(&self) -> String {
        self.agent.proxy_file("haproxy.cfg")
    }

    fn reload_count(&self) -> u64 {
        eventually(CHANGE_TIMEOUT, "the agent reports", || state(&self.agent)).0
    }
}
