//! Renders services as nginx's configuration.
//!
//! `http.conf` is for an `http` block: one `upstream` for each http service, one `server` for each domain, one
//! `location` for each path. `stream.conf` is for a `stream` block: one `upstream` and one `server` for each port.
//! `nginx.conf` is a whole configuration of both, to check candidates and to run.
//!
//! A service claims whatever only one service can have: the name of an upstream, a port, a domain and path. Each is a fragment of
//! its own, with a key of its own. Services that share a domain render the same first and last lines of its `server` block, and
//! the keys put their locations between.

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

/// Renders the fragments that do not depend on services: the whole configuration, and the server for unknown domains.
///
/// # Errors
/// None today.
pub fn base(settings: &Settings, _node: &Node) -> Result<Vec<Fragment>, PluginError> {
    Ok(base::fragments(settings))
}

/// Renders the fragments and the claims of one service; nothing when no instance speaks http, tcp or udp.
///
/// # Errors
/// `invalid-input` when nginx cannot proxy the service: its name is invalid, its port is missing or taken, its domain is missing,
/// or other services have all that leads to it. The plugin logs a bad instance and skips it, and so a transport that it cannot
/// proxy where the service has another.
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
