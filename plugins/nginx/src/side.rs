//! What a service is by one transport, and the two together.

use waypost_plugin_sdk::{Fragment, PluginError, Rendering, Service, log, refuse, show};

/// What a service is by one transport.
pub(crate) struct Side {
    /// What only one service can have, whatever this one is denied.
    pub(crate) claims: Vec<String>,
    /// Its fragments, or why it has none.
    pub(crate) fragments: Result<Vec<Fragment>, String>,
}

impl Side {
    /// One that cannot be carried.
    pub(crate) fn refused(reason: String) -> Side {
        Side { claims: Vec::new(), fragments: Err(reason) }
    }
}

/// A port that only some of the containers' clients use does not cost the others theirs: a side that cannot be carried is left
/// out as long as there is another.
pub(crate) fn together(service: &Service, sides: Vec<(&str, Side)>) -> Result<Rendering, PluginError> {
    let carried = sides.iter().any(|(_, side)| side.fragments.is_ok());
    let mut rendering = Rendering::default();
    for (name, side) in sides {
        rendering.claims.extend(side.claims);
        match side.fragments {
            Ok(fragments) => rendering.fragments.extend(fragments),
            Err(reason) if carried => {
                log::warn(&format!("service {}: its {name} side is left out: {reason}", show(&service.name)));
            }
            Err(reason) => return refuse(format!("service {}: {reason}", show(&service.name))),
        }
    }
    Ok(rendering)
}
