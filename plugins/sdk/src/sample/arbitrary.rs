//! Any instance that the agent would take.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::{Instance, Readiness, Transport};

/// An instance with any name, address and attributes.
pub fn instance() -> impl Strategy<Value = Instance> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Sctp)];
    let readiness = prop_oneof![Just(Readiness::Ready), Just(Readiness::Draining)];
    let attributes = prop::collection::btree_map("[a-z][a-z0-9-]{0,9}", "\\PC{0,20}", 0..6);
    let place = (any::<IpAddr>(), 1..=u16::MAX);
    (name(), segment(), place, transport, readiness, any::<Option<u16>>(), attributes).prop_map(
        |(service, id, (address, port), transport, readiness, weight, attributes)| Instance {
            service,
            id,
            address: address.to_string(),
            port,
            transport,
            readiness,
            weight,
            attributes: attributes.into_iter().collect(),
        },
    )
}

/// A service name of one to three segments.
pub fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 1..=3).prop_map(|segments| segments.join("/"))
}

/// A segment of a name or an id.
pub fn segment() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,15}"
}
