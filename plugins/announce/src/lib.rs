//! Containers announce themselves by environment variables: `ANNOUNCE_PATH`, `PORT`, `TYPE` and `LISTEN_PATH`.

use waypost_plugin_sdk::attributes::{get, items};
use waypost_plugin_sdk::grouping::instance;
use waypost_plugin_sdk::reach::Reach;
use waypost_plugin_sdk::{Container, Instance, Node, Plugin, PluginError, Role, Transport, check, refuse, show};

#[cfg(test)]
mod tests;

/// The plugin `announce`.
pub struct Announce;

impl Plugin for Announce {
    type Settings = Reach;
    const NAME: &'static str = "announce";
    const SUMMARY: &'static str = "Groups containers by the path in their variable ANNOUNCE_PATH.";
    const SCHEMA: &'static str = Reach::SCHEMA;
    const ENVIRONMENT: &'static [&'static str] = &["ANNOUNCE_PATH", "LISTEN_PATH", "PORT", "TYPE"];
}

/// One instance when `ANNOUNCE_PATH` is set, and the services below the paths in `LISTEN_PATH`.
///
/// # Errors
/// `invalid-input`, naming the variable, what was found and what is expected.
pub fn group(reach: &Reach, node: &Node, container: &Container) -> Result<Role, PluginError> {
    let listen_path = get(&container.environment, "LISTEN_PATH").unwrap_or_default();
    let consumes = items(listen_path).map(want).collect::<Result<_, _>>()?;
    let provides = match get(&container.environment, "ANNOUNCE_PATH") {
        None | Some("") => Vec::new(),
        Some(path) => vec![offer(reach, node, container, path)?],
    };
    Ok(Role { provides, consumes })
}

fn offer(reach: &Reach, node: &Node, container: &Container, path: &str) -> Result<Instance, PluginError> {
    let Some((5, service)) = path.strip_prefix('/').and_then(name) else {
        return refuse(format!(
            "ANNOUNCE_PATH is {}, expected /<domain>/<APP>/<ENV>/<SERVICE>/<NAME> of letters, digits, `.`, `_` and `-`",
            show(path)
        ));
    };
    check::service("the name that ANNOUNCE_PATH gives", &service)?;
    check::segment("the container's host name", &container.hostname)?;
    let variable = |name| get(&container.environment, name).unwrap_or_default();
    let port = check::port("PORT", variable("PORT"))?;
    let specific = match variable("TYPE").to_ascii_uppercase().as_str() {
        "HTTP" => [("protocol", "http".to_owned()), ("domain", service.clone())],
        "TCP" => [("protocol", "tcp".to_owned()), ("listen-port", port.to_string())],
        _ => return refuse(format!("TYPE is {}, expected HTTP or TCP", show(variable("TYPE")))),
    };
    let endpoint = reach.endpoint(node, container, port, Transport::Tcp);
    let endpoint = endpoint.or_else(|why| refuse(format!("PORT is {port}, but {why}")))?;
    let own = specific.into_iter().chain([("announce-path", path.to_owned())]).collect();
    Ok(instance(node, container, endpoint, (service, container.hostname.clone()), own))
}

/// What a path in `LISTEN_PATH` means: one service, or all whose names end alike.
fn want(path: &str) -> Result<String, PluginError> {
    let want = match path.strip_prefix("/services/").and_then(name) {
        Some((5, service)) => service,
        Some((3 | 4, suffix)) => format!("*.{suffix}"),
        _ => {
            return refuse(format!(
                "LISTEN_PATH has {}, expected /services/<domain>/<app>/<env>[/<service>[/<name>]]",
                show(path)
            ));
        }
    };
    check::service("the name that LISTEN_PATH gives", want.trim_start_matches("*."))?;
    Ok(want)
}

/// The number of segments of a path, and the name they make: `internal/app1/dev` is `dev.app1.internal`. None when a
/// segment is not plain.
fn name(path: &str) -> Option<(usize, String)> {
    let segments: Vec<&str> = path.split('/').rev().collect();
    let all_plain = segments.iter().all(|segment| segment.split('.').all(check::is_segment));
    all_plain.then(|| (segments.len(), segments.join(".").to_ascii_lowercase()))
}

waypost_plugin_sdk::grouping!(Announce, group);
