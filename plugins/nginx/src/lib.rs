//! Writes services down as nginx's configuration.
//!
//! `http.conf` is for an `http` block: one `upstream` for each http service, one `server` for each domain, one
//! `location` for each path. `stream.conf` is for a `stream` block: one `upstream` and one `server` for each port.
//! `nginx.conf` is a whole configuration of both, to check candidates and to run.
//!
//! Whatever only one service can have is a part of its own, keyed by that thing and naming the service in its text:
//! the name of an upstream, a port, a domain and path. Services that share a domain give the same first and last lines
//! of its `server` block, and the keys put their locations between.

mod frame;
mod http;
mod lines;
mod members;
pub mod names;
pub mod settings;
mod stream;
#[cfg(test)]
mod tests;

use waypost_plugin_sdk::{Node, Part, Plugin, PluginError, Rendering, Service, log, refuse, show};

use members::Tcp;
pub use settings::Settings;
use stream::Protocol;

/// A whole configuration, which includes the others.
pub const MAIN: &str = "nginx.conf";
/// What belongs into an `http` block.
pub const HTTP: &str = "http.conf";
/// What belongs into a `stream` block.
pub const STREAM: &str = "stream.conf";

/// The plugin.
pub struct Nginx;

impl Plugin for Nginx {
    type Settings = Settings;
    const NAME: &'static str = "nginx";
    const SUMMARY: &'static str = "nginx: http services by domain and path, tcp and udp services on their own ports.";
    const SCHEMA: &'static str = include_str!("settings.json");
}

/// The parts that are there whatever the services: the whole configuration, and the server for unknown domains.
///
/// # Errors
/// None today.
pub fn frame(settings: &Settings, _node: &Node) -> Result<Vec<Part>, PluginError> {
    Ok(frame::parts(settings))
}

/// The parts of one service; none when no instance speaks http, tcp or udp.
///
/// # Errors
/// `invalid-input` when nginx cannot carry the service: its name, a missing or taken port, a missing domain. A bad
/// instance is logged and left out.
pub fn render(settings: &Settings, _node: &Node, service: &Service) -> Result<Rendering, PluginError> {
    Ok(Rendering { parts: parts(settings, service)?, claims: Vec::new() })
}

fn parts(settings: &Settings, service: &Service) -> Result<Vec<Part>, PluginError> {
    let members = members::select(settings, service);
    let refused = |reason: String| format!("service {}: {reason}", show(&service.name));
    let tcp = match &members.tcp {
        Tcp::Http(servers) => Some(http::parts(settings, service, servers)),
        Tcp::Plain(servers) => Some(stream::parts(settings, service, Protocol::Tcp, servers)),
        Tcp::None => None,
    };
    let udp = match members.udp.as_slice() {
        [] => None,
        servers => Some(stream::parts(settings, service, Protocol::Udp, servers)),
    };
    match (tcp, udp) {
        (Some(Ok(mut parts)), Some(Ok(udp))) => {
            parts.extend(udp);
            Ok(parts)
        }
        // A port that only some of the containers' clients use does not cost the others theirs.
        (Some(Ok(parts)), Some(Err(reason))) => {
            log::warn(&refused(format!("its udp side is left out: {reason}")));
            Ok(parts)
        }
        (Some(Ok(parts)), None) | (None, Some(Ok(parts))) => Ok(parts),
        (Some(Err(reason)), _) | (None, Some(Err(reason))) => refuse(refused(reason)),
        (None, None) => Ok(Vec::new()),
    }
}

/// A part of a file.
fn part(path: &str, key: impl Into<String>, text: impl Into<String>) -> Part {
    Part { path: path.to_owned(), key: key.into(), text: text.into() }
}

/// Says that an instance is left out, and why.
fn leave_out(service: &Service, id: &str, reason: &str) {
    log::warn(&format!("service {} instance {} is left out: {reason}", show(&service.name), show(id)));
}

waypost_plugin_sdk::output!(Nginx, frame, render);
