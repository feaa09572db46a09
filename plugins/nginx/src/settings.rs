//! Defines the settings.

use serde::Deserialize;
use waypost_plugin_sdk::proxy::bind::{Bind, Host, List};
use waypost_plugin_sdk::{settings, show};

mod value;

pub use settings::{Balance, Line, Switch, Time};
pub use value::{Size, Stream};

/// Different addresses with ports: nginx refuses an address that it is given twice.
pub type Binds = List<Bind, true>;
/// Different addresses.
pub type Hosts = List<Host, true>;

/// Where nginx listens on `[::]`, it does not listen on the IPv4 addresses.
pub(crate) const DUAL_STACK: bool = false;

/// Most connections of one worker that can be set; four files for each stay below what a kernel allows by default.
const CONNECTIONS_LIMIT: u32 = 250_000;

/// Settings of this plugin; the README lists them.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Where http services are served.
    pub http_bind: Switch<Binds>,
    /// Addresses that tcp and udp services are served on, each on its own port.
    pub tcp_bind: Hosts,
    /// Whether nginx has its stream module, without which it carries neither tcp nor udp.
    pub stream: Stream,
    /// Whether domains that no service has are answered here.
    pub default_server: bool,
    /// What they are answered with.
    pub default_status: u16,
    /// Name of the service that answers them instead.
    pub default_service: Option<String>,
    /// How requests are spread over the instances of a service.
    pub balance: Balance,
    /// Idle connections to the instances of a service that each worker keeps.
    pub keepalive: u32,
    /// Failures after which an instance is left out for a while; 0 for never.
    pub max_fails: u16,
    /// How long it is left out, and how close together the failures are.
    pub fail_timeout: Time,
    /// How long a connection to an instance may take.
    pub connect_timeout: Time,
    /// Largest body of a request.
    pub client_max_body_size: Size,
    /// How long a tcp connection may rest.
    pub tcp_timeout: Time,
    /// How long a udp session may rest.
    pub udp_timeout: Time,
    /// Datagrams that answer one of a client's; nginx counts them to see whether an instance lives, and to end sessions.
    pub udp_responses: Option<u32>,
    /// Whether instances may have host names for addresses.
    pub host_names: bool,
    /// Connections of one worker of `nginx.conf`.
    pub worker_connections: u32,
    /// Lines added to `nginx.conf`.
    pub main_lines: Vec<Line>,
    /// Lines added to the `http` block of `nginx.conf`.
    pub http_lines: Vec<Line>,
    /// Lines added to every `server` of `http.conf`.
    pub server_lines: Vec<Line>,
}

impl Default for Settings {
    fn default() -> Self {
        let time = |text: &str| Time(text.to_owned());
        Settings {
            http_bind: Switch::On(List(vec![Bind { host: Host::Any, port: 80 }])),
            tcp_bind: List(vec![Host::Any]),
            stream: Stream::Off,
            default_server: true,
            default_status: 503,
            default_service: None,
            balance: Balance::Roundrobin,
            keepalive: 32,
            max_fails: 1,
            fail_timeout: time("2s"),
            connect_timeout: time("2s"),
            client_max_body_size: Size("1m".to_owned()),
            tcp_timeout: time("1h"),
            udp_timeout: time("30s"),
            udp_responses: None,
            host_names: false,
            worker_connections: 4096,
            main_lines: Vec::new(),
            http_lines: Vec::new(),
            server_lines: Vec::new(),
        }
    }
}

impl settings::Settings for Settings {
    fn check(&self) -> Result<(), String> {
        if !(400..600).contains(&self.default_status) {
            return Err(format!("default-status: found {}, expected 400 to 599", self.default_status));
        }
        if self.default_service.as_deref() == Some("") {
            return Err("default-service: found \"\", expected the name of a service, or no such setting".to_owned());
        }
        if let (Some(name), false) = (&self.default_service, self.default_server) {
            return Err(format!(
                "default-service: found {} with `default-server = false`, where no server of Waypost's answers unknown \
                 domains; remove one of the two, and write `proxy_pass` to the service's upstream into your own server",
                show(name)
            ));
        }
        if self.fail_timeout.0.ends_with("ms") {
            return Err(format!("fail-timeout: found {:?}, nginx takes whole seconds here", self.fail_timeout.0));
        }
        if self.udp_responses == Some(0) {
            return Err("udp-responses: found 0, expected 1 or more, or none for any number".to_owned());
        }
        if !(16..=CONNECTIONS_LIMIT).contains(&self.worker_connections) {
            let found = self.worker_connections;
            return Err(format!("worker-connections: found {found}, expected 16 to {CONNECTIONS_LIMIT}"));
        }
        if self.keepalive > CONNECTIONS_LIMIT {
            return Err(format!("keepalive: found {}, expected at most {CONNECTIONS_LIMIT}", self.keepalive));
        }
        Ok(())
    }
}
