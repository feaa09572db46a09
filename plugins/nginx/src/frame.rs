//! What is there whatever the services.

use waypost_plugin_sdk::Part;

use crate::settings::{Settings, Stream};
use crate::{HTTP, MAIN, STREAM, lines, part};

/// The frame of all files.
pub(crate) fn parts(settings: &Settings) -> Vec<Part> {
    let mut parts = vec![part(MAIN, "0", main(settings)), part(HTTP, "0", HTTP_HEAD)];
    if let Some(binds) = settings.http_bind.get() {
        parts.push(part(HTTP, "1 maps", maps(settings)));
        if settings.default_server {
            let listen = lines::listen(&binds.0, " default_server");
            let lines = lines::merged("    ", [], &settings.server_lines);
            let status = settings.default_status;
            // Its name is empty, which no service's domain is.
            let text = format!("\nserver {{\n{listen}{lines}    return {status};\n}}\n");
            parts.push(part(HTTP, "2 default server", text));
        }
    }
    if settings.stream != Stream::Off {
        parts.push(part(STREAM, "0", STREAM_HEAD));
    }
    parts
}

const HTTP_HEAD: &str = "# Written by Waypost: changes made here are lost. For the http block of nginx.conf.\n";
const STREAM_HEAD: &str = "# Written by Waypost: changes made here are lost. For the stream block of nginx.conf.\n";

/// `nginx -t` wants a whole configuration. Everything it touches (pid file, temporary files) lies below its prefix, so
/// that a check in the stage leaves nothing behind, and changes no owner of directories that another nginx uses.
fn main(settings: &Settings) -> String {
    let Settings { worker_connections, main_lines, http_lines, .. } = settings;
    // A proxied request takes two connections, and each a file; the rest is for what nginx holds open itself.
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

const HTTP_LINES: [&str; 6] = [
    "access_log off;",
    "client_body_temp_path .nginx-client-body;",
    "proxy_temp_path .nginx-proxy;",
    "fastcgi_temp_path .nginx-fastcgi;",
    "uwsgi_temp_path .nginx-uwsgi;",
    "scgi_temp_path .nginx-scgi;",
];

/// A request that asks for another protocol (websocket) takes its connection with it. One that does not leaves
/// the connection to the next request, where such connections are kept.
fn maps(settings: &Settings) -> String {
    let otherwise = if settings.keepalive == 0 { "close" } else { "''" };
    format!(
        "\nmap $http_upgrade $waypost_connection {{\n    default upgrade;\n    '' {otherwise};\n}}\n\
         map $http_host $waypost_host {{\n    default $http_host;\n    '' $host;\n}}\n"
    )
}
