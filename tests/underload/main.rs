//! How many requests are lost under constant load while proxies are reloaded and what they route to changes.
//!
//! ```text
//! cargo build && cargo run --release -p waypost-tests --bin under-load -- --reloads 1000 --changes 10000 --redeploys 1000
//! ```
//!
//! Runs as root (it makes namespaces) and needs what `tests/run` installs. Clients on one host ask `HAProxy` on another, which
//! the agent supervises, at a constant rate: half over connections that they keep, half over a new one each time. Every
//! request is counted as answered, failed, reset, refused, late or answered by the wrong service. Local servers take the part
//! of containers: each listens before it is registered, and goes on after it was taken out until the proxy no longer
//! knows it, for two seconds at least; a smaller part has real containers. Redeploys of an only instance leave a service
//! without any for a moment, in which 503 is right and counted as away. Plain restarts of the same proxy show that the
//! counter can see. It ends with 1 when something was lost, or when the restarts lost nothing.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use harness::underload::{Course, Row, containers, haproxy, nginx, redeploys, table};

/// Counts lost requests over reloads and changes, under load.
#[derive(Parser)]
struct Arguments {
    /// Reloads of HAProxy, forced one after the other
    #[arg(long, default_value_t = 20)]
    reloads: usize,
    /// Endpoints that join, leave, move or change their weight
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Changes a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pace: u32,
    /// Plain restarts of HAProxy, which have to lose something
    #[arg(long, default_value_t = 5)]
    restarts: usize,
    /// Reloads of nginx
    #[arg(long, default_value_t = 20)]
    nginx_reloads: usize,
    /// Real containers that are replaced
    #[arg(long, default_value_t = 4)]
    containers: usize,
    /// Times that the only instance of a service is replaced, over the stats socket in any case
    #[arg(long, default_value_t = 10)]
    redeploys: usize,
    /// Services of local servers
    #[arg(long, default_value_t = 10)]
    services: usize,
    /// Servers of each service, to begin with
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// Requests a second
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Clients that keep their connection
    #[arg(long, default_value_t = 8)]
    keep_alive: usize,
    /// Clients that open a connection for each request
    #[arg(long, default_value_t = 8)]
    fresh: usize,
    /// Let the agent change the running HAProxy over its socket
    #[arg(long)]
    live: bool,
    /// For programs: one JSON array
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let course = arguments.course();
    let mut rows = Vec::new();
    if course.reloads + course.changes + course.restarts > 0 {
        rows.extend(haproxy(&course));
    }
    if course.containers > 0 {
        rows.push(containers(&course));
    }
    if course.redeploys > 0 {
        rows.extend(redeploys(&course));
    }
    if course.nginx_reloads > 0 {
        rows.push(nginx(&course));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows.iter().map(Row::json).collect::<Vec<_>>())?);
    } else {
        println!("{}", table(&rows));
        for row in rows.iter().filter(|row| !row.control) {
            println!("{}: {}", row.what, row.tally);
            row.tally.losses.iter().for_each(|loss| println!("  {loss}"));
        }
    }
    let as_expected = rows.iter().all(|row| (row.tally.lost() > 0) == row.control && row.tally.answered > 0);
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn course(&self) -> Course {
        Course {
            reloads: self.reloads,
            changes: self.changes,
            pace: self.pace,
            restarts: self.restarts,
            nginx_reloads: self.nginx_reloads,
            containers: self.containers,
            redeploys: self.redeploys,
            services: self.services,
            instances: self.instances,
            rate: self.rate,
            keep_alive: self.keep_alive,
            fresh: self.fresh,
            live: self.live,
        }
    }
}
