//! The files that HAProxy reads, and what their fragments are made of.

use waypost_plugin_sdk::settings::Line;
use waypost_plugin_sdk::{Fragment, Service};

/// The configuration, in the operator's directory.
pub const CONFIGURATION: &str = "haproxy.cfg";
/// Domain and path to section, beside the configuration; HAProxy's stats socket knows it by this name too.
pub const ROUTES: &str = "routes.map";
/// Section to the standby backend that it lives in until the next reload; known to the stats socket like `ROUTES`.
pub const STANDBYS: &str = "standby.map";

/// A part of the configuration.
pub(crate) fn configuration(key: impl Into<String>, text: impl Into<String>) -> Fragment {
    Fragment::new(CONFIGURATION, key, text)
}

/// A whole section, keyed by its name. A service whose name had to change is named in it.
pub(crate) fn section(service: &Service, name: &str, head: &str, lines: &str) -> Fragment {
    let origin = if service.name == name { String::new() } else { format!("# service {}\n", service.name) };
    configuration(format!("60 {name}"), format!("\n{origin}{head} {name}\n{lines}"))
}

/// What the operator adds to a section.
pub(crate) fn lines(lines: &[Line]) -> String {
    lines.iter().flat_map(|line| indented(&line.0)).collect()
}

/// A line of a section.
pub(crate) fn indented(line: &str) -> [&str; 3] {
    ["    ", line, "\n"]
}
