//! Reloads of an nginx that the agent supervises while its servers change.

use anyhow::ensure;
use tokio::time::Instant;

use super::{Course, FORCED, Row, alone, state};
use crate::{
    Agent, CHANGE_TIMEOUT, ChurningServices, Load, LoadOptions, Network, START_TIMEOUT, eventually, nginx_section,
};

/// Reloads that each take up a change, confirmed by the agent.
pub fn nginx(course: &Course) -> Row {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut fleet = ChurningServices::start(&host, &etcd, course.services, course.instances);
    let agent = Agent::start(&host, "agent", &alone(&host, &etcd, &nginx_section(&host)));
    for domain in fleet.domains() {
        eventually(START_TIMEOUT, "every service is routed", || host.connect(80)?.get_of(&domain, "/")?.good());
    }
    let count = || eventually(CHANGE_TIMEOUT, "the agent reports", || state(&agent)).0;
    let options = course.load((host.address(), 80), fleet.domains());
    // nginx closes the idle connections of a worker that is to end, and cannot know that a request is on its way.
    let load = Load::from(lab.hub(), LoadOptions { repeat: true, ..options });
    let (begun, first) = (Instant::now(), count());
    for number in 0..course.nginx_reloads {
        let before = count();
        fleet.change();
        // A weight may be drawn that it was already; a port to listen on is always new.
        fleet.serve_port("forced", FORCED[number % FORCED.len()]);
        confirmed(&agent, &fleet, FORCED[number % FORCED.len()], before);
        fleet.reap(&agent.proxy_file("http.conf"));
    }
    let (reloads, time, tally) = (count() - first, begun.elapsed(), load.finish());
    Row { what: "nginx, reloads", control: false, steps: course.nginx_reloads, reloads: Some(reloads), time, tally }
}

/// Waits until the files are those of the registry, and nginx has them by a reload after the first `before`.
fn confirmed(agent: &Agent<'_>, fleet: &ChurningServices, port: u16, before: u64) {
    eventually(CHANGE_TIMEOUT, "the agent has reloaded", || {
        fleet.agrees(&agent.proxy_file("http.conf"))?;
        let streams = agent.proxy_file("stream.conf");
        ensure!(streams.contains(&format!(":{port};")), "port {port} is not served: {streams}");
        let (reloads, settled) = state(agent)?;
        ensure!(reloads > before && settled, "{reloads} reloads after {before}, settled: {settled}");
        Ok(())
    });
}
