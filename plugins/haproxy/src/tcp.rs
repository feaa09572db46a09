//! Renders a tcp service: a `listen` section on the port that its consumers know.

use waypost_plugin_sdk::proxy::bind::{Bind, refuse_taken};
use waypost_plugin_sdk::proxy::instances;
use waypost_plugin_sdk::{Fragment, Service};

use crate::files::{configuration, section};
use crate::names;
use crate::server::{Server, slots};
use crate::settings::{DUAL_STACK, Settings};

/// A tcp service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) servers: Vec<Server>,
    /// Where consumers connect.
    pub(crate) port: u16,
}

impl Tcp {
    /// Returns the claim to the port.
    pub(crate) fn claim(&self) -> String {
        format!("port {}", self.port)
    }

    /// Checks that no other service has the port.
    ///
    /// # Errors
    /// Another service has it.
    pub(crate) fn deny(&self, denied: &[String]) -> Result<(), String> {
        let claim = self.claim();
        if denied.contains(&claim) {
            return Err(format!("another service has the {claim}; give it another listen-port"));
        }
        Ok(())
    }
}

/// Reads a tcp service. The first port that a server names decides; `skip` gets the servers that name another.
///
/// # Errors
/// The port is missing, or a section of Waypost's own has it.
pub(crate) fn read(
    settings: &Settings,
    servers: Vec<(Server, Option<u16>)>,
    skip: &mut dyn FnMut(&str, &str),
) -> Result<Tcp, String> {
    let port = instances::listen_port("tcp", &servers)?;
    refuse_own(settings, &settings.tcp_bind.at(port).0)?;
    Ok(Tcp { servers: instances::agreed(port, servers, |server, reason| skip(&server.id, reason)), port })
}

/// Renders the section, and its line in the list of ports.
pub(crate) fn fragments(
    settings: &Settings,
    service: &Service,
    name: &str,
    Tcp { servers, port }: &Tcp,
) -> Vec<Fragment> {
    let mut lines = format!("    bind {}\n    mode tcp\n", settings.tcp_bind.at(*port));
    lines.extend(servers.iter().map(|server| server.line(settings)));
    lines += &slots(settings);
    vec![
        configuration("50 ports", "\n# Ports of tcp services\n"),
        configuration(format!("51 port {port:05}"), format!("# {port} {name}\n")),
        section(service, name, "listen", &lines),
    ]
}

/// Refuses a port of Waypost's own. HAProxy would silently listen twice and split the connections between both.
fn refuse_own(settings: &Settings, binds: &[Bind]) -> Result<(), String> {
    let own = [
        (settings.stats_bind.get(), "stats-bind", names::STATISTICS),
        (settings.http_bind.get(), "http-bind", names::HTTP_FRONTEND),
    ];
    own.into_iter().try_for_each(|(taken, setting, holder)| {
        let taken = taken.map(|binds| binds.0.as_slice()).unwrap_or_default();
        refuse_taken(binds, taken, DUAL_STACK, (holder, setting))
    })
}
