//! The only instance of a service is replaced by a new one, over and over, with a time without any between them.
//!
//! The old server leaves the registry and goes on until the running proxy no longer sends to it, as its stats socket
//! says; after a pause in which there is none the new one joins. From the moment that the old one leaves until the new
//! one has answered through the proxy, 503 is what the service has to answer; it is counted apart. Everything else is
//! lost, as everything of the other services is that is not their answer. The agent changes the running proxy.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::{Course, Row, alone, live, state};
use crate::load::{Away, LoadOptions};
use crate::{Agent, CHANGE_TIMEOUT, ChurningServices, Host, Load, Network, START_TIMEOUT, eventually, haproxy_section};

/// The service with one instance.
const ONLY: &str = "only";
/// Between the old instance and the new one.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two redeploys.
const REST: Duration = Duration::from_millis(100);
/// Bits of a server's administrative state that say maintenance (`HAProxy`'s management guide, `show servers state`).
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x20;

/// A row for the service that is redeployed, and one for the others meanwhile.
pub fn redeploys(course: &Course) -> Vec<Row> {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut fleet = ChurningServices::start(&host, &etcd, course.services, course.instances);
    let others = fleet.domains();
    fleet.join(ONLY);
    let output = haproxy_section(&host) + &live(&host);
    let agent = Agent::start(&host, "agent", &alone(&host, &etcd, &output));
    for domain in fleet.domains() {
        eventually(START_TIMEOUT, "every service is routed", || host.connect(80)?.get_of(&domain, "/")?.good());
    }
    let settled = |agent: &Agent<'_>| {
        eventually(CHANGE_TIMEOUT, "the proxy has all", || {
            let (reloads, settled) = state(agent)?;
            ensure!(settled, "not settled");
            Ok(reloads)
        })
    };
    let before = settled(&agent);
    let away = Away::default();
    let ask = |domains: Vec<String>, away: Option<Away>| {
        let options = course.load((host.address(), 80), domains);
        Load::from(lab.hub(), LoadOptions { away, ..options })
    };
    let (load, beside) = (ask(vec![domain()], Some(away.clone())), ask(others, None));
    let begun = Instant::now();
    for _ in 0..course.redeploys {
        redeploy(&host, &mut fleet, &away);
        fleet.wait(REST);
    }
    let time = begun.elapsed();
    let (tally, beside) = (load.finish(), beside.finish());
    let reloads = Some(settled(&agent) - before);
    let row = |what, tally| Row { what, control: false, steps: course.redeploys, reloads, time, tally };
    vec![row("HAProxy, only instance redeployed", tally), row("HAProxy, the others meanwhile", beside)]
}

fn domain() -> String {
    format!("{ONLY}.example")
}

fn redeploy(host: &Host, fleet: &mut ChurningServices, away: &Away) {
    away.begin();
    let (id, old) = fleet.withdraw(ONLY);
    let socket = host.dir().join("haproxy.sock");
    eventually(CHANGE_TIMEOUT, "the proxy no longer sends to the old instance", || {
        ensure!(!is_sent_to(&socket, &id)?, "{id} still takes requests");
        Ok(())
    });
    fleet.wait(PAUSE);
    drop(old);
    let name = fleet.join(ONLY);
    eventually(CHANGE_TIMEOUT, "the new instance answers", || {
        let body = host.connect(80)?.get_of(&domain(), "/")?.good()?;
        ensure!(body == name, "{body:?} answers");
        Ok(())
    });
    away.end();
}

/// Whether the server `id` of any section is one that the running `HAProxy` sends requests to.
fn is_sent_to(socket: &Path, id: &str) -> anyhow::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"show servers state\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.contains("srv_name"), "the stats socket said {text:?}");
    Ok(text.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let state = fields.get(6).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        fields.get(3) == Some(&id) && state & MAINTENANCE == 0
    }))
}
