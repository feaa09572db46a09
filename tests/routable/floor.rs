//! The floor: what a start has to go through at least, written down without anything else.
//!
//! Docker event, inspection, etcd put; etcd watch, one file, one signal to `HAProxy`, or one line on its stats socket
//! ([`live`]). Nothing is checked, retried, ordered, leased, synced to disk or taken over; the file says of each
//! container what the agent's says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bollard::query_parameters::EventsOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use etcd_client::{Client, EventType, WatchOptions};
use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};

mod live;

const PREFIX: &str = "/floor/";
/// Seconds that Docker may take to answer.
const PATIENCE: u64 = 120;

/// Where everything is.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// Docker's socket
    #[arg(long)]
    docker: String,
    /// URL of etcd
    #[arg(long)]
    etcd: String,
    /// Address of this host
    #[arg(long)]
    address: String,
    /// Directory of `HAProxy`'s file
    #[arg(long)]
    dir: PathBuf,
    /// Speak to `HAProxy` on its stats socket instead of reloading it
    #[arg(long)]
    live: bool,
}

/// Registers containers and routes to them until it is killed.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let etcd = Client::connect([&options.etcd], None).await?;
    let docker = Docker::connect_with_unix(&options.docker, PATIENCE, API_DEFAULT_VERSION)?;
    let register = register(&docker, etcd.clone(), &options.address);
    if options.live {
        tokio::try_join!(live::route(etcd, &options.dir), register).map(|_| ())
    } else {
        tokio::try_join!(route(etcd, options.dir.join("haproxy.cfg")), register).map(|_| ())
    }
}

async fn register(docker: &Docker, mut etcd: Client, address: &str) -> Result<()> {
    let wanted = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = [("type".to_owned(), wanted(&["container"])), ("event".to_owned(), wanted(&["start", "die"]))];
    let mut events = docker.events(Some(EventsOptions { filters: Some(filters.into()), ..EventsOptions::default() }));
    while let Some(event) = events.next().await {
        let event = event?;
        let id = event.actor.and_then(|actor| actor.id).context("an event without a container")?;
        let key = format!("{PREFIX}{}", &id[..12]);
        if event.action.as_deref() == Some("start") {
            let (domain, port) = inspect(docker, &id).await?;
            etcd.put(key, format!("{domain} {address}:{port}"), None).await?;
        } else {
            etcd.delete(key, None).await?;
        }
    }
    Ok(())
}

/// Domain and published port of a container.
async fn inspect(docker: &Docker, id: &str) -> Result<(String, String)> {
    let found = docker.inspect_container(id, None).await?;
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    let ports = found.network_settings.and_then(|network| network.ports).unwrap_or_default();
    let binding = ports.into_values().flatten().flatten().next();
    let port = binding.and_then(|binding| binding.host_port).context("no published port")?;
    Ok((labels.get("waypost.domain").context("no domain")?.clone(), port))
}

async fn route(mut etcd: Client, path: PathBuf) -> Result<()> {
    let mut known = BTreeMap::new();
    write(&path, &known)?;
    let haproxy = Command::new("haproxy").arg("-W").arg("-f").arg(&path).spawn().context("haproxy")?;
    let master = Pid::from_child(&haproxy);
    let mut stream = etcd.watch(PREFIX, Some(WatchOptions::new().with_prefix())).await?;
    while let Some(message) = stream.message().await? {
        for event in message.events() {
            let kv = event.kv().context("an event without a key")?;
            let id = kv.key_str()?.trim_start_matches(PREFIX).to_owned();
            match event.event_type() {
                EventType::Put => _ = known.insert(id, kv.value_str()?.to_owned()),
                EventType::Delete => _ = known.remove(&id),
            }
        }
        if !message.events().is_empty() {
            write(&path, &known)?;
            kill_process(master, Signal::USR2)?;
        }
    }
    Ok(())
}

/// What the agent's own file says, of containers whose `waypost.service` is the first label of their domain.
fn write(path: &Path, known: &BTreeMap<String, String>) -> Result<()> {
    let mut text = BASE.to_owned();
    let domain = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    for (id, value) in known {
        writeln!(text, "    use_backend {id} if {{ hdr(host) -i {} }}", domain(value))?;
    }
    for (id, value) in known {
        let address = value.split(' ').nth(1).context("no address")?;
        write!(text, "\nbackend {id}\n    server {id} {address} check inter 2s rise 3 fall 2\n")?;
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}

const BASE: &str = "global
    hard-stop-after 1h

defaults
    mode http
    balance roundrobin
    retries 3
    option redispatch 1
    default-server fastinter 200ms downinter 500ms
    timeout connect 5s
    timeout client 1m
    timeout server 1m

frontend http-in
    bind *:80
    option idle-close-on-response
    option forwardfor
";
