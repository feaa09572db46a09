//! How long a change in the registry takes until a running `HAProxy` has it, live and by reload, in fleets of different
//! sizes; what it costs the agent; and the same commands sent by hand.
//!
//! ```text
//! cargo build --release && cargo run --release -p waypost-tests --bin change-to-effect
//! ```
//!
//! Runs as root (it makes namespaces) and needs what `tests/run` installs. One host has etcd, an agent that only
//! discovers, and the `HAProxy` that it supervises, without checks of servers that are not there. A change is one
//! more instance of a service; it has taken effect when the stats socket shows its server. `start` is what the agent
//! spent before: it decoded and rendered everything, and asked the proxy about everything.

#![allow(clippy::disallowed_methods)] // it measures wall time, and lets the files follow before it measures the next

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use harness::{Agent, Etcd, Host, Network, agent_section, etcd_section, haproxy_section};

mod drive;

/// Clock ticks of a second in `/proc/PID/stat` (`sysconf(_SC_CLK_TCK)`, 100 on every Linux that there is).
const TICKS: f64 = 100.0;
/// How long an agent at rest is watched, and the seconds that it may spend meanwhile.
const REST: Duration = Duration::from_secs(2);
const RESTS: f64 = 0.02;

/// Measures change to effect in fleets of different sizes.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Instances in the fleet, of 17 in each service
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000,172000")]
    sizes: Vec<usize>,
    /// Changes at each size
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// Only what goes live
    #[arg(long)]
    only_live: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Fills etcd and changes it, on the host; started by this one
    #[command(hide = true)]
    Drive(drive::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::Drive(options)) = &arguments.role {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(drive::run(options));
    }
    println!("times in milliseconds: p50, p99, longest; processor time of the agent for each change, files included");
    println!("{:>9} {:<8} {:>8} {:>8} {:>8} {:>10}", "instances", "way", "p50", "p99", "max", "processor");
    for size in &arguments.sizes {
        for live in [true, false] {
            if live || !arguments.only_live {
                measure(*size, arguments.changes, live)?;
            }
        }
    }
    Ok(())
}

fn measure(size: usize, changes: usize, live: bool) -> Result<()> {
    let lab = Network::new();
    let host = lab.hub();
    let etcd = lab.etcd();
    drive(host, &etcd, &["--fill", &size.to_string()])?;
    let mut agent = Agent::start(host, "agent", &configuration(host, &etcd, live));
    agent.logs(&["proxy reloaded"]);
    let (all, changed) = (size.to_string(), changes.to_string());
    drive(host, &etcd, &["--size", &all])?;
    let before = rested(agent.id())?;
    if live {
        println!("{size:>9} {:<8} {:>37.0}", "start", before * 1000.0);
    }
    let measured = drive(host, &etcd, &["--size", &all, "--changes", &changed])?;
    let spent = (processor_time(agent.id())? - before) * 1000.0 / f64::from(u32::try_from(changes)?);
    println!("{size:>9} {:<8} {measured} {spent:>10.2}", if live { "live" } else { "reload" });
    if live {
        let by_hand = drive(host, &etcd, &["--size", &all, "--changes", &changed, "--by-hand"])?;
        println!("{size:>9} {:<8} {by_hand}", "by hand");
    }
    agent.stop();
    Ok(())
}

/// Waits until a process has nothing to do any more; gives what it spent until then. An agent that has brought up a proxy
/// asks it about everything first.
fn rested(pid: u32) -> Result<f64> {
    let mut spent = processor_time(pid)?;
    loop {
        std::thread::sleep(REST);
        let now = processor_time(pid)?;
        if now - spent <= RESTS {
            return Ok(now);
        }
        spent = now;
    }
}

/// Seconds that a process spent, in itself and in the kernel; not those of what it started.
fn processor_time(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(") ").context("a name")?.1.split(' ').collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a field")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

fn configuration(host: &Host, etcd: &Etcd<'_>, live: bool) -> String {
    let socket = host.dir().join("haproxy.sock");
    let how = if live { format!("live = {{ socket = \"{}\" }}\n", socket.display()) } else { String::new() };
    let settings =
        format!("settings = {{ socket = \"{}\", check = false, http-bind = \"*:8080\" }}\n", socket.display());
    let agent = agent_section(host) + "register = false\n";
    [&agent, &etcd_section(etcd, "15s"), &haproxy_section(host), "timeout = \"2m\"\n", &how, &settings].concat()
}

/// Runs this program again, where etcd and the agent are.
fn drive(host: &Host, etcd: &Etcd<'_>, arguments: &[&str]) -> Result<String> {
    let mut command = host.command(std::env::current_exe()?);
    command.arg("drive").args(["--etcd", &etcd.url()]).arg("--socket").arg(host.dir().join("haproxy.sock"));
    let done = command.args(arguments).stdin(Stdio::null()).output().context("it runs again")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
