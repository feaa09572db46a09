//! Renders the `server` blocks of http services: the lines before their locations.

use crate::lines;
use crate::settings::{Binds, Settings};

/// Renders the head of a domain's server; the locations of services follow. These directives stand here because the `http` block
/// may be the operator's.
pub(crate) fn of_services(settings: &Settings, binds: &Binds, name: Option<&str>) -> String {
    let Settings { connect_timeout, client_max_body_size, default_status, .. } = settings;
    let ours = [
        BAD_REQUEST.to_owned(),
        // Paths that no service has: nginx would look for files.
        format!("try_files /.nobody ={default_status};"),
        format!("client_max_body_size {};", client_max_body_size.0),
        format!("proxy_connect_timeout {};", connect_timeout.0),
        format!("proxy_next_upstream_tries {TRIES};"),
    ];
    head(settings, binds, name, ours.iter().map(String::as_str).chain(PROXY))
}

/// Renders the whole server for unknown domains where no service answers them. A location returns the status, so that other
/// locations and `error_page` apply.
pub(crate) fn of_nobody(settings: &Settings, binds: &Binds) -> String {
    let location = format!("location / {{ return {}; }}", settings.default_status);
    head(settings, binds, None, [BAD_REQUEST, location.as_str()]) + END
}

/// The last line of a server.
pub(crate) const END: &str = "}\n";

/// Renders the head of a server; without a name, of the server for unknown domains.
fn head<'a>(
    settings: &'a Settings,
    binds: &Binds,
    name: Option<&str>,
    ours: impl IntoIterator<Item = &'a str>,
) -> String {
    let listen = lines::listen(&binds.0, if name.is_none() { " default_server" } else { "" });
    let name = name.map(|name| format!("    server_name {name};\n")).unwrap_or_default();
    let lines = lines::merged("    ", ours, &settings.server_lines);
    format!("\nserver {{\n{listen}{name}{lines}")
}

/// nginx resolves `..` and accepts any character in a Host; other proxies and the services may not.
const BAD_REQUEST: &str = "if ($waypost_bad_request) { return 400; }";

/// Number of instances that nginx sends one request to at most. It tries the next one when it cannot connect, and when it gets no
/// answer to a request that may be repeated.
const TRIES: u32 = 3;

/// nginx passes the client's Host with its port, for applications that write whole addresses.
const PROXY: [&str; 8] = [
    "proxy_http_version 1.1;",
    "proxy_set_header Host $waypost_host;",
    "proxy_set_header X-Real-IP $remote_addr;",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "proxy_set_header X-Forwarded-Proto $scheme;",
    "proxy_set_header X-Forwarded-Host $waypost_host;",
    "proxy_set_header Upgrade $http_upgrade;",
    "proxy_set_header Connection $waypost_connection;",
];
