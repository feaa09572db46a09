//! Writes services down as HAProxy's configuration.
//!
//! `haproxy.cfg` holds one section for each service, `routes.map` the domains and paths of http services. Whatever
//! only one service can have is claimed in words: the name of its section, its port, its domains and paths. What
//! another service has is denied to it, and left out here.
//!
//! A section is named by [`names::proxy`] of the service, a server is named by the instance's id: both follow from the
//! service and the instance alone, so that a running HAProxy can be spoken to about them.

mod base;
mod desired;
mod files;
mod front;
mod http;
mod instances;
mod live;
pub mod names;
mod route;
mod server;
pub mod settings;
mod tcp;
#[cfg(test)]
mod tests;

use waypost_plugin_sdk::proxy::instances::warn_skipped;
use waypost_plugin_sdk::{Fragment, Node, Plugin, PluginError, Rendering, Service};

use desired::{Desired, Kind};
pub use files::{CONFIGURATION, ROUTES, STANDBYS};
pub use live::{plan, process, queries};
pub use settings::Settings;

/// The plugin.
pub struct Haproxy;

impl Plugin for Haproxy {
    type Settings = Settings;
    const NAME: &'static str = "haproxy";
    const SUMMARY: &'static str = "HAProxy: http services by domain and path, tcp services on their own ports.";
    const SCHEMA: &'static str = include_str!("settings.json");
}

/// The fragments that are there whatever the services: global settings, defaults, the statistics page and the frontend of
/// http services. That frontend is one fragment, and so is the statistics page: each can be left out while its port is
/// taken. (With routing by acl it is the `bind` of the frontend that is a part of its own.)
///
/// # Errors
/// None today.
pub fn base(settings: &Settings, _node: &Node) -> Result<Vec<Fragment>, PluginError> {
    Ok(base::fragments(settings))
}

/// The fragments of one service, and what it claims; nothing when no instance speaks http or tcp.
///
/// The claims are `domain D`, `domain D path /P`, `port N` and `section S`. They are the same whatever is denied. A
/// denied domain or path is left out; a service without any, or without its port or section, is refused.
///
/// # Errors
/// `invalid-input` when HAProxy cannot carry the service: its name, a missing or taken port, a missing domain. A bad
/// instance is logged and left out.
pub fn render(settings: &Settings, _node: &Node, service: &Service) -> Result<Rendering, PluginError> {
    let mut skip = |id: &str, reason: &str| warn_skipped(service, id, reason);
    let Some(Desired { name, kind, claims }) = desired::read(settings, service, &mut skip)? else {
        return Ok(Rendering::default());
    };
    let fragments = match kind {
        Kind::Http(http) => http::fragments(settings, service, &name, &http),
        Kind::Tcp(tcp) => tcp::fragments(settings, service, &name, &tcp),
    };
    Ok(Rendering { fragments, claims })
}

waypost_plugin_sdk::live_output!(Haproxy, base, render, process, queries, plan);
