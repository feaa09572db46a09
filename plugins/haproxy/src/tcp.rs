//! A tcp service: a `listen` section on the port that its consumers know.

use waypost_plugin_sdk::{Instance, Part, Service, attributes, show};

use crate::members::Server;
use crate::settings::{Bind, Settings};
use crate::{configuration, leave_out, names, section};

/// The port an instance names for its consumers; none when it leaves that to its peers.
///
/// # Errors
/// Says what was found instead of a port.
pub(crate) fn listen_port(instance: &Instance) -> Result<Option<u16>, String> {
    let Some(text) = attributes::get(&instance.attributes, "listen-port") else { return Ok(None) };
    match text.parse() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(Some(port)),
        _ => Err(format!("its listen-port is {}, expected a number from 1 to 65535", show(text))),
    }
}

/// The section, and the claim to its port.
///
/// # Errors
/// The port is missing, or taken by a section of Waypost's own.
pub(crate) fn parts(
    settings: &Settings,
    service: &Service,
    name: &str,
    servers: &[(Server, Option<u16>)],
) -> Result<Vec<Part>, String> {
    let Some(port) = servers.iter().find_map(|(_, port)| *port) else {
        return Err(
            "it speaks tcp, but no instance has the attribute listen-port, the port its consumers connect to; \
                    for http, the attribute protocol must say so"
                .to_owned(),
        );
    };
    let binds: Vec<Bind> = settings.tcp_bind.0.iter().map(|&host| Bind { host, port }).collect();
    refuse_own(settings, &binds)?;

    let addresses: Vec<String> = binds.iter().map(Bind::to_string).collect();
    let mut lines = format!("    bind {}\n    mode tcp\n", addresses.join(","));
    for (server, other) in servers {
        if let Some(other) = other.filter(|other| *other != port) {
            let reason = format!("its listen-port is {other}, the service's first instance says {port}");
            leave_out(service, &server.id, &reason);
            continue;
        }
        lines += &server.line;
    }
    Ok(vec![
        configuration("50 ports", "\n# Ports of tcp services\n"),
        configuration(format!("51 port {port:05}"), format!("# {port} {name}\n")),
        section(service, name, "listen", &lines),
    ])
}

/// HAProxy would take the port twice without a word and hand it some connections for each.
fn refuse_own(settings: &Settings, binds: &[Bind]) -> Result<(), String> {
    let own = [
        (settings.stats_bind.get(), "stats-bind", names::STATISTICS),
        (settings.http_bind.get(), "http-bind", names::HTTP_FRONTEND),
    ];
    for (taken, setting, holder) in own {
        let taken = taken.map(|binds| binds.0.as_slice()).unwrap_or_default();
        if let Some(bind) = binds.iter().find(|bind| taken.iter().any(|taken| taken.overlaps(bind))) {
            return Err(format!(
                "its listen-port {} belongs to {holder} (setting `{setting}`); give the service another listen-port, or \
                 change the setting",
                bind.port
            ));
        }
    }
    Ok(())
}
