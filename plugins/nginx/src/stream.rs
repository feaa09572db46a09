//! Renders a tcp or udp service: an `upstream`, and a `server` on the port that its consumers know.

use waypost_plugin_sdk::proxy::bind::{Bind, refuse_taken};
use waypost_plugin_sdk::proxy::instances::{agreed, listen_port, warn_skipped};
use waypost_plugin_sdk::reach::transport_name;
use waypost_plugin_sdk::{Fragment, Service, Transport};

use crate::files::STREAM;
use crate::settings::{DUAL_STACK, Settings, Stream};
use crate::side::Side;
use crate::upstream::{self, Server};
use crate::{claims, lines, names};

/// Renders a tcp or udp service: its upstream, and the server on its port.
///
/// # Errors
/// `stream` is off, the port is missing, http services have the port, or nginx does not accept the service's name.
pub(crate) fn side(
    settings: &Settings,
    service: &Service,
    transport: Transport,
    servers: Vec<(Server, Option<u16>)>,
) -> Result<Side, String> {
    let speaks = transport_name(transport);
    if settings.stream == Stream::Off {
        return Err(format!(
            "it speaks {speaks}, and the setting `stream` is \"off\": set it, or leave the service out of the output's `services`"
        ));
    }
    let ending = if transport == Transport::Udp { "waypost-udp" } else { "waypost" };
    let name = format!("{}.{ending}", names::upstream(&service.name)?);
    let port = listen_port(speaks, &servers)?;
    let binds = settings.tcp_bind.at(port).0;
    if transport != Transport::Udp {
        let own = settings.http_bind.get().map(|binds| binds.0.as_slice()).unwrap_or_default();
        refuse_taken(&binds, own, DUAL_STACK, ("http services", "http-bind"))?;
    }
    let claims = vec![claims::upstream(&name, STREAM), claims::port(port, transport)];
    let fragments = claims::expect(service, &claims[0], "rename one of the two, nginx sees the same name in both")
        .and_then(|()| claims::expect(service, &claims[1], "give the service another listen-port"))
        .map(|()| {
            let servers = agreed(port, servers, |server, reason| warn_skipped(service, &server.id, reason));
            let lines: String = servers.into_iter().filter_map(|server| server.line).collect();
            let upstream = (!lines.is_empty()).then(|| upstream::block(settings, service, &name, &lines));
            let server = server(settings, transport, &binds, upstream.as_ref().map(|_| name.as_str()));
            let upstream = upstream.map(|text| Fragment::new(STREAM, format!("3 upstream {name}"), text));
            upstream.into_iter().chain([Fragment::new(STREAM, format!("4 port {port:05}/{speaks}"), server)]).collect()
        });
    Ok(Side { claims, fragments })
}

/// Renders the server. Only with `reuseport` does one worker get all datagrams of a client and recognise the answers to them.
/// Without an upstream nginx closes a connection at once.
fn server(settings: &Settings, transport: Transport, binds: &[Bind], upstream: Option<&str>) -> String {
    let Settings { connect_timeout, tcp_timeout, udp_timeout, udp_responses, .. } = settings;
    let (options, own) = if transport == Transport::Udp {
        let responses = udp_responses.map(|count| format!("    proxy_responses {count};\n")).unwrap_or_default();
        (" udp reuseport", format!("    proxy_timeout {};\n{responses}", udp_timeout.0))
    } else {
        let times = (&connect_timeout.0, &tcp_timeout.0);
        ("", format!("    proxy_connect_timeout {};\n    proxy_timeout {};\n", times.0, times.1))
    };
    let listen = lines::listen(binds, options);
    match upstream {
        Some(name) => format!("\nserver {{\n{listen}    proxy_pass {name};\n{own}}}\n"),
        None => format!("\nserver {{\n{listen}    return \"\";\n}}\n"),
    }
}
