//! The words of HAProxy and nginx that the agent itself knows; everything else about a proxy is its plugin's.
//!
//! **A third proxy** works without any of this: a plugin renders its files, `check` and `reload` say how. Then a fault has
//! no line, so that the guilty service is found by bisection, new addresses are not tried before the reload, and a reload
//! counts as done when its command ends. What it has to bring here for more, each beside its two siblings:
//!
//! 1. a [`Program`], by the name of its executable, and the signal by which it reloads;
//! 2. how it names the line that it refuses ([`fault`]), and what tells that a check with exit code 0 failed;
//! 3. how its files ask for an address ([`binds`]);
//! 4. which lines of its output tell of a fault, and which say nothing ([`is_fault`], [`is_expected`], [`is_routine`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::signal::Signal;

#[cfg(test)]
mod tests;

/// A program that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// HAProxy, with a master process and workers.
    Haproxy,
    /// nginx, with a master process and workers.
    Nginx,
}

impl Program {
    /// The program that a command starts, by the last part of its path.
    pub fn of_command(program: &str) -> Option<Program> {
        match Path::new(program).file_name()?.to_str()? {
            "nginx" => Some(Program::Nginx),
            "haproxy" => Some(Program::Haproxy),
            _ => None,
        }
    }

    /// The program of a process, by its name in the kernel, which a program may have made longer.
    pub fn of_process(name: &str) -> Option<Program> {
        [("haproxy", Program::Haproxy), ("nginx", Program::Nginx)]
            .into_iter()
            .find(|(start, _)| name.starts_with(start))
            .map(|(_, program)| program)
    }

    /// The signal by which its master process reloads.
    pub const fn reload_signal(self) -> Signal {
        match self {
            Program::Haproxy => Signal::Usr2,
            // By USR1 nginx opens its logs again, by USR2 it starts a second nginx beside itself.
            Program::Nginx => Signal::Hup,
        }
    }
}

/// A line of a file that a check refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File, below the directory that was checked.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// Whether a check that ended with exit code 0 failed all the same: HAProxy 3.4 does so after some errors.
pub fn has_failed(stderr: &str) -> bool {
    stderr.contains("[ALERT]")
}

/// Reads a line that the check of the directory `dir` wrote; `dir` ends in `/`.
///
/// The first `DIR/PATH:LINE` counts, as HAProxy names after it what the fault clashes with; nginx says where it is last. A
/// warning is no fault.
pub fn fault(said: &str, dir: &str) -> Option<Fault> {
    if ["[WARNING]", "[NOTICE]", "[warn]", "[notice]"].iter().any(|level| said.contains(level)) {
        return None;
    }
    let mut starts: Vec<usize> = said.match_indices(dir).map(|(start, _)| start).collect();
    if said.contains("[emerg]") {
        starts.reverse();
    }
    starts.into_iter().find_map(|start| {
        let (path, rest) = said[start + dir.len()..].split_once(':')?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let line = rest[..digits].parse().ok().filter(|line| *line > 0)?;
        if path.is_empty() || path.contains(['[', ']', '\'', '"']) {
            return None;
        }
        let text = sentence(&said[..start], &rest[digits..]).replace(dir, "");
        Some(Fault { path: path.to_owned(), line, text })
    })
}

/// The words after a place (HAProxy), or those before it when there are none (nginx).
fn sentence(before: &str, after: &str) -> String {
    let after = after.trim_start_matches([']', ')', ':', ',', ' ']).trim();
    if after.chars().any(char::is_alphabetic) {
        return after.to_owned();
    }
    let before = before.trim_end_matches(['[', '(', '<', '"', '\'', ' ']);
    let before = before.strip_suffix(" in").or_else(|| before.strip_suffix(" at")).unwrap_or(before);
    let said = before.rsplit_once("] ").map_or(before, |(_, said)| said);
    // nginx puts `PID#THREAD: ` between the level and the words.
    let said = said.split_once(": ").filter(|(head, _)| head.contains('#')).map_or(said, |(_, said)| said);
    said.trim().to_owned()
}

/// Line (from 1), address, and whether it is for UDP, of every `bind ADDRESS:PORT[,…]` of HAProxy, and of every
/// `listen ADDRESS:PORT [udp] …;` of nginx's streams.
///
/// Listeners of nginx's http, in a file with server names, are left out: a server of the operator's may have the same.
pub fn binds(text: &str) -> Vec<(usize, SocketAddr, bool)> {
    let is_http = text.contains("server_name ") || text.contains(" default_server;");
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let (words, is_nginx) = line.trim_end().strip_suffix(';').map_or((line, false), |words| (words, true));
        let mut words = words.split_whitespace();
        let is_bind = match words.next() {
            Some("bind") => !is_nginx,
            Some("listen") => is_nginx && !is_http,
            _ => false,
        };
        let addresses = words.next().filter(|_| is_bind)?;
        Some((index + 1, addresses, words.any(|word| is_nginx && word == "udp")))
    });
    let each = |(line, addresses, udp): (usize, &'_ str, bool)| {
        addresses.split(',').filter_map(address).map(|address| (line, address, udp)).collect::<Vec<_>>()
    };
    lines.flat_map(each).collect()
}

/// `*:80`, `:80`, `10.0.0.1:80`, `[::]:80`; other forms (names, sockets, ranges) are left to the proxy.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host: IpAddr = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "*" | "0.0.0.0" => Ipv4Addr::UNSPECIFIED.into(),
        "::" => Ipv6Addr::UNSPECIFIED.into(),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(host, port.parse().ok()?))
}

/// Whether a line of a proxy's output tells of a fault.
pub fn is_fault(line: &str) -> bool {
    line.contains("[ALERT]") || line.contains("[emerg]")
}

/// Whether a fault only follows from what Waypost did: HAProxy reports one when the last server of a section leaves, and
/// when a worker ends by the signal to stop.
pub fn is_expected(line: &str) -> bool {
    line.contains(" has no server available!") || line.ends_with(" exited with code 143 (Terminated)")
}

/// What HAProxy says of every section that an old worker ends, and of itself.
pub fn is_routine(line: &str) -> bool {
    (line.contains(" Proxy ") && line.contains(" stopped (cumulated conns: "))
        || (line.starts_with("[NOTICE]")
            && (line.contains(" haproxy version is ") || line.contains(" path to executable is ")))
}
