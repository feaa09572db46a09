//! What a transaction does with each of its keys.

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

/// What happens to a key. A `lease` is a new one: `None` until the executor has granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Write an own entry under the agent's lease.
    Put { value: Arc<str> },
    /// Delete an own entry, unless it has left the agent's lease.
    Delete,
    /// Move an own entry to a lease that nobody keeps alive, unless it has left the agent's lease.
    Detach { value: Arc<str>, lease: Option<i64> },
    /// Leave an own entry to the host that holds the key.
    LeaveTo(Contested),
    /// Write a shared entry under a lease of its own.
    PutShared { value: Arc<str>, lease: Option<i64> },
    /// Leave a shared entry as it is, and hold it from now on.
    HoldShared { value: Arc<str>, hold: Hold },
    /// Delete a shared entry, which nobody else holds.
    DeleteShared,
    /// Leave a shared entry to its other holders, or to the end of its lease.
    Release,
}

impl Action {
    /// Where the executor puts the lease that it grants for this action.
    pub(super) fn granted(&mut self) -> Option<&mut Option<i64>> {
        match &mut self.change {
            Change::Detach { lease, .. } | Change::PutShared { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Notes in the session what was done.
    fn record(self, session: &mut Session) {
        let key = self.key;
        let before = session.forget(&key);
        match self.change {
            Change::Put { value } => drop(session.own.insert(key, value)),
            Change::LeaveTo(contested) => drop(session.contested.insert(key, contested)),
            Change::PutShared { value, lease } => {
                session.hold_shared(key, value, Hold::Lease(lease.unwrap_or_default()), before.as_ref());
            }
            Change::HoldShared { value, hold } => session.hold_shared(key, value, hold, before.as_ref()),
            Change::Delete | Change::Detach { .. } | Change::DeleteShared | Change::Release => {}
        }
    }
}

/// Notes in the session what a transaction has done.
pub(super) fn record(session: &mut Session, actions: Vec<Action>) {
    actions.into_iter().for_each(|action| action.record(session));
    session.note_siblings();
}
