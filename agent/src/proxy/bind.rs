//! Addresses that files bind, and whether those that a proxy does not have yet can be bound.
//!
//! `HAProxy` pauses every frontend for two seconds while it tries to bind an address that is taken, and its own check
//! does not see that; so one container that wants a taken port could stop all traffic again and again. nginx tries for two
//! and a half and then goes on with its old files, whose routes no other service can change any more.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpSocket;

use super::address::Bind;
use super::check::Location;
use super::listener;
use crate::dialect::binds;

/// A line that asks for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// File below the output's directory.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// The address.
    pub bind: Bind,
}

/// Every line of these files that asks for an address.
pub fn asked(files: &BTreeMap<String, Arc<str>>) -> Vec<Asked> {
    let of = |(path, text): (&String, &Arc<str>)| -> Vec<Asked> {
        let asked = |(line, address, udp)| Asked { path: path.clone(), line, bind: Bind { address, udp } };
        binds(text).into_iter().map(asked).collect()
    };
    files.iter().flat_map(of).collect()
}

/// The lines that ask for an address which this host cannot give; who has it may be `ours`, which is no obstacle. Must
/// run within a tokio runtime.
pub(super) fn refused(asked: &[Asked], ours: impl Fn(u32) -> bool) -> Vec<Location> {
    let location = |one: &Asked| {
        let why = refusal(one.bind, &ours)?;
        let text = format!("cannot bind {}: {why}", one.bind.address);
        Some(Location { path: one.path.clone(), line: one.line, text, is_transient: true })
    };
    asked.iter().filter_map(location).collect()
}

/// Why an address cannot be bound; what depends on who asks (privileged ports) is left to the proxy.
fn refusal(bind: Bind, ours: impl Fn(u32) -> bool) -> Option<String> {
    let Bind { address, udp } = bind;
    let error = if udp { std::net::UdpSocket::bind(address).err()? } else { tcp_error(address)? };
    match error.kind() {
        ErrorKind::AddrInUse => match listener::of(bind) {
            listeners if !listeners.is_empty() && listeners.iter().all(|one| ours(one.pid)) => None,
            listeners => {
                let other = listeners.into_iter().find(|one| !ours(one.pid));
                Some(other.map_or("another process has it".to_owned(), |one| {
                    format!("{} (pid {}) has it", one.name, one.pid)
                }))
            }
        },
        ErrorKind::AddrNotAvailable => Some("this host has no such address".to_owned()),
        _ => None,
    }
}

/// With the address free for one who comes right after another, as the proxies have it.
fn tcp_error(address: SocketAddr) -> Option<std::io::Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind(address).err()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn files(text: &str) -> BTreeMap<String, Arc<str>> {
        [("x.cfg".to_owned(), Arc::from(text))].into()
    }

    fn found(text: &str, ours: bool) -> Vec<(usize, String)> {
        refused(&asked(&files(text)), |_| ours).into_iter().map(|location| (location.line, location.text)).collect()
    }

    #[test]
    fn datagrams_have_ports_of_their_own() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy = socket.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _guard = runtime.enter();
        let all = found(&format!("listen {busy} udp reuseport;\n"), false);
        assert!(matches!(&all[..], [(1, text)] if text.starts_with(&format!("cannot bind {busy}: "))), "{all:?}");
        let one = asked(&files(&format!("listen {busy} udp;\n")))[0].bind;
        assert!(!Bind { udp: false, ..one }.is_among(&[one].into()) && one.is_among(&[one].into()));
        let every = Bind { address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), busy.port()), udp: true };
        assert!(one.is_among(&[every].into()) && every.is_among(&[one].into()));
    }

    #[tokio::test]
    async fn addresses_that_somebody_else_has_are_refused_and_he_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = taken.local_addr().unwrap();
        let text = format!("listen a\n bind {busy}\n bind 203.0.113.7:1\n");
        let all = found(&text, false);
        assert_eq!(all[1], (3, "cannot bind 203.0.113.7:1: this host has no such address".to_owned()));
        let own = format!("(pid {}) has it", std::process::id());
        assert!(all[0].0 == 2 && all[0].1.ends_with(&own), "{all:?}");
        // The proxy itself is no obstacle to what it is to do.
        assert_eq!(found(&text, true).len(), 1);
    }
}
