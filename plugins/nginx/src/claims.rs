//! Builds and checks claims: names of what only one service can have.

use waypost_plugin_sdk::reach::transport_name;
use waypost_plugin_sdk::{Service, Transport};

/// Most claims that a message names.
const SHOWN: usize = 3;

/// Returns the claim to the name of an upstream, which differs between http services and streams.
pub(crate) fn upstream(name: &str, file: &str) -> String {
    format!("upstream {name} in {file}")
}

/// Returns the claim to a port.
pub(crate) fn port(port: u16, transport: Transport) -> String {
    format!("port {port}/{}", transport_name(transport))
}

/// Returns whether another service has what `claim` names.
pub(crate) fn is_denied(service: &Service, claim: &str) -> bool {
    service.denied.iter().any(|denied| denied == claim)
}

/// Checks that no other service has what `claim` names; `hint` says what to do.
///
/// # Errors
/// Another service has it.
pub(crate) fn expect(service: &Service, claim: &str, hint: &str) -> Result<(), String> {
    if is_denied(service, claim) { Err(taken(&[claim.to_owned()], hint)) } else { Ok(()) }
}

/// Renders the message that other services have all of `claims`.
pub(crate) fn taken(claims: &[String], hint: &str) -> String {
    let more = match claims.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = claims.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let belong = if claims.len() == 1 { "belongs to another service" } else { "belong to other services" };
    format!("{shown}{more} {belong}; {hint}")
}
