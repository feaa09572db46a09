//! A tcp or udp service: an `upstream`, and a `server` on the port that its consumers know.

use waypost_plugin_sdk::{Part, Service};

use crate::members::Server;
use crate::settings::{Balance, Bind, Settings, Stream};
use crate::{STREAM, leave_out, lines, names, part};

/// What a stream is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// The upstream, and the server that is also the claim to its port.
///
/// # Errors
/// Streams are off, the port is missing or taken by http services, or nginx does not take the service's name.
pub(crate) fn parts(
    settings: &Settings,
    service: &Service,
    protocol: Protocol,
    servers: &[(Server, Option<u16>)],
) -> Result<Vec<Part>, String> {
    let speaks = protocol.name();
    if settings.stream == Stream::Off {
        return Err(format!(
            "it speaks {speaks}, and the setting `stream` is \"off\": set it, or leave the service out of the output's `services`"
        ));
    }
    let ending = match protocol {
        Protocol::Tcp => "waypost",
        Protocol::Udp => "waypost-udp",
    };
    let name = format!("{}.{ending}", names::upstream(&service.name)?);
    let Some(port) = servers.iter().find_map(|(_, port)| *port) else {
        return Err(format!(
            "it speaks {speaks}, but no instance has the attribute listen-port, the port its consumers connect to; for \
             http, the attribute protocol must say so"
        ));
    };
    let binds: Vec<Bind> = settings.tcp_bind.0.iter().map(|&host| Bind { host, port }).collect();
    if protocol == Protocol::Tcp {
        refuse_own(settings, &binds)?;
    }
    let mut text = String::new();
    for (server, other) in servers {
        if let Some(other) = other.filter(|other| *other != port) {
            let reason = format!("its listen-port is {other}, the service's first instance says {port}");
            leave_out(service, &server.id, &reason);
            continue;
        }
        text += &server.line;
    }
    Ok(vec![
        part(STREAM, format!("3 upstream {name}"), upstream(settings, service, &name, &text)),
        part(STREAM, format!("4 port {port:05}/{speaks}"), server(settings, protocol, &binds, &name)),
    ])
}

/// A whole upstream. A service whose name had to change is named in it, so that its text differs from that of the
/// service which has this name by itself.
pub(crate) fn upstream(settings: &Settings, service: &Service, name: &str, lines: &str) -> String {
    let unchanged = names::upstream(&service.name).is_ok_and(|name| name == service.name);
    let origin = if unchanged { String::new() } else { format!("# service {}\n", service.name) };
    let balance = match settings.balance {
        Balance::Roundrobin => "",
        Balance::Leastconn => "    least_conn;\n",
        Balance::Random => "    random two least_conn;\n",
    };
    format!("\n{origin}upstream {name} {{\n{balance}{lines}}}\n")
}

/// Only with `reuseport` does nginx hand all datagrams of a client to one worker, which knows whose answer is whose.
fn server(settings: &Settings, protocol: Protocol, binds: &[Bind], name: &str) -> String {
    let Settings { connect_timeout, tcp_timeout, udp_timeout, udp_responses, .. } = settings;
    let (options, own) = match protocol {
        Protocol::Tcp => {
            let times = (&connect_timeout.0, &tcp_timeout.0);
            ("", format!("    proxy_connect_timeout {};\n    proxy_timeout {};\n", times.0, times.1))
        }
        Protocol::Udp => {
            let responses = udp_responses.map(|count| format!("    proxy_responses {count};\n")).unwrap_or_default();
            (" udp reuseport", format!("    proxy_timeout {};\n{responses}", udp_timeout.0))
        }
    };
    let listen = lines::listen(binds, options);
    format!("\nserver {{\n{listen}    proxy_pass {name};\n{own}}}\n")
}

/// Two parts of nginx cannot listen on one address.
fn refuse_own(settings: &Settings, binds: &[Bind]) -> Result<(), String> {
    let taken = settings.http_bind.get().map(|binds| binds.0.as_slice()).unwrap_or_default();
    match binds.iter().find(|bind| taken.iter().any(|taken| taken.overlaps(bind))) {
        Some(bind) => Err(format!(
            "its listen-port {} belongs to http services (setting `http-bind`); give the service another listen-port, or \
             change the setting",
            bind.port
        )),
        None => Ok(()),
    }
}
