//! The network that a test's hosts share.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::etcd::Etcd;
use crate::host::Host;
use crate::leftovers::{self, PREFIX};

/// A bridge, a first host with the address 10.77.0.1 that it belongs to, and the hosts that joined it.
pub struct Network {
    joined: Cell<u8>,
    hub: Host,
    dir: TempDir,
}

impl Network {
    /// A network without hosts but the hub.
    #[allow(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Network {
        let temporary = std::env::temp_dir();
        leftovers::sweep(&temporary);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix(&prefix).rand_bytes(4).disable_cleanup(leftovers::kept()).tempdir();
        let dir = dir.expect("a temporary directory");
        let hub = Host::start("hub", Ipv4Addr::new(10, 77, 0, 1), dir.path().join("hub"));
        hub.ip(&["link", "add", "bridge0", "type", "bridge"]);
        hub.ip(&["addr", "add", "10.77.0.1/24", "dev", "bridge0"]);
        hub.ip(&["link", "set", "bridge0", "up"]);
        Network { joined: Cell::new(1), hub, dir }
    }

    /// The host that the bridge belongs to: registry, name server and clients run here.
    pub fn hub(&self) -> &Host {
        &self.hub
    }

    /// A directory for files of the test itself.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// A further host, joined to the bridge with the next address: 10.77.0.2, 10.77.0.3 and so on.
    pub fn host(&self, name: &str) -> Host {
        let number = self.joined.get() + 1;
        self.joined.set(number);
        let address = Ipv4Addr::new(10, 77, 0, number);
        let host = Host::start(name, address, self.dir.path().join(name));
        let (port, init) = (format!("port{number}"), host.init().to_string());
        self.hub.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &init]);
        self.hub.ip(&["link", "set", &port, "master", "bridge0", "up"]);
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        host.ip(&["link", "set", "eth0", "up"]);
        host.ip(&["route", "add", "default", "via", "10.77.0.1"]);
        host
    }

    /// Starts etcd on the hub.
    pub fn etcd(&self) -> Etcd<'_> {
        Etcd::start(&self.hub)
    }
}
