//! Real containers that are replaced while they are asked.

use anyhow::ensure;
use tokio::time::Instant;

use super::{Course, Row};
use crate::sections::TELLS;
use crate::{
    Agent, CHANGE_TIMEOUT, Container, Engine, Load, LoadOptions, Network, agent_section, docker_section, eventually,
    haproxy_section,
};

/// Containers of the service.
const INSTANCES: usize = 3;
/// How long a container goes on after its stop signal, as long as one that takes its leave properly does.
const LINGER: &str = "LINGER=2";
/// Of all requests a second, those that are for the one small program in each container.
const RATE: u32 = 200;

/// Starts a new container and stops the oldest, over and over.
pub fn containers(course: &Course) -> Row {
    let lab = Network::new();
    let host = lab.host("web");
    let engine = Engine::start(&host);
    let settings = format!("settings = {{ {TELLS} }}\n");
    let text = [agent_section(&host), docker_section(&engine), haproxy_section(&host), settings].concat();
    let agent = Agent::start(&host, "agent", &text);
    let labels = ["--label", "waypost.service=web", "--label", "waypost.domain=web.example"];
    let start = || engine.run(&[&["--publish", "8000", "--env", LINGER], &labels[..], &["whoami"]].concat());
    let written = |agent: &Agent<'_>, container: &Container<'_>, there: bool| {
        eventually(CHANGE_TIMEOUT, "the proxy's file follows", || {
            let found = agent.proxy_file("haproxy.cfg").contains(container.short_id());
            ensure!(found == there, "{} is in the file: {found}", container.short_id());
            Ok(())
        });
    };
    let mut running: Vec<_> = (0..INSTANCES).map(|_| start()).collect();
    running.iter().for_each(|container| written(&agent, container, true));
    eventually(CHANGE_TIMEOUT, "the service is routed", || host.connect(80)?.get_of("web.example", "/")?.good());

    let options = course.load((host.address(), 80), vec!["web.example".to_owned()]);
    let load = Load::from(lab.hub(), LoadOptions { rate: course.rate.min(RATE), ..options });
    let begun = Instant::now();
    for _ in 0..course.containers {
        let new = start();
        written(&agent, &new, true);
        running.push(new);
        let old = running.remove(0);
        old.act("stop");
        written(&agent, &old, false);
    }
    let (time, tally) = (begun.elapsed(), load.finish());
    let what = "HAProxy, containers are replaced";
    Row { what, control: false, steps: course.containers, reloads: None, time, tally }
}
