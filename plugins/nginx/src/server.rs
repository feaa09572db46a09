//! The `server` blocks of http services: the lines before their locations.

use crate::lines;
use crate::settings::{Binds, Settings};

/// The head of the server of a domain, for the locations of services to follow; what an `http` block of the operator's sets for
/// these is not ours to change, so they stand here.
pub(crate) fn of_services(settings: &Settings, binds: &Binds, name: Option<&str>) -> String {
    let Settings { connect_timeout, client_max_body_size, default_status, .. } = settings;
    let ours = [
        BAD_REQUEST.to_owned(),
        // For paths that no service has, where nginx would look for files.
        format!("try_files /.nobody ={default_status};"),
        format!("client_max_body_size {};", client_max_body_size.0),
        format!("proxy_connect_timeout {};", connect_timeout.0),
        format!("proxy_next_upstream_tries {TRIES};"),
    ];
    head(settings, binds, name, ours.iter().map(String::as_str).chain(PROXY))
}

/// The whole server for unknown domains where no service answers them. The status comes from a location, so that other
/// locations and `error_page` act.
pub(crate) fn of_nobody(settings: &Settings, binds: &Binds) -> String {
    let location = format!("location / {{ return {}; }}", settings.default_status);
    head(settings, binds, None, [BAD_REQUEST, location.as_str()]) + END
}

/// The last line of a server.
pub(crate) const END: &str = "}\n";

/// Without a name it is the server for unknown domains.
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

/// nginx resolves `..` and takes any character in a Host, where other proxies and the services may not.
const BAD_REQUEST: &str = "if ($waypost_bad_request) { return 400; }";

/// Instances that one request is sent to at most. nginx tries the next one when it cannot connect or gets no answer, the
/// latter not for requests that may do something twice.
const TRIES: u32 = 3;

/// The client's Host goes on with its port, for applications that write whole addresses.
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
