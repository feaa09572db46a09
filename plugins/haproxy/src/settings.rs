//! Defines the settings.

use serde::Deserialize;
use waypost_plugin_sdk::proxy::bind::{Bind, Host, List, first_taken};
use waypost_plugin_sdk::{settings, show};

use crate::names;

pub use settings::{Balance, Line, Switch, Time};

/// Addresses with ports.
pub type Binds = List<Bind, false>;
/// Addresses.
pub type Hosts = List<Host, false>;

/// Where HAProxy listens on `[::]`, it may listen on the IPv4 addresses too.
pub(crate) const DUAL_STACK: bool = true;

/// Most standby backends, and servers of a section; each takes memory in HAProxy (servers some 8 KB).
const PREPARED_LIMIT: u16 = 1000;

/// Settings of this plugin; the README lists them.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Path of HAProxy's stats socket; none without it.
    pub socket: Option<Word>,
    /// Most connections of the process; HAProxy derives it from the file limit when absent.
    pub maxconn: Option<u32>,
    /// How long an old process may finish open connections after a reload.
    pub hard_stop_after: Switch<Time>,
    /// Where the statistics page is served.
    pub stats_bind: Switch<Binds>,
    /// Where http services are served.
    pub http_bind: Switch<Binds>,
    /// Addresses that tcp services are served on, each on its own port.
    pub tcp_bind: Hosts,
    /// How http requests find their service.
    pub routing: Routing,
    /// Name of the service that answers http requests for domains that no service has.
    pub default_service: Option<String>,
    /// How requests are spread over the instances of a service: algorithms that let servers come and go at run time.
    pub balance: Balance,
    /// Whether HAProxy checks servers by itself.
    pub check: bool,
    /// Time between two checks of a server.
    pub check_interval: Time,
    /// Checks that must pass before a server is taken back.
    pub check_rise: u16,
    /// Checks that must fail before a server is left out.
    pub check_fall: u16,
    /// Name of a `resolvers` section that follows the addresses of host names; looked up at start only when absent.
    pub resolvers: Option<Word>,
    /// Backends prepared for http services that come between two reloads.
    pub standby_backends: u16,
    /// Servers prepared in every section, for a HAProxy that cannot add servers.
    pub slots: u16,
    /// Whether HAProxy 3.4 and later makes backends at run time.
    pub dynamic_backends: bool,
    /// Lines added to `global`.
    pub global_lines: Vec<Line>,
    /// Lines added to `defaults`; a later line replaces an earlier one.
    pub defaults_lines: Vec<Line>,
    /// Lines added to the frontend of http services.
    pub http_lines: Vec<Line>,
}

impl Default for Settings {
    fn default() -> Self {
        let on = |port| Switch::On(List(vec![Bind { host: Host::Any, port }]));
        Settings {
            socket: None,
            maxconn: None,
            hard_stop_after: Switch::On(Time("1h".to_owned())),
            stats_bind: on(1936),
            http_bind: on(80),
            tcp_bind: List(vec![Host::Any]),
            routing: Routing::Map,
            default_service: None,
            balance: Balance::Roundrobin,
            check: true,
            check_interval: Time("2s".to_owned()),
            check_rise: 3,
            check_fall: 2,
            resolvers: None,
            standby_backends: 32,
            slots: 0,
            dynamic_backends: true,
            global_lines: Vec::new(),
            defaults_lines: Vec::new(),
            http_lines: Vec::new(),
        }
    }
}

impl Settings {
    /// Returns the number of standby backends: without a socket, a map or http services, none is needed.
    pub fn standbys(&self) -> u16 {
        let wanted = self.socket.is_some() && self.routing == Routing::Map && self.http_bind.get().is_some();
        if wanted { self.standby_backends } else { 0 }
    }
}

impl settings::Settings for Settings {
    fn check(&self) -> Result<(), String> {
        if self.socket.as_ref().is_some_and(|path| !path.0.starts_with('/')) {
            return Err("socket: expected an absolute path".to_owned());
        }
        for (key, number) in [("check-rise", self.check_rise), ("check-fall", self.check_fall)] {
            if number == 0 {
                return Err(format!("{key}: found 0, expected 1 or more"));
            }
        }
        for (key, number) in [("standby-backends", self.standby_backends), ("slots", self.slots)] {
            if number > PREPARED_LIMIT {
                return Err(format!("{key}: found {number}, expected at most {PREPARED_LIMIT}"));
            }
        }
        if self.maxconn == Some(0) {
            return Err("maxconn: found 0, expected 1 or more".to_owned());
        }
        if self.socket.is_none() && self.stats_bind.get().is_none() && self.http_bind.get().is_none() {
            return Err(
                "stats-bind: \"off\" leaves HAProxy without a listener, as `http-bind` is \"off\" too, and without \
                        one it does not start as long as there is no service; set `socket`, or one of the addresses"
                    .to_owned(),
            );
        }
        if let Some(Err(why)) = self.default_service.as_deref().map(names::proxy) {
            let name = show(self.default_service.as_deref().unwrap_or_default());
            return Err(format!("default-service: found {name}, expected the name of a service: {why}"));
        }
        if let (Some(stats), Some(http)) = (self.stats_bind.get(), self.http_bind.get())
            && let Some(taken) = first_taken(&stats.0, &http.0, DUAL_STACK)
        {
            return Err(format!("stats-bind: {taken} is also where `http-bind` listens; expected another port"));
        }
        Ok(())
    }
}

/// How http requests find their service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// One look into `routes.map`.
    Map,
    /// One `acl` and one `use_backend` for each domain.
    Acl,
}

/// One word of HAProxy's language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(pub String);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b':' | b'@' | b'+' | b'-');
        if !text.is_empty() && text.bytes().all(plain) {
            Ok(Word(text))
        } else {
            Err(format!("found {}, expected one word of letters, digits and / . _ : @ + -", show(&text)))
        }
    }
}
