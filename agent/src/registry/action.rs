//! What a transaction does with each of its keys, and how the session changes by it.

use std::sync::Arc;

use super::session::{Contested, Hold, Session};

/// One part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) key: String,
    pub(super) change: Change,
    /// What must hold, or the whole transaction changes nothing.
    pub(super) guards: Vec<Guard>,
}

/// What must hold for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The key is under this lease; a key that is not there counts as under 0.
    Lease(i64),
    /// The key is not there.
    Absent,
    /// Nobody has written the key since this revision.
    Unchanged(i64),
    /// Nobody has written to the key's directory after this revision.
    QuietDirectory(i64),
}

/// What happens to a key. A `lease` that is optional is a new one: `None` until the executor has granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Write an own entry under the agent's lease.
    Put { value: Arc<str> },
    /// Delete an own entry, unless it has left the agent's lease.
    Delete,
    /// Leave an own entry to the host that holds the key.
    LeaveTo(Contested),
    /// Move an own entry to a lease that nobody keeps alive.
    Detach { value: Arc<str>, lease: Option<i64> },
    /// Write a shared entry under a lease of its own.
    PutShared { value: Arc<str>, lease: Option<i64> },
    /// Help to keep the lease of a shared entry alive.
    Join { value: Arc<str>, lease: i64 },
    /// Leave a shared entry without a lease as it is.
    Accept { value: Arc<str> },
    /// Wait until another value of a shared entry is gone.
    Wait { value: Arc<str>, other: String },
    /// Delete a shared entry, which nobody else holds.
    DeleteShared,
    /// Leave a shared entry to its other holders, or to the end of its lease.
    Release,
}

impl Action {
    /// Where the executor puts the lease that it grants for this action.
    pub(super) fn granted_mut(&mut self) -> Option<&mut Option<i64>> {
        match &mut self.change {
            Change::Detach { lease, .. } | Change::PutShared { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// The lease that the executor granted for this action.
    pub(super) fn granted(&self) -> Option<i64> {
        match self.change {
            Change::Detach { lease, .. } | Change::PutShared { lease, .. } => lease,
            _ => None,
        }
    }

    /// Notes in the session what was done.
    pub(super) fn record(&self, session: &mut Session) {
        let key = &self.key;
        match &self.change {
            Change::Put { value } => {
                session.contested.remove(key);
                session.shared.remove(key);
                session.own.insert(key.clone(), value.clone());
            }
            Change::Delete => session.release_own(key),
            Change::LeaveTo(contested) => {
                session.own.remove(key);
                session.contested.insert(key.clone(), contested.clone());
            }
            Change::Detach { .. } => {
                session.own.remove(key);
            }
            Change::PutShared { value, lease } => {
                session.hold_shared(key, value, Hold::Lease(lease.unwrap_or_default()));
            }
            Change::Join { value, lease } => session.hold_shared(key, value, Hold::Lease(*lease)),
            Change::Accept { value } => session.hold_shared(key, value, Hold::Permanent),
            Change::Wait { value, other } => session.hold_shared(key, value, Hold::Contested(other.clone())),
            Change::DeleteShared | Change::Release => {
                session.shared.remove(key);
            }
        }
    }
}
