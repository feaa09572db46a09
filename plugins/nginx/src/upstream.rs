//! An `upstream`, and its servers.

use waypost_plugin_sdk::{Instance, Readiness, Service};

use crate::names;
use crate::settings::{Balance, Settings};

/// A line of an upstream.
pub(crate) struct Server {
    /// The instance's id, for messages.
    pub(crate) id: String,
    /// The line; none of one that has left.
    pub(crate) line: Option<String>,
    /// Whether it takes new requests.
    pub(crate) ready: bool,
}

/// The server of an instance. `down` takes nothing new, and what is open goes on in the workers that had it; nginx takes no
/// weight of 0.
///
/// # Errors
/// Says what nginx does not take.
pub(crate) fn server(settings: &Settings, instance: &Instance) -> Result<Server, String> {
    let endpoint = names::endpoint(&instance.address, instance.port, settings.host_names)?;
    let Settings { max_fails, fail_timeout, .. } = settings;
    let ready = instance.readiness == Readiness::Ready && instance.weight != Some(0);
    let state = match instance.weight {
        _ if !ready => " down".to_owned(),
        Some(weight) => format!(" weight={weight}"),
        None => String::new(),
    };
    let comment = names::comment(&instance.id);
    let line =
        format!("    server {endpoint} max_fails={max_fails} fail_timeout={}{state};{comment}\n", fail_timeout.0);
    let line = (instance.readiness != Readiness::Gone).then_some(line);
    Ok(Server { id: instance.id.clone(), line, ready })
}

/// A whole upstream. A service whose name had to change is named in it, so that its text differs from that of the
/// service which has this name by itself.
pub(crate) fn block(settings: &Settings, service: &Service, name: &str, lines: &str) -> String {
    let unchanged = names::upstream(&service.name).is_ok_and(|name| name == service.name);
    let origin = if unchanged { String::new() } else { format!("# service {}\n", service.name) };
    let balance = match settings.balance {
        Balance::Roundrobin => "",
        Balance::Leastconn => "    least_conn;\n",
        Balance::Random => "    random two least_conn;\n",
    };
    format!("\n{origin}upstream {name} {{\n{balance}{lines}}}\n")
}
