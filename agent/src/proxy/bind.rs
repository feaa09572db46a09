//! Addresses that a candidate would bind and the files in place do not: can they be bound?
//!
//! `HAProxy` pauses every front end for two seconds while it tries to bind an address that is taken, and its own check
//! does not see that; so one container that wants a taken port could stop all traffic again and again.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::net::TcpSocket;

use super::check::Place;

/// The lines of a candidate that ask for an address which this host cannot give; must run within a tokio runtime.
pub(super) fn taken(staged: &Path, live: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for path in files(staged, Path::new("")) {
        let text = std::fs::read(staged.join(&path)).unwrap_or_default();
        let old = std::fs::read(live.join(&path)).unwrap_or_default();
        let old: BTreeSet<_> = binds(&String::from_utf8_lossy(&old)).into_iter().map(|(_, address)| address).collect();
        for (line, address) in binds(&String::from_utf8_lossy(&text)) {
            if let Some(reason) = Some(address).filter(|address| !old.contains(address)).and_then(refusal) {
                let text = format!("cannot bind {address}: {reason}");
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

/// Line (1-based) and address of every `bind ADDRESS:PORT[,…]`.
fn binds(text: &str) -> Vec<(usize, SocketAddr)> {
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        let mut words = line.split_whitespace();
        (words.next() == Some("bind")).then_some((number + 1, words.next()?))
    });
    lines.flat_map(|(number, all)| all.split(',').filter_map(move |one| Some((number, address(one)?)))).collect()
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
fn refusal(address: SocketAddr) -> Option<&'static str> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    socket.set_reuseaddr(true).ok()?;
    match socket.bind(address).err()?.kind() {
        ErrorKind::AddrInUse => Some("another process has it"),
        ErrorKind::AddrNotAvailable => Some("this host has no such address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_found() {
        let text = "listen a\n    bind *:8000\n  bind 127.0.0.1:5432,[::1]:5432 v4v6\nbind /run/x.sock\nbind :80-90\n# bind *:1\n";
        let found: Vec<_> = binds(text).into_iter().map(|(line, address)| format!("{line} {address}")).collect();
        assert_eq!(found, ["2 0.0.0.0:8000", "3 127.0.0.1:5432", "3 [::1]:5432"]);
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
