//! What is on disk, and what differs from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Claim;
use crate::output::Served;
use crate::output::claims::{Held, Holders};

/// A service as it is in the files, and since when it is gone, in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) served: Arc<Served>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) departed: Option<u64>,
}

/// What differs from what is on disk.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Forget everything else.
    pub(super) is_all: bool,
    /// Services; without a value those that left.
    pub(super) services: Vec<(Arc<str>, Option<Known>)>,
    /// Claims; without a value those that nobody has any more.
    pub(super) claims: Vec<(Claim, Option<Held>)>,
}

/// What an earlier agent left.
#[derive(Default)]
pub(super) struct Record {
    pub(super) services: BTreeMap<Arc<str>, Known>,
    pub(super) claims: Holders,
}
