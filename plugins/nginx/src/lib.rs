//! Writes services down as nginx's configuration.
//!
//! `http.conf` is for an `http` block: one `upstream` for each http service, one `server` for each domain, one
//! `location` for each path. `stream.conf` is for a `stream` block: one `upstream` and one `server` for each port.
//! `nginx.conf` is a whole configuration of both, to check candidates and to run.
//!
//! Whatever only one service can have is claimed, and is a part of its own, keyed by that thing: the name of an
//! upstream, a port, a domain and path. Services that share a domain give the same first and last lines of its `server`
//! block, and the keys put their locations between.

mod base;
mod claims;
mod http;
mod lines;
mod members;
pub mod names;
mod server;
pub mod settings;
mod stream;
#[cfg(test)]
mod tests;

use waypost_plugin_sdk::{Fragment, Node, Plugin, PluginError, Rendering, Service, log, refuse, show};

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

/// The fragments that are there whatever the services: the whole configuration, and the server for unknown domains.
///
/// # Errors
/// None today.
pub fn base(settings: &Settings, _node: &Node) -> Result<Vec<Fragment>, PluginError> {
    Ok(base::fragments(settings))
}

/// The fragments of one service, and its claims; none when no instance speaks http, tcp or udp.
///
/// # Errors
/// `invalid-input` when nginx cannot carry the service: its name, a missing or taken port, a missing domain, or all that
/// leads to it is denied. A bad instance, or one side of a service that has another, is logged and left out.
pub fn render(settings: &Settings, _node: &Node, service: &Service) -> Result<Rendering, PluginError> {
    let members = members::select(settings, service);
    let tcp = match &members.tcp {
        Tcp::Http(servers) => Some(http::side(settings, service, servers)),
        Tcp::Plain(servers) => Some(stream::side(settings, service, Protocol::Tcp, servers)),
        Tcp::None => None,
    };
    let udp = match members.udp.as_slice() {
        [] => None,
        servers => Some(stream::side(settings, service, Protocol::Udp, servers)),
    };
    if settings.default_service.as_ref() == Some(&service.name) && !matches!(members.tcp, Tcp::Http(_)) {
        log::warn(&format!(
            "service {} does not speak http and answers no unknown domain, though the setting `default-service` names it",
            show(&service.name)
        ));
    }
    let sides =
        [("tcp", tcp), ("udp", udp)].map(|(name, side)| (name, side.map(|side| side.unwrap_or_else(Side::refused))));
    together(service, sides.into_iter().filter_map(|(name, side)| Some((name, side?))).collect())
}

/// What a service is by one transport.
struct Side {
    /// What only one service can have, whatever this one is denied.
    claims: Vec<String>,
    /// Its fragments, or why it has none.
    fragments: Result<Vec<Fragment>, String>,
}

impl Side {
    fn refused(reason: String) -> Side {
        Side { claims: Vec::new(), fragments: Err(reason) }
    }
}

/// A port that only some of the containers' clients use does not cost the others theirs: a side that cannot be carried is left
/// out as long as there is another.
fn together(service: &Service, sides: Vec<(&str, Side)>) -> Result<Rendering, PluginError> {
    let carried = sides.iter().any(|(_, side)| side.fragments.is_ok());
    let mut rendering = Rendering::default();
    for (name, side) in sides {
        rendering.claims.extend(side.claims);
        match side.fragments {
            Ok(fragments) => rendering.fragments.extend(fragments),
            Err(reason) if carried => {
                log::warn(&format!("service {}: its {name} side is left out: {reason}", show(&service.name)));
            }
            Err(reason) => return refuse(format!("service {}: {reason}", show(&service.name))),
        }
    }
    Ok(rendering)
}

/// A part of a file.
fn fragment(path: &str, key: impl Into<String>, text: impl Into<String>) -> Fragment {
    Fragment { path: path.to_owned(), key: key.into(), text: text.into() }
}

/// Says that an instance is left out, and why.
fn leave_out(service: &Service, id: &str, reason: &str) {
    log::warn(&format!("service {} instance {} is left out: {reason}", show(&service.name), show(id)));
}

waypost_plugin_sdk::output!(Nginx, base, render);
