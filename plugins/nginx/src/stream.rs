//! A tcp or udp service: an `upstream`, and a `server` on the port that its consumers know.

use waypost_plugin_sdk::Service;
use waypost_plugin_sdk::proxy::bind::{Bind, refuse_taken};

use crate::members::Server;
use crate::settings::{Balance, DUAL_STACK, Settings, Stream};
use crate::{STREAM, Side, claims, fragment, leave_out, lines, names};

/// What a stream is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// As nginx and people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// What a tcp or udp service is: its upstream, and the server on its port.
///
/// # Errors
/// Streams are off, the port is missing or taken by http services, or nginx does not take the service's name.
pub(crate) fn side(
    settings: &Settings,
    service: &Service,
    protocol: Protocol,
    servers: &[(Server, Option<u16>)],
) -> Result<Side, String> {
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
    let binds = settings.tcp_bind.at(port).0;
    if protocol == Protocol::Tcp {
        refuse_own(settings, &binds)?;
    }
    let claims = vec![claims::upstream(&name, STREAM), claims::port(port, protocol)];
    let fragments = claims::expect(service, &claims[0], "rename one of the two, nginx sees the same name in both")
        .and_then(|()| claims::expect(service, &claims[1], "give the service another listen-port"))
        .map(|()| {
            let lines = agreed(service, port, servers);
            let server = server(settings, protocol, &binds, (!lines.is_empty()).then_some(&name));
            let upstream = (!lines.is_empty())
                .then(|| fragment(STREAM, format!("3 upstream {name}"), upstream(settings, service, &name, &lines)));
            let server = fragment(STREAM, format!("4 port {port:05}/{speaks}"), server);
            upstream.into_iter().chain([server]).collect()
        });
    Ok(Side { claims, fragments })
}

/// The lines of the servers that name this port, or none.
fn agreed(service: &Service, port: u16, servers: &[(Server, Option<u16>)]) -> String {
    let mut lines = String::new();
    for (server, other) in servers {
        if let Some(other) = other.filter(|other| *other != port) {
            let reason = format!("its listen-port is {other}, the service's first instance says {port}");
            leave_out(service, &server.id, &reason);
            continue;
        }
        lines.extend(server.line.as_deref());
    }
    lines
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

/// Only with `reuseport` does nginx hand all datagrams of a client to one worker, which knows whose answer is whose. Without an
/// upstream a connection is closed at once.
fn server(settings: &Settings, protocol: Protocol, binds: &[Bind], upstream: Option<&String>) -> String {
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
    match upstream {
        Some(name) => format!("\nserver {{\n{listen}    proxy_pass {name};\n{own}}}\n"),
        None => format!("\nserver {{\n{listen}    return \"\";\n}}\n"),
    }
}

/// Two parts of nginx cannot listen on one address.
fn refuse_own(settings: &Settings, binds: &[Bind]) -> Result<(), String> {
    let taken = settings.http_bind.get().map(|binds| binds.0.as_slice()).unwrap_or_default();
    refuse_taken(binds, taken, DUAL_STACK, ("http services", "http-bind"))
}
