//! Renders services as HAProxy's configuration.
//!
//! `haproxy.cfg` holds one section for each service, `routes.map` the domains and paths of http services. A service claims
//! whatever only one service can have: the name of its section, its port, its domains and paths. The plugin omits what the
//! agent denies a service because another one has it.
//!
//! [`names::proxy`] names the section of a service, and the instance's id names a server. Both names follow from the service and
//! the instance alone, so that commands to a running HAProxy can use them.

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

/// Renders the fragments that do not depend on services: global settings, defaults, the statistics page and the frontend of
/// http services. That frontend is one fragment, and so is the statistics page, so that the agent can omit each while its port
/// is taken. (With routing by acl, the `bind` of the frontend is a fragment of its own.)
///
/// # Errors
/// None today.
pub fn base(settings: &Settings, _node: &Node) -> Result<Vec<Fragment>, PluginError> {
    Ok(base::fragments(settings))
}

/// Renders the fragments and the claims of one service; nothing when no instance speaks http or tcp.
///
/// The claims are `domain D`, `domain D path /P`, `port N` and `section S`. They do not depend on what the service is denied.
/// The plugin omits a denied domain or path; it refuses a service that has no other, or that is denied its port or section.
///
/// # Errors
/// `invalid-input` when HAProxy cannot proxy the service: its name is invalid, its port is missing or taken, or its domain is
/// missing. The plugin logs a bad instance and skips it.
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
