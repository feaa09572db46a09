//! From entries to instances, and what layouts write alike.

use crate::{Entry, Holder, Instance, check, log};

/// Reads every entry by itself: one that cannot be read is logged and left out, so that it hides no other.
pub fn readable(entries: &[Entry], read: impl Fn(&Entry) -> Result<Instance, String>) -> Vec<Instance> {
    let read = |entry| read(entry).inspect_err(|why| log::warn(&format!("{} is left out: {why}", entry.key))).ok();
    entries.iter().filter_map(read).collect()
}

/// The directory below `prefix` and the last segment of a key: `team/app` and `0ce6` of `/backends/team/app/0ce6`.
///
/// # Errors
/// Says what a key under `prefix` looks like.
pub fn place<'a>(key: &'a str, prefix: &str) -> Result<(&'a str, &'a str), String> {
    match key.strip_prefix(prefix).and_then(|path| path.rsplit_once('/')) {
        Some((directory, last)) if !directory.is_empty() && !last.is_empty() => Ok((directory, last)),
        _ => Err(format!("expected a key {prefix}<name>/<id>")),
    }
}

/// An entry that goes with the host that wrote it.
pub fn entry(key: String, value: String) -> Entry {
    Entry { key, value, held_by: Holder::Host }
}

/// `address:port`, with an IPv6 address in brackets.
pub fn authority(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The address and port of [`authority`].
///
/// # Errors
/// Says what was found and what is expected.
pub fn parse_authority(text: &str) -> Result<(String, u16), String> {
    let error = || format!("the value is {}, expected <address>:<port>", crate::show(text));
    let (address, port) = text.trim().rsplit_once(':').ok_or_else(error)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    let port = port.parse().ok().filter(|&port| port > 0).ok_or_else(error)?;
    if check::is_host(address) && address.contains(':') == bare.is_some() {
        Ok((address.to_owned(), port))
    } else {
        Err(error())
    }
}
