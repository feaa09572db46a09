//! Who this host is to the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};

use crate::config::Advertise;

/// The address other hosts reach this one at.
pub(super) fn resolve(advertise: Option<&Advertise>) -> Result<IpAddr> {
    let interfaces = || if_addrs::get_if_addrs().context("network interfaces cannot be listed");
    match advertise {
        Some(Advertise::Address(address)) => Ok(*address),
        Some(Advertise::Interface(name)) => {
            let all = interfaces()?;
            let mut found: Vec<_> = all.iter().filter(|one| one.name == *name).map(if_addrs::Interface::ip).collect();
            found.sort_by_key(|address| (address.is_ipv6(), is_link_local(address), *address));
            let known: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
            found
                .first()
                .copied()
                .with_context(|| format!("interface {name} has no address; found interfaces {}", known.join(", ")))
        }
        Some(Advertise::Network(network)) => {
            let mut found: Vec<_> = interfaces()?.iter().map(if_addrs::Interface::ip).collect();
            found.retain(|address| network.contains(address));
            found.sort();
            found.first().copied().with_context(|| format!("no address of this host lies in {network}"))
        }
        None => outward(),
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The address that traffic to elsewhere would leave from; connecting a datagram socket sends nothing.
fn outward() -> Result<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): routed like any other, owned by nobody.
    let v4 = (Ipv4Addr::UNSPECIFIED.into(), SocketAddr::from(([192, 0, 2, 1], 9)));
    let v6: (IpAddr, SocketAddr) =
        (Ipv6Addr::UNSPECIFIED.into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into());
    for (from, to) in [v4, v6] {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0));
        let local = socket.and_then(|socket| socket.connect(to).and_then(|()| socket.local_addr()));
        if let Ok(local) = local
            && !local.ip().is_unspecified()
        {
            return Ok(local.ip());
        }
    }
    let interfaces = if_addrs::get_if_addrs().context("network interfaces cannot be listed")?;
    let mut found: Vec<_> = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| !is_link_local(ip)).collect();
    found.sort_by_key(|address| (address.is_loopback(), address.is_ipv6(), *address));
    match found.first() {
        Some(address) => Ok(*address),
        None => bail!("this host has no address; set agent.advertise"),
    }
}

/// The name of this host.
pub(super) fn host_name() -> Result<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().context("the host name is not text; set agent.node")?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_and_an_address() {
        assert!(!host_name().unwrap().is_empty());
        assert_eq!(resolve(Some(&Advertise::Interface("lo".into()))).unwrap(), Ipv4Addr::LOCALHOST);
        assert!(resolve(None).is_ok());
        let error = resolve(Some(&Advertise::Interface("nope0".into()))).unwrap_err().to_string();
        assert!(error.starts_with("interface nope0 has no address; found interfaces"), "{error}");
    }
}
