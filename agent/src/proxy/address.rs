//! Addresses that a proxy listens on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// An address that a proxy listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    pub(super) address: SocketAddr,
    pub(super) udp: bool,
}

impl Bind {
    /// Whether one of these is the same port under a wider or a narrower address.
    pub fn is_among(&self, binds: &BTreeSet<Bind>) -> bool {
        binds.contains(self) || binds.iter().any(|other| other.overlaps(self))
    }

    pub(super) fn overlaps(&self, other: &Bind) -> bool {
        let (one, two) = (self.address.ip(), other.address.ip());
        (self.address.port(), self.udp) == (other.address.port(), other.udp)
            && (one == two || one.is_unspecified() || two.is_unspecified())
    }
}
