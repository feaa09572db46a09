//! What a proxy loses under constant load while it is reloaded and its servers change. `under-load` makes long runs of it,
//! the scenarios short ones.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::load::{LoadOptions, Tally};
use crate::sections::TELLS;
use crate::{Agent, Etcd, Host, agent_section, etcd_section};

mod containers;
mod haproxy;
mod nginx;
mod redeploys;

pub use containers::containers;
pub use haproxy::haproxy;
pub use nginx::nginx;
pub use redeploys::redeploys;

/// Ports on which the proxy begins to listen in turns, each of which needs a reload.
const FORCED: [u16; 2] = [20_000, 20_001];

/// How much of what.
#[derive(Clone, Debug)]
pub struct Course {
    /// Reloads that are forced one after the other, each confirmed by the agent.
    pub reloads: usize,
    /// Endpoints that join, leave, move or change their weight.
    pub changes: usize,
    /// Changes a second.
    pub pace: u32,
    /// Times that `HAProxy` is plainly restarted, to show that losses are seen.
    pub restarts: usize,
    /// Reloads of nginx.
    pub nginx_reloads: usize,
    /// Real containers that are replaced one after the other.
    pub containers: usize,
    /// Times that the only instance of a service is replaced.
    pub redeploys: usize,
    /// Services of local servers.
    pub services: usize,
    /// Servers of each service.
    pub instances: usize,
    /// Requests a second.
    pub rate: u32,
    /// Clients that keep their connection.
    pub keep_alive: usize,
    /// Clients that open a connection for each request.
    pub fresh: usize,
    /// Whether the agent changes the running `HAProxy` over its socket.
    pub live: bool,
}

impl Course {
    /// Its clients, all of them at one address.
    fn load(&self, address: (Ipv4Addr, u16), domains: Vec<String>) -> LoadOptions {
        let options = LoadOptions::new(address.into(), domains);
        LoadOptions { keep_alive: self.keep_alive, fresh: self.fresh, rate: self.rate, ..options }
    }
}

/// The configuration of an agent that has no containers: what it routes to is registered by a fleet.
fn alone(host: &Host, etcd: &Etcd<'_>, output: &str) -> String {
    // No agent stands for the fleet's servers, so that many which leave within a short time would be preserved.
    let alone = "register = false\n[discover]\nself-preservation = false\n";
    [&agent_section(host), alone, &etcd_section(etcd, "15s"), output].concat()
}

/// Further keys of an output `haproxy`: the agent changes the running proxy over a socket in the host's directory.
fn live(host: &Host) -> String {
    let socket = host.dir().join("haproxy.sock");
    let socket = socket.display();
    format!("live = {{ socket = \"{socket}\" }}\nsettings = {{ socket = \"{socket}\", {TELLS} }}\n")
}

/// How often the agent's proxy has reloaded, and whether it runs what was written last.
fn state(agent: &Agent<'_>) -> anyhow::Result<(u64, bool)> {
    let report = agent.report()?;
    let outputs = report["outputs"].as_object().context("no outputs")?;
    let output = outputs.values().next().context("no output yet")?;
    let reloads = output["reloads"].as_u64().context("no count of reloads")?;
    Ok((reloads, output["settled"] == true))
}

/// What one part of a run came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which part.
    pub what: &'static str,
    /// Whether it has to lose something, to show that losses are seen.
    pub control: bool,
    /// Reloads, changes, restarts or replacements that were asked for.
    pub steps: usize,
    /// Reloads that the proxy made meanwhile, where they are counted.
    pub reloads: Option<u64>,
    /// How long it took.
    pub time: Duration,
    /// The requests.
    pub tally: Tally,
}

impl Row {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({"part": self.what, "steps": self.steps, "reloads": self.reloads, "seconds": self.time.as_secs_f64(),
            "requests": self.tally.json()})
    }
}

/// A table for people.
pub fn table(rows: &[Row]) -> String {
    let heads = [
        "part", "steps", "reloads", "time", "requests", "away", "lost", "failed", "reset", "refused", "late", "astray",
        "repeated",
    ];
    let mut text = String::new();
    _ = write!(text, "{:<34}", heads[0]);
    heads[1..].iter().for_each(|head| _ = write!(text, "{head:>10}"));
    for Row { what, steps, reloads, time, tally, .. } in rows {
        let reloads = reloads.map_or("-".to_owned(), |count| count.to_string());
        _ = write!(text, "\n{what:<34}{steps:>10}{reloads:>10}{:>9.1}s", time.as_secs_f64());
        let Tally { failed, reset, refused, timed_out, astray, repeated, .. } = *tally;
        [tally.sent(), tally.away, tally.lost(), failed, reset, refused, timed_out, astray, repeated]
            .iter()
            .for_each(|count| _ = write!(text, "{count:>10}"));
    }
    text
}
