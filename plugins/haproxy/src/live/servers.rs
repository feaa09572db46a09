//! Plans the commands for the servers of one section.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::answers::{ServerState, Servers};
use super::lines::is_plain;
use crate::names::{Endpoint, SLOT};
use crate::server::{DEFAULT_SERVER, Server, check};
use crate::settings::Settings;

/// What the process can change about servers, given its version and the operator's lines.
pub(super) struct Abilities {
    /// Whether servers can be added and deleted (HAProxy 2.6).
    pub(super) is_dynamic: bool,
    version: (u32, u32),
    /// Whether backends can be added (HAProxy 3.4), and the operator wants that.
    pub(super) adds_backends: bool,
    /// Words that a server of the file has by `default-server` and by its line, with a space before each word.
    words: String,
    /// Whether these words ask for checks.
    is_checked: bool,
    /// The weight of a server that names none.
    weight: u16,
}

/// Algorithms of HAProxy that accept new servers and weights at run time.
const DYNAMIC: [&str; 4] = ["roundrobin", "leastconn", "random", "first"];

impl Abilities {
    /// Determines the abilities. `add server` ignores `default-server`, so it needs those words as well.
    ///
    /// # Errors
    /// The operator's lines have words that the socket does not accept.
    pub(super) fn of(settings: &Settings, version: (u32, u32)) -> Result<Self, String> {
        let mut words = format!(" {DEFAULT_SERVER}");
        for line in &settings.defaults_lines {
            let mut fragments = line.0.split_whitespace();
            match fragments.next() {
                Some("balance" | "hash-type") if !fragments.next().is_some_and(is_dynamic) => {
                    return Err(format!("with {:?}, servers cannot come and go at run time", line.0));
                }
                Some("default-server") => {
                    for word in fragments {
                        if !word.bytes().all(is_plain) || matches!(word, "disabled" | "enabled" | "init-addr") {
                            return Err(format!("{:?} cannot be said to a running HAProxy", line.0));
                        }
                        words = format!("{words} {word}");
                    }
                }
                _ => {}
            }
        }
        words += &check(settings);
        let last = |names: [&str; 2]| words.split(' ').rfind(|word| names.contains(word));
        let weight = words.rsplit_once(" weight ").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
        Ok(Abilities {
            is_dynamic: version >= (2, 6),
            version,
            adds_backends: version >= (3, 4) && settings.dynamic_backends,
            is_checked: last(["check", "no-check"]) == Some("check"),
            weight: weight.and_then(|weight| weight.parse().ok()).unwrap_or(1),
            words,
        })
    }
}

fn is_dynamic(algorithm: &str) -> bool {
    DYNAMIC.contains(&algorithm.split('(').next().unwrap_or_default()) || algorithm == "consistent"
}

/// Commands, in groups that belong on one line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// These go first, so that an address is free before another server takes it.
    pub(super) removals: Vec<String>,
    pub(super) additions: Vec<String>,
}

/// Compares the running servers of `section` with the desired ones. `leaving` are the ids that the service had before.
///
/// # Errors
/// Names what HAProxy cannot change at run time.
pub(super) fn steps(
    abilities: &Abilities,
    section: &str,
    desired: &[Server],
    running: &Servers,
    leaving: &BTreeSet<&str>,
) -> Result<Steps, String> {
    let ids: BTreeSet<&str> = desired.iter().map(|server| server.id.as_str()).collect();
    let mut steps = Steps::default();
    for (name, server) in running.iter().filter(|(name, _)| !ids.contains(name.as_str()) && !name.starts_with(SLOT)) {
        steps.removals.extend(remove(abilities, &format!("{section}/{name}"), server, leaving.contains(name.as_str())));
    }
    let mut slots: Vec<(&String, &ServerState)> = running.iter().filter(|(name, _)| name.starts_with(SLOT)).collect();
    for server in desired {
        let full = format!("{section}/{}", server.id);
        match running.get(&server.id) {
            Some(running) => steps.additions.extend(adjust(abilities, &full, server, running)?),
            // The file has it; it gets nothing new anyway.
            None if server.endpoint.is_name && server.weight == Some(0) => {}
            None if server.endpoint.is_name => {
                return Err(format!("the host name {} has to be looked up", server.endpoint.host));
            }
            None if abilities.is_dynamic => steps.additions.push(add(abilities, &full, server)),
            None => {
                let slot = slot(&mut slots, server).ok_or("it cannot add servers, and no slot is free")?;
                steps.additions.extend(adjust(abilities, &format!("{section}/{}", slot.0), server, slot.1)?);
            }
        }
    }
    let used = slots.into_iter().filter(|(_, slot)| !slot.is_out());
    steps.removals.extend(used.map(|(name, _)| format!("set server {section}/{name} state maint")));
    Ok(steps)
}

/// Removes a server. Maintenance stops new connections and checks at once. HAProxy cannot delete a server with open
/// connections: it stays in maintenance, and a later change deletes it when no connection is open.
fn remove(abilities: &Abilities, full: &str, server: &ServerState, is_leaving: bool) -> Option<String> {
    match (server.is_out(), abilities.is_dynamic) {
        (false, true) => Some(format!("set server {full} state maint; del server {full}")),
        (false, false) => Some(format!("set server {full} state maint")),
        (true, true) if !is_leaving && !server.busy => Some(format!("del server {full}")),
        (true, _) => None,
    }
}

/// Adds a server, which HAProxy starts in maintenance and without checks.
fn add(abilities: &Abilities, full: &str, server: &Server) -> String {
    let weight = server.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
    let health = if abilities.is_checked { format!("enable health {full}; ") } else { String::new() };
    let Abilities { words, .. } = abilities;
    format!("add server {full} {}{words}{weight}; {health}enable server {full}", server.endpoint)
}

/// Takes a slot out of `slots`: the one that serves the instance already, or else a free one.
fn slot<'a>(slots: &mut Vec<(&'a String, &'a ServerState)>, server: &Server) -> Option<(&'a String, &'a ServerState)> {
    let same = slots.iter().position(|(_, slot)| !slot.is_out() && is_at(slot, server));
    let index = same.or_else(|| slots.iter().position(|(_, slot)| slot.is_out() && !slot.is_used))?;
    Some(slots.remove(index))
}

/// Returns whether a running server serves one of the desired ones.
pub(super) fn is_desired(desired: &[Server], name: &str, running: &ServerState) -> bool {
    desired.iter().any(|server| {
        let host = &server.endpoint.host;
        let is_there = running.host.as_ref().map_or_else(|| is_at(running, server), |name| name == host);
        is_there && (server.id == name || name.starts_with(SLOT))
    })
}

fn is_at(running: &ServerState, server: &Server) -> bool {
    running.address == server.endpoint.host.parse::<IpAddr>().ok() && running.port == server.endpoint.port
}

/// Changes what differs about a running server.
fn adjust(abilities: &Abilities, full: &str, server: &Server, running: &ServerState) -> Result<Option<String>, String> {
    let endpoint = &server.endpoint;
    let host = endpoint.is_name.then_some(&endpoint.host);
    if running.host.as_ref() != host || running.has_check() != abilities.is_checked {
        if endpoint.is_name || !abilities.is_dynamic || (running.is_out() && running.busy) {
            return Err(format!("the server {full} has to be made anew"));
        }
        let add = add(abilities, full, server);
        return Ok(Some(format!("set server {full} state maint; del server {full}; {add}")));
    }
    let mut said = Vec::new();
    let has_moved = if endpoint.is_name { running.port != endpoint.port } else { !is_at(running, server) };
    if has_moved && endpoint.is_name {
        return Err(format!("the port of the host name {} changed", endpoint.host));
    }
    if has_moved {
        // What its checks found at the old address must not count at the new one: out of maintenance it starts as up.
        let Endpoint { host, port, .. } = endpoint;
        said.push(format!("set server {full} state maint; set server {full} addr {host} port {port}"));
    }
    let weight = server.weight.unwrap_or(abilities.weight);
    if running.weight != weight {
        said.push(format!("set server {full} weight {weight}"));
    }
    if abilities.is_checked && !running.is_checked() {
        said.push(format!("enable health {full}"));
    }
    // HAProxy 3.4 changes the address a moment after its answer, 2.6 at once. Until then requests would go to whoever has
    // the old one now, so the next round, which sees the new one, takes the server back.
    let moves_late = abilities.version >= (2, 8);
    if (has_moved && !moves_late) || (!has_moved && running.is_forced()) {
        said.push(format!("set server {full} state ready"));
    }
    Ok((!said.is_empty()).then(|| said.join("; ")))
}
