//! Renders an `upstream`, and its servers.

use waypost_plugin_sdk::{Instance, Readiness, Service};

use crate::names;
use crate::settings::{Balance, Settings};

/// An instance as a server of an upstream.
pub(crate) struct Server {
    /// The instance's id, for messages.
    pub(crate) id: String,
    /// Its line; `None` when the instance is gone.
    pub(crate) line: Option<String>,
    /// Whether it gets new requests.
    pub(crate) ready: bool,
}

/// Reads the server of an instance. A server that is `down` gets nothing new, and open connections go on in the workers that have
/// them; nginx accepts no weight of 0.
///
/// # Errors
/// Says what nginx does not accept.
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

/// Renders a whole upstream. A comment gives the service's name where the upstream's name differs, so that two services with the
/// same upstream name have different texts.
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
