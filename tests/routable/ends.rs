//! When a container's server has left a running `HAProxy`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Result, ensure};
use harness::{CHANGE_TIMEOUT, Host};

use crate::EVERY;

/// Bits of a server's administrative state that say maintenance (HAProxy's management guide, `show servers state`).
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x20;

/// The stats socket of the `HAProxy` whose files are in the directory `name` of a host.
pub(crate) fn socket(host: &Host, name: &str) -> PathBuf {
    host.dir().join(name).join("haproxy.sock")
}

/// The time at which no server of this name takes connections any more.
pub(crate) fn gone(host: &Host, id: &str) -> Result<SystemTime> {
    let ours = socket(host, "proxy");
    let socket = if ours.exists() { ours } else { host.dir().join("haproxy.sock") };
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    while takes(&socket, id)? {
        ensure!(Instant::now() < deadline, "server {id} is still there after {CHANGE_TIMEOUT:?}");
        std::thread::sleep(EVERY);
    }
    Ok(SystemTime::now())
}

fn takes(socket: &Path, id: &str) -> Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"show servers state\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let state = fields.get(6).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        fields.get(3).is_some_and(|name| name.contains(id)) && state & MAINTENANCE == 0
    }))
}
