//! Renders the fragments that do not depend on services.

use waypost_plugin_sdk::Fragment;

use crate::files::{ROUTES, STANDBYS, configuration, indented, lines};
use crate::front;
use crate::names::{DEFAULTS, STATISTICS};
use crate::server::DEFAULT_SERVER;
use crate::settings::{Routing, Settings};

/// Returns the fragments that every set of files starts from.
pub(crate) fn fragments(settings: &Settings) -> Vec<Fragment> {
    let mut fragments =
        vec![configuration("10 global", global(settings)), configuration("20 defaults", defaults(settings))];
    if let Some(bind) = settings.stats_bind.get() {
        let text = format!("\nlisten {STATISTICS}\n    bind {bind}\n{STATISTICS_PAGE}");
        fragments.push(configuration("30 statistics", text));
    }
    fragments.extend(front::fragments(settings));
    if settings.routing == Routing::Map {
        // Keys of routes start with a letter, a digit, `*` or `_`, so this comes first; HAProxy wants the file to exist.
        fragments.push(Fragment::new(ROUTES, "#", MAP_HEAD));
    }
    if settings.standbys() > 0 {
        fragments.push(Fragment::new(STANDBYS, "#", STANDBYS_HEAD));
    }
    fragments
}

const STATISTICS_PAGE: &str = "    option idle-close-on-response
    stats enable
    stats uri /
    stats hide-version
";

const MAP_HEAD: &str = "# Domain and path of http requests, and the backend they go to. Written by Waypost.\n";

const STANDBYS_HEAD: &str = "# Services that live in a standby backend until the next reload: filled over the stats socket, always empty here.\n";

/// Renders the section `global`. With `default-path config` HAProxy finds the map beside the configuration, wherever both are.
fn global(settings: &Settings) -> String {
    let own = [
        Some("default-path config".to_owned()),
        settings
            .socket
            .as_ref()
            .map(|path| format!("stats socket {} mode 660 level admin expose-fd listeners", path.0)),
        settings.maxconn.map(|maxconn| format!("maxconn {maxconn}")),
        settings.hard_stop_after.get().map(|time| format!("hard-stop-after {}", time.0)),
    ];
    let own: String = own.iter().flatten().map(String::as_str).flat_map(indented).collect();
    format!(
        "# Written by Waypost: changes made here are lost.\nglobal\n{own}{CHECK_ONLY}{}",
        lines(&settings.global_lines)
    )
}

/// HAProxy 2.6 loads the system's CA certificates for the http client of its Lua scripts, which is most of the time that a
/// check of a small file takes. The agent sets the variable for a check only.
const CHECK_ONLY: &str = "    .if defined(WAYPOST_CHECK) && feature(OPENSSL)
    httpclient.ssl.verify none
    .endif
";

/// The section has a name because HAProxy 3.4 makes backends at run time from a named one only. Redispatch at the first
/// retry hides a server that has just died; Docker's proxy still takes connections of a container that has, and closes
/// them without an answer.
fn defaults(settings: &Settings) -> String {
    let Settings { balance, defaults_lines, .. } = settings;
    format!(
        "\ndefaults {DEFAULTS}\n    mode http\n    log global\n    balance {balance}\n    retries 3\n    option redispatch 1\n    retry-on conn-failure empty-response\n    \
         default-server {DEFAULT_SERVER}\n{TIMEOUTS}{}",
        lines(defaults_lines)
    )
}

/// A connection that both sides use as a tunnel (websocket, database) may rest longer than a request.
const TIMEOUTS: &str = "    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
    timeout http-request 10s
    timeout http-keep-alive 1m
";
