//! Writes services down as HAProxy's configuration.
//!
//! `haproxy.cfg` holds one section for each service, `routes.map` the domains and paths of http services. Whatever
//! only one service can have is claimed in words: the name of its section, its port, its domains and paths. What
//! another service has is denied to it, and left out here.
//!
//! A section is named by [`names::proxy`] of the service, a server is named by the instance's id: both follow from the
//! service and the instance alone, so that a running HAProxy can be spoken to about them.

mod base;
mod front;
mod http;
mod live;
mod members;
pub mod names;
pub mod settings;
mod tcp;
#[cfg(test)]
mod tests;
mod wanted;

use waypost_plugin_sdk::{Fragment, Node, Plugin, PluginError, Rendering, Service, log, show};

pub use live::{plan, process, queries};
pub use settings::Settings;
use wanted::{Kind, Wanted};

/// The configuration, in the operator's directory.
pub const CONFIGURATION: &str = "haproxy.cfg";
/// Domain and path to section, beside the configuration; HAProxy's stats socket knows it by this name too.
pub const ROUTES: &str = "routes.map";
/// Section to the standby backend that it lives in until the next reload; known to the stats socket like `ROUTES`.
pub const STANDBYS: &str = "standby.map";

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
    let mut leave_out = |id: &str, reason: &str| {
        log::warn(&format!("service {} instance {} is left out: {reason}", show(&service.name), show(id)));
    };
    let Some(Wanted { name, kind, claims }) = wanted::read(settings, service, &mut leave_out)? else {
        return Ok(Rendering::default());
    };
    let fragments = match kind {
        Kind::Http(http) => http::fragments(settings, service, &name, &http),
        Kind::Tcp(tcp) => tcp::fragments(settings, service, &name, &tcp),
    };
    Ok(Rendering { fragments, claims })
}

/// A part of the configuration.
fn configuration(key: impl Into<String>, text: impl Into<String>) -> Fragment {
    Fragment { path: CONFIGURATION.to_owned(), key: key.into(), text: text.into() }
}

/// A whole section, keyed by its name. A service whose name had to change is named in it.
fn section(service: &Service, name: &str, head: &str, lines: &str) -> Fragment {
    let origin = if service.name == name { String::new() } else { format!("# service {}\n", service.name) };
    configuration(format!("60 {name}"), format!("\n{origin}{head} {name}\n{lines}"))
}

waypost_plugin_sdk::live_output!(Haproxy, base, render, process, queries, plan);
