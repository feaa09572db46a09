//! Names the files that HAProxy reads, and builds fragments of them.

use waypost_plugin_sdk::settings::Line;
use waypost_plugin_sdk::{Fragment, Service};

/// The configuration, in the operator's directory.
pub const CONFIGURATION: &str = "haproxy.cfg";
/// Domain and path to section, beside the configuration; HAProxy's stats socket knows it by this name too.
pub const ROUTES: &str = "routes.map";
/// Section to the standby backend that it lives in until the next reload; known to the stats socket like `ROUTES`.
pub const STANDBYS: &str = "standby.map";

/// Builds a fragment of the configuration.
pub(crate) fn configuration(key: impl Into<String>, text: impl Into<String>) -> Fragment {
    Fragment::new(CONFIGURATION, key, text)
}

/// Builds a whole section, keyed by its name. A comment gives the service's name where the section's name differs.
pub(crate) fn section(service: &Service, name: &str, head: &str, lines: &str) -> Fragment {
    let origin = if service.name == name { String::new() } else { format!("# service {}\n", service.name) };
    configuration(format!("60 {name}"), format!("\n{origin}{head} {name}\n{lines}"))
}

/// Renders the lines that the operator adds to a section.
pub(crate) fn lines(lines: &[Line]) -> String {
    lines.iter().flat_map(|line| indented(&line.0)).collect()
}

/// Indents a line of a section.
pub(crate) fn indented(line: &str) -> [&str; 3] {
    ["    ", line, "\n"]
}
