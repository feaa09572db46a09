//! Renders the servers of a section.

use waypost_plugin_sdk::{Instance, Readiness};

use crate::names::{self, Endpoint, SLOT};
use crate::settings::Settings;

/// The options of every server. A container that listens only after its first check would wait for three more at 2 s each
/// (5.7 s on HAProxy 2.6); the shorter intervals make that 0.7 s.
pub(crate) const DEFAULT_SERVER: &str = "fastinter 200ms downinter 500ms";

/// An instance as a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// The instance's id, which is the server's name as well.
    pub(crate) id: String,
    /// Where it listens.
    pub(crate) endpoint: Endpoint,
    /// Its weight; HAProxy's default when absent.
    pub(crate) weight: Option<u16>,
}

impl Server {
    /// Reads the server of an instance. A server of weight 0 keeps open connections and gets no new ones.
    ///
    /// # Errors
    /// Says what HAProxy does not accept.
    pub(crate) fn read(instance: &Instance) -> Result<Self, String> {
        let id = names::server(&instance.id)?.to_owned();
        let endpoint = names::endpoint(&instance.address, instance.port)?;
        let weight = match instance.readiness {
            Readiness::Draining | Readiness::Gone => Some(0),
            Readiness::Ready => instance.weight,
        };
        Ok(Server { id, endpoint, weight })
    }

    /// Renders its line in a section.
    pub(crate) fn line(&self, settings: &Settings) -> String {
        let weight = self.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        // An unknown name takes its server down and does not make the whole file invalid.
        let lookup = match (self.endpoint.is_name, &settings.resolvers) {
            // With resolvers, HAProxy need not wait at its start until the system has found the name.
            (true, Some(resolvers)) => format!(" resolvers {} init-addr last,none", resolvers.0),
            (true, None) => " init-addr last,libc,none".to_owned(),
            (false, _) => String::new(),
        };
        format!("    server {} {}{}{weight}{lookup}\n", self.id, self.endpoint, check(settings))
    }
}

/// Renders the options of a server's checks, with a space before them; empty when HAProxy does not check.
pub(crate) fn check(settings: &Settings) -> String {
    let Settings { check, check_interval, check_rise, check_fall, .. } = settings;
    if *check {
        format!(" check inter {} rise {check_rise} fall {check_fall}", check_interval.0)
    } else {
        String::new()
    }
}

/// Renders the prepared servers of a section; they get an address when they are used.
pub(crate) fn slots(settings: &Settings) -> String {
    match settings.slots {
        0 => String::new(),
        count => format!("    server-template {SLOT} 1-{count} 127.0.0.1:1{} disabled\n", check(settings)),
    }
}
