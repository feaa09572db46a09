//! Sets of services, compared.

use std::sync::Arc;

use crate::model::Change;
use crate::output::{Accepted, Served};

/// Whether two sets of services are the same; costs what differs.
pub(super) fn same(one: &Accepted, other: &Accepted) -> bool {
    one.ptr_eq(other) || one.diff(other).next().is_none()
}

/// A service before and after, as plugins are told.
pub fn change(before: Option<&Arc<Served>>, after: Option<&Arc<Served>>) -> Change {
    let service = |served: &Arc<Served>| Arc::clone(&served.service);
    Change { before: before.map(service), after: after.map(service) }
}
