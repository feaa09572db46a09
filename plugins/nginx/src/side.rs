//! Joins the tcp and the udp side of a service.

use waypost_plugin_sdk::{Fragment, PluginError, Rendering, Service, log, refuse, show};

/// One transport of a service, tcp or udp.
pub(crate) struct Side {
    /// Everything that it asks for and only one service can have, including what it is denied.
    pub(crate) claims: Vec<String>,
    /// Its fragments, or the reason why it has none.
    pub(crate) fragments: Result<Vec<Fragment>, String>,
}

impl Side {
    /// Builds a side that nginx cannot proxy.
    pub(crate) fn refused(reason: String) -> Side {
        Side { claims: Vec::new(), fragments: Err(reason) }
    }
}

/// Joins the sides. A fault of one side must not take the other away: the plugin skips a side that nginx cannot proxy as long as
/// there is another.
///
/// # Errors
/// `invalid-input` when nginx can proxy no side.
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
