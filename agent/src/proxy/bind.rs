//! Addresses that files bind, and whether those that a proxy does not have yet can be bound.
//!
//! `HAProxy` pauses every frontend for two seconds while it tries to bind an address that is taken, and its own check
//! does not see that; so one container that wants a taken port could stop all traffic again and again. nginx tries for two
//! and a half and then goes on with its old files, whose routes no other service can change any more.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpSocket;

use super::address::Bind;
use super::check::Place;
use super::listener;

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
        binds(text).into_iter().map(|(line, bind)| Asked { path: path.clone(), line, bind }).collect()
    };
    files.iter().flat_map(of).collect()
}

/// The lines that ask for an address which this host cannot give; who has it may be `ours`, which is no obstacle. Must
/// run within a tokio runtime.
pub(super) fn refused(asked: &[Asked], ours: impl Fn(u32) -> bool) -> Vec<Place> {
    let place = |one: &Asked| {
        let why = refusal(one.bind, &ours)?;
        let text = format!("cannot bind {}: {why}", one.bind.address);
        Some(Place { path: one.path.clone(), line: one.line, text, may_pass: true })
    };
    asked.iter().filter_map(place).collect()
}

/// Line (1-based) and address of every `bind ADDRESS:PORT[,…]` of `HAProxy`, and of every `listen ADDRESS:PORT [udp] …;` of nginx's
/// streams. Listeners of http, in a file with server names, are left out: a server of the operator's may have the same.
fn binds(text: &str) -> Vec<(usize, Bind)> {
    let is_http = text.contains("server_name ") || text.contains(" default_server;");
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        let (words, nginx) = line.trim_end().strip_suffix(';').map_or((line, false), |words| (words, true));
        let mut words = words.split_whitespace();
        let wanted = match words.next() {
            Some("bind") => !nginx,
            Some("listen") => nginx && !is_http,
            _ => false,
        };
        let addresses = words.next().filter(|_| wanted)?;
        Some((number + 1, addresses, words.any(|word| nginx && word == "udp")))
    });
    let each = |(number, all, udp): (usize, &'_ str, bool)| {
        let found = all.split(',').filter_map(address).map(|address| (number, Bind { address, udp }));
        found.collect::<Vec<_>>()
    };
    lines.flat_map(each).collect()
}

/// `*:80`, `:80`, `10.0.0.1:80`, `[::]:80`; other forms (names, sockets, ranges) are left to the proxy.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host: IpAddr = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "*" | "0.0.0.0" => Ipv4Addr::UNSPECIFIED.into(),
        "::" => Ipv6Addr::UNSPECIFIED.into(),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(host, port.parse().ok()?))
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
    use super::*;

    #[test]
    fn binds_are_found() {
        let text = "listen a\n    bind *:8000\n  bind 127.0.0.1:5432,[::1]:5432 v4v6\nbind /run/x.sock\nbind :80-90\n# bind *:1\n";
        let found: Vec<_> = binds(text).into_iter().map(|(line, bind)| format!("{line} {}", bind.address)).collect();
        assert_eq!(found, ["2 0.0.0.0:8000", "3 127.0.0.1:5432", "3 [::1]:5432"]);
    }

    #[test]
    fn listeners_of_streams_are_found() {
        let found = |text: &str| -> Vec<_> {
            binds(text).into_iter().map(|(line, bind)| format!("{line} {} {}", bind.address, bind.udp)).collect()
        };
        let text = "server {\n    listen *:5432;\n    listen [::1]:53 udp reuseport;\n    listen unix:/x;\n}\n";
        assert_eq!(found(text), ["2 0.0.0.0:5432 false", "3 [::1]:53 true"]);
        assert_eq!(found("server {\n    listen *:80;\n    server_name a.example;\n}\n"), [""; 0]);
        assert_eq!(found("server {\n    listen *:80 default_server;\n    return 503;\n}\n"), [""; 0]);
        assert_eq!(found("listen 10.0.0.1:80\n    mode tcp\n"), [""; 0], "a section of HAProxy's with such a name");
    }

    fn files(text: &str) -> BTreeMap<String, Arc<str>> {
        [("x.cfg".to_owned(), Arc::from(text))].into()
    }

    fn found(text: &str, ours: bool) -> Vec<(usize, String)> {
        refused(&asked(&files(text)), |_| ours).into_iter().map(|place| (place.line, place.text)).collect()
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
