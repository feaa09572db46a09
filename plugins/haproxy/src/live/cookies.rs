//! Cookies that HAProxy makes of an address and a secret key.
//!
//! HAProxy 2.6 gives no such cookie to a server that is added at run time; saying the key again does.

use super::lines::is_plain;
use crate::settings::Settings;

/// The key, where the operator's lines have servers make their cookies; the last line of a kind counts.
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

/// What gives every server of `section` its cookie.
///
/// # Errors
/// The key has characters that the stats socket may take for something else.
pub(super) fn mend(section: &str, key: &str) -> Result<String, String> {
    if !key.bytes().all(is_plain) {
        return Err("the key of its cookies cannot be said to a running HAProxy".to_owned());
    }
    Ok(format!("set dynamic-cookie-key backend {section} {key}"))
}
