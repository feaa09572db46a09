//! The floor without reloads: standby backends, and one line on the stats socket for each event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use etcd_client::{Client, EventType, WatchOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::PREFIX;

/// Services that there is room for.
const BACKENDS: usize = 500;

/// Servers by id: backend and domain.
type Known = BTreeMap<String, (usize, String)>;

pub(super) async fn route(mut etcd: Client, dir: &Path) -> Result<()> {
    let (file, map, socket) = (dir.join("haproxy.cfg"), dir.join("routes.map"), dir.join("haproxy.sock"));
    std::fs::write(&map, "")?;
    std::fs::write(&file, configuration(&map, &socket)?)?;
    let _haproxy = Command::new("haproxy").arg("-W").arg("-f").arg(&file).spawn().context("haproxy")?;
    let mut known = Known::new();
    let mut next = 0;
    let mut stream = etcd.watch(PREFIX, Some(WatchOptions::new().with_prefix())).await?;
    while let Some(message) = stream.message().await? {
        for event in message.events() {
            let kv = event.kv().context("an event without a key")?;
            let id = kv.key_str()?.trim_start_matches(PREFIX).to_owned();
            let line = match event.event_type() {
                EventType::Put => {
                    let (domain, address) = kv.value_str()?.split_once(' ').context("no address")?;
                    let there = known.values().find(|(_, other)| other == domain).map(|(backend, _)| *backend);
                    next += usize::from(there.is_none());
                    let backend = there.unwrap_or(next);
                    known.insert(id.clone(), (backend, domain.to_owned()));
                    let route = if there.is_none() {
                        format!(";add map {} {domain} standby-{backend}", map.display())
                    } else {
                        String::new()
                    };
                    let server = format!("standby-{backend}/{id}");
                    format!(
                        "add server {server} {address} check inter 2s rise 3 fall 2;enable server {server};enable health {server}{route}"
                    )
                }
                EventType::Delete => {
                    let Some((backend, domain)) = known.remove(&id) else { continue };
                    let server = format!("standby-{backend}/{id}");
                    let route = if known.values().any(|(_, other)| *other == domain) {
                        String::new()
                    } else {
                        format!(";del map {} {domain}", map.display())
                    };
                    format!("disable server {server};del server {server}{route}")
                }
            };
            say(&socket, &line).await?;
        }
    }
    Ok(())
}

async fn say(socket: &Path, line: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

fn configuration(map: &Path, socket: &Path) -> Result<String> {
    let (head, front) = super::BASE.split_once("\n\n").context("a base of sections")?;
    let mut text = format!("{head}\n    stats socket {} mode 660 level admin\n\n{front}", socket.display());
    writeln!(text, "    use_backend %[req.hdr(host),field(1,:),lower,map({})]", map.display())?;
    for backend in 1..=BACKENDS {
        write!(text, "\nbackend standby-{backend}\n")?;
    }
    Ok(text)
}
