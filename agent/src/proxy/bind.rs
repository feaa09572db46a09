//! Addresses that a candidate would bind and the files in place do not: can they be bound?
//!
//! `HAProxy` pauses every front end for two seconds while it tries to bind an address that is taken, and its own check
//! does not see that; so one container that wants a taken port could stop all traffic again and again. nginx tries for two
//! and a half and then goes on with its old files, whose routes no other service can change any more.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::net::TcpSocket;

use super::check::Place;

/// An address that a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bind {
    address: SocketAddr,
    udp: bool,
}

/// The lines of a candidate that ask for an address which this host cannot give; must run within a tokio runtime.
pub(super) fn taken(staged: &Path, live: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for path in files(staged, Path::new("")) {
        let text = std::fs::read(staged.join(&path)).unwrap_or_default();
        let old = std::fs::read(live.join(&path)).unwrap_or_default();
        let old: BTreeSet<_> = binds(&String::from_utf8_lossy(&old)).into_iter().map(|(_, bind)| bind).collect();
        for (line, bind) in binds(&String::from_utf8_lossy(&text)) {
            // The proxy that runs may have the same port under a wider or a narrower address.
            let ours = old.iter().any(|old| {
                let (one, other) = (old.address.ip(), bind.address.ip());
                let overlap = one == other || one.is_unspecified() || other.is_unspecified();
                (old.address.port(), old.udp) == (bind.address.port(), bind.udp) && overlap
            });
            if let Some(reason) = Some(bind).filter(|_| !ours).and_then(refusal) {
                let text = format!("cannot bind {}: {reason}", bind.address);
                places.push(Place { path: path.clone(), line, text, may_pass: true });
            }
        }
    }
    places
}

fn files(root: &Path, below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(below)).into_iter().flatten().flatten() {
        let path = below.join(entry.file_name());
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => found.extend(files(root, &path)),
            Ok(kind) if kind.is_file() && !hidden => found.extend(path.to_str().map(str::to_owned)),
            _ => {}
        }
    }
    found
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
fn refusal(Bind { address, udp }: Bind) -> Option<&'static str> {
    let error = if udp { std::net::UdpSocket::bind(address).err()? } else { tcp_error(address)? };
    match error.kind() {
        ErrorKind::AddrInUse => Some("another process has it"),
        ErrorKind::AddrNotAvailable => Some("this host has no such address"),
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

    #[test]
    fn datagrams_have_ports_of_their_own() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy = socket.local_addr().unwrap();
        let (staged, live) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |dir: &tempfile::TempDir, options: &str| {
            std::fs::write(dir.path().join("stream.conf"), format!("listen {busy}{options};\n")).unwrap();
        };
        write(&staged, " udp reuseport");
        write(&live, "");
        let found: Vec<_> = taken(staged.path(), live.path()).into_iter().map(|place| place.text).collect();
        assert_eq!(found, [format!("cannot bind {busy}: another process has it")]);
        write(&live, " udp");
        assert_eq!(taken(staged.path(), live.path()), []);
    }

    #[tokio::test]
    async fn only_new_addresses_that_are_taken_count() {
        let taken_by_us = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = taken_by_us.local_addr().unwrap();
        let (staged, live) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = format!("listen a\n bind {busy}\n bind 203.0.113.7:1\n");
        std::fs::write(staged.path().join("x.cfg"), &text).unwrap();
        let found: Vec<_> =
            taken(staged.path(), live.path()).into_iter().map(|place| (place.line, place.text)).collect();
        let expected = [
            (2, format!("cannot bind {busy}: another process has it")),
            (3, "cannot bind 203.0.113.7:1: this host has no such address".to_owned()),
        ];
        assert_eq!(found, expected);
        std::fs::write(live.path().join("x.cfg"), &text).unwrap();
        assert_eq!(taken(staged.path(), live.path()), []);
    }
}
