//! What keeps a container out of discovery, whatever it offers.

use crate::model::{Container, Health};

/// Label that keeps a container out; any value but `false`, `0` or nothing counts.
const IGNORE: &str = "waypost.ignore";

/// Why the instances of a container must not be registered now; `None` when they may.
pub fn held_back(container: &Container) -> Option<&'static str> {
    let ignored = container.labels.get(IGNORE).is_some_and(|value| !matches!(value.trim(), "" | "0" | "false"));
    match container.health {
        _ if ignored => Some("its label waypost.ignore says so"),
        _ if container.paused => Some("it is paused"),
        Health::Starting => Some("its health check has not passed yet"),
        Health::Unhealthy => Some("its health check fails"),
        Health::Unchecked | Health::Healthy => None,
    }
}
