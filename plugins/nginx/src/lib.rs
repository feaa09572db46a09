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
mod files;
mod http;
mod lines;
pub mod names;
mod server;
pub mod settings;
mod side;
mod stream;
#[cfg(test)]
mod tests;
mod upstream;

use waypost_plugin_sdk::proxy::instances::{self, TcpInstances, warn_skipped};
use waypost_plugin_sdk::proxy::route;
use waypost_plugin_sdk::{Fragment, Node, Plugin, PluginError, Rendering, Service, Transport, log, show};

pub use files::{HTTP, MAIN, STREAM};
pub use settings::Settings;
use side::Side;

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
    let instances = instances::select(
        instances::present(service),
        |instance| route::read(service, instance, names::path),
        |instance| upstream::server(settings, instance),
        &mut |id, reason| warn_skipped(service, id, reason),
    );
    let is_http = matches!(instances.tcp, TcpInstances::Http(_));
    let tcp = match instances.tcp {
        TcpInstances::Http(servers) => Some(http::side(settings, service, &servers)),
        TcpInstances::Plain(servers) => Some(stream::side(settings, service, Transport::Tcp, servers)),
        TcpInstances::None => None,
    };
    let udp = (!instances.udp.is_empty()).then(|| stream::side(settings, service, Transport::Udp, instances.udp));
    if settings.default_service.as_ref() == Some(&service.name) && !is_http {
        log::warn(&format!(
            "service {} does not speak http and answers no unknown domain, though the setting `default-service` names it",
            show(&service.name)
        ));
    }
    let sides =
        [("tcp", tcp), ("udp", udp)].map(|(name, side)| (name, side.map(|side| side.unwrap_or_else(Side::refused))));
    side::together(service, sides.into_iter().filter_map(|(name, side)| Some((name, side?))).collect())
}

waypost_plugin_sdk::output!(Nginx, base, render);
