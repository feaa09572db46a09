//! Renders the fragments that do not depend on services.

use waypost_plugin_sdk::Fragment;

use crate::files::{HTTP, MAIN, STREAM};
use crate::settings::{Settings, Stream};
use crate::{lines, server};

/// Returns the fragments that every set of files starts from.
pub(crate) fn fragments(settings: &Settings) -> Vec<Fragment> {
    let mut fragments = vec![Fragment::new(MAIN, "0", main(settings)), Fragment::new(HTTP, "0", HTTP_HEAD)];
    if let Some(binds) = settings.http_bind.get() {
        fragments.push(Fragment::new(HTTP, "1 maps", maps(settings)));
        if settings.default_server && settings.default_service.is_none() {
            fragments.push(Fragment::new(HTTP, "2 default server", server::of_nobody(settings, binds)));
        } else if settings.default_server {
            // The service, if there is one, adds its location between these.
            fragments.push(Fragment::new(HTTP, "2 default server 1", server::of_services(settings, binds, None)));
            fragments.push(Fragment::new(HTTP, "2 default server 3", server::END));
        }
    }
    if settings.stream != Stream::Off {
        fragments.push(Fragment::new(STREAM, "0", STREAM_HEAD));
    }
    fragments
}

const HTTP_HEAD: &str = "# Written by Waypost: changes made here are lost. For the http block of nginx.conf.\n";
const STREAM_HEAD: &str = "# Written by Waypost: changes made here are lost. For the stream block of nginx.conf.\n";

/// Renders the whole configuration that `nginx -t` needs. Everything that it touches (pid file, temporary files) lies below its
/// prefix, so that a check in the stage leaves nothing behind, and changes no owner of directories that another nginx uses.
fn main(settings: &Settings) -> String {
    let Settings { worker_connections, main_lines, http_lines, .. } = settings;
    // A proxied request takes two connections, and each connection a file; nginx holds the rest open itself.
    let files = format!("worker_rlimit_nofile {};", 4 * u64::from(*worker_connections));
    let ours = [MAIN_LINES[0], &files, MAIN_LINES[1], MAIN_LINES[2], MAIN_LINES[3]];
    let module = match &settings.stream {
        Stream::Module(path) => format!("load_module {path};\n"),
        Stream::BuiltIn | Stream::Off => String::new(),
    };
    let stream = match settings.stream {
        Stream::Off => "",
        Stream::BuiltIn | Stream::Module(_) => "\nstream {\n    include stream.conf;\n}\n",
    };
    format!(
        "# Written by Waypost: changes made here are lost. To be used with its directory as prefix (nginx -p).\n\
         {module}{}\nevents {{\n    worker_connections {worker_connections};\n}}\n\nhttp {{\n{}    include http.conf;\n}}\n{stream}",
        lines::merged("", ours, main_lines),
        lines::merged("    ", HTTP_LINES, http_lines),
    )
}

/// Old workers end after an hour, whatever is still open then.
const MAIN_LINES: [&str; 4] =
    ["worker_processes auto;", "worker_shutdown_timeout 1h;", "pid nginx.pid;", "error_log stderr;"];

/// The table of server names has room for thousands of domains; nginx uses the smallest size that suffices.
const HTTP_LINES: [&str; 7] = [
    "access_log off;",
    "server_names_hash_max_size 16384;",
    "client_body_temp_path .nginx-client-body;",
    "proxy_temp_path .nginx-proxy;",
    "fastcgi_temp_path .nginx-fastcgi;",
    "uwsgi_temp_path .nginx-uwsgi;",
    "scgi_temp_path .nginx-scgi;",
];

/// Renders the maps. A request that asks for another protocol (websocket) keeps its connection to the instance. Other requests
/// leave it to the next one, where nginx keeps idle connections. A request without Host gets the name that nginx gives it by
/// default.
fn maps(settings: &Settings) -> String {
    let otherwise = if settings.keepalive == 0 { "close" } else { "''" };
    format!(
        "\nmap $http_upgrade $waypost_connection {{\n    default upgrade;\n    '' {otherwise};\n}}\n\
         map $http_host $waypost_host {{\n    default $http_host;\n    '' $waypost_name;\n}}\n\
         map $host $waypost_name {{\n    default $host;\n    '' $proxy_host;\n}}\n\
         map \"$host $http_host\" $waypost_bad_host {{\n    default 1;\n    \"{GOOD_HOST}\" '';\n    \"~ $\" '';\n}}\n\
         map $request_uri $waypost_bad_request {{\n    default $waypost_bad_host;\n    \"{BAD_PATH}\" 1;\n}}\n"
    )
}

/// The name that nginx goes by, and the same in the header Host: of characters that names and addresses have, maybe with a final dot
/// and a port. They differ where the request line names another host.
const GOOD_HOST: &str = r"~*^([a-z0-9._:\[\]-]+) \1[.]?(:[a-z0-9._:\[\]-]*)?$";
/// A segment `.` or `..` of the path, also where it or its `/` is written by numbers, which nginx would resolve; or a `#`, where the
/// address ends for some and not for others.
const BAD_PATH: &str = r"~*^[^?]*(/|%2f)(\.|%2e)(\.|%2e)?(/|%2f|[?]|$)|#";
