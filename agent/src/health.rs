//! What keeps a container out of discovery, whatever it offers.

use std::sync::Arc;

use tracing::debug;

use crate::model::{Container, Containers, Health};

/// Label that keeps a container out; any value but `false`, `0` or nothing counts.
const IGNORE: &str = "waypost.ignore";

/// The containers whose instances may be registered now.
pub fn admitted(containers: &Containers) -> Containers {
    let admitted = containers.iter().filter(|(id, container)| {
        let reason = held_back(container);
        if let Some(reason) = reason {
            debug!(container = %id, reason, "held back");
        }
        reason.is_none()
    });
    admitted.map(|(id, container)| (Arc::clone(id), Arc::clone(container))).collect()
}

/// Why the instances of a container must not be registered now; `None` when they may.
fn held_back(container: &Container) -> Option<&'static str> {
    let ignored = container.labels.get(IGNORE).is_some_and(|value| !matches!(value.trim(), "" | "0" | "false"));
    match container.health {
        _ if ignored => Some("its label waypost.ignore says so"),
        _ if container.paused => Some("it is paused"),
        Health::Starting => Some("its health check has not passed yet"),
        Health::Unhealthy => Some("its health check fails"),
        Health::Unchecked | Health::Healthy => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_up_and_wanted_is_admitted() {
        let container = |health, paused, label: Option<&str>| Container {
            id: String::new(),
            name: String::new(),
            hostname: String::new(),
            image: String::new(),
            network_mode: String::new(),
            labels: label.map(|value| (IGNORE.to_owned(), value.to_owned())).into_iter().collect(),
            environment: crate::model::Attributes::new(),
            ports: Vec::new(),
            attachments: Vec::new(),
            health,
            started_at: 0,
            paused,
            stopping: false,
        };
        let cases = [
            (container(Health::Unchecked, false, None), true),
            (container(Health::Healthy, false, Some("false")), true),
            (container(Health::Healthy, false, Some("true")), false),
            (container(Health::Healthy, false, Some("anything")), false),
            (container(Health::Starting, false, None), false),
            (container(Health::Unhealthy, false, None), false),
            (container(Health::Healthy, true, None), false),
        ];
        for (container, expected) in cases {
            assert_eq!(held_back(&container).is_none(), expected, "{container:?}");
        }
    }
}
