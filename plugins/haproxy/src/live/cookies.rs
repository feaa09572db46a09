//! Repairs the cookies that HAProxy derives from an address and a secret key.
//!
//! HAProxy 2.6 sets no such cookie for a server that is added at run time, until it gets the key again.

use super::lines::is_plain;
use crate::settings::Settings;

/// Returns the key, where the operator's lines ask for such cookies; the last line of a kind counts.
pub(super) fn key(settings: &Settings) -> Option<&str> {
    let (mut is_dynamic, mut key) = (false, None);
    for line in &settings.defaults_lines {
        let mut words = line.0.split_whitespace();
        match (words.next(), words.next()) {
            (Some("cookie"), Some(_)) => is_dynamic = words.any(|word| word == "dynamic"),
            (Some("no"), Some("cookie")) => is_dynamic = false,
            (Some("dynamic-cookie-key"), word) => key = word,
            _ => {}
        }
    }
    key.filter(|_| is_dynamic)
}

/// Returns the command that sets the cookie of every server of `section`.
///
/// # Errors
/// The key has characters that mean something else to the stats socket.
pub(super) fn mend(section: &str, key: &str) -> Result<String, String> {
    if !key.bytes().all(is_plain) {
        return Err("the key of its cookies cannot be said to a running HAProxy".to_owned());
    }
    Ok(format!("set dynamic-cookie-key backend {section} {key}"))
}
