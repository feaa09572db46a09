//! What may be served, what was refused, and what a plugin may return.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Claim, Fragment, Rendering, Service, check_claims, check_fragment};

/// A service that may be served, and its fragments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The service, with the claims that it is denied.
    pub service: Arc<Service>,
    /// Its fragments; at least one.
    pub fragments: Vec<Fragment>,
    /// What it asks for that only one service can have.
    pub(super) claims: Vec<Claim>,
}

impl Served {
    /// Whether both have something that only one service can have.
    pub fn rivals(&self, other: &Served) -> bool {
        let has = |served: &Served, claim: &Claim| !served.service.denied.contains(claim);
        self.claims.iter().any(|claim| other.claims.contains(claim) && has(self, claim) && has(other, claim))
    }
}

/// A form of a service that the proxy's check or the host refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What was refused; none when it is that the service leaves.
    pub version: Option<Arc<Served>>,
    /// What is served instead; nothing when even that is refused.
    pub instead: Option<Arc<Served>>,
    /// Why.
    pub reason: String,
    /// Whether the cause can disappear without a change to the service, such as a port that another process holds.
    pub is_transient: bool,
}

/// A rendering that keeps to the rules, or what does not.
pub(super) fn checked(rendering: Rendering) -> Result<Rendering, String> {
    let Rendering { fragments, claims } = rendering;
    check_claims(&claims).map_err(|error| format!("what the plugin returned is refused: {error}"))?;
    Ok(Rendering { fragments: sound(fragments)?, claims })
}

/// Fragments that keep to the rules, or the first that does not.
pub(super) fn sound(fragments: Vec<Fragment>) -> Result<Vec<Fragment>, String> {
    match fragments.iter().find_map(|fragment| check_fragment(fragment).err()) {
        Some(error) => Err(format!("what the plugin returned is refused: {error}")),
        None => Ok(fragments),
    }
}

/// Services that may be served, by name; a clone is free, and comparing two costs what differs.
pub type Accepted = imbl::OrdMap<Arc<str>, Arc<Served>>;
