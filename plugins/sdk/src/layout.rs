//! From entries to instances, and what layouts write alike.

use crate::{Entry, Instance, LeaseKind, PluginError, Registration, check, log, refuse, show};

/// Reads each entry on its own. Logs and skips an entry that `read` refuses, so that it hides no other.
pub fn read_entries<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    read: impl Fn(&Entry) -> Result<Instance, String>,
) -> Vec<Instance> {
    let read = |entry| read(entry).inspect_err(|why| warn_skipped(entry, why)).ok();
    entries.into_iter().filter_map(read).collect()
}

/// Logs why an entry is skipped, with key and reason cut to 300 characters each.
pub fn warn_skipped(entry: &Entry, why: &str) {
    let short = |text: &str| text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    log::warn(&format!("{} is left out: {}", short(&entry.key), short(why)));
}

/// Splits a key into the directory below `prefix` and the last segment: `team/app` and `0ce6` of `/backends/team/app/0ce6`.
///
/// # Errors
/// Says what a key under `prefix` looks like.
pub fn split_key<'a>(key: &'a str, prefix: &str) -> Result<(&'a str, &'a str), String> {
    match key.strip_prefix(prefix).and_then(|path| path.rsplit_once('/')) {
        Some((directory, last)) if !directory.is_empty() && !last.is_empty() => Ok((directory, last)),
        _ => Err(format!("expected a key {prefix}<name>/<id>")),
    }
}

/// Returns the id of an instance for use as the last segment of a key.
///
/// # Errors
/// `invalid-input` when it holds a `/`.
pub fn checked_id(instance: &Instance) -> Result<&str, PluginError> {
    if instance.id.is_empty() || instance.id.contains('/') {
        return refuse(format!(
            "the id {} of an instance of {} is no segment of a key: expected text without `/`",
            show(&instance.id),
            instance.service
        ));
    }
    Ok(&instance.id)
}

/// Builds a registration under the lease of the host that writes it.
pub fn registration(key: String, value: String) -> Registration {
    Registration { key, value, lease: LeaseKind::Host }
}

/// Renders `address:port`, with an IPv6 address in brackets.
pub fn authority(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Parses what [`authority`] renders.
///
/// # Errors
/// Says what was found and what is expected.
pub fn parse_authority(text: &str) -> Result<(String, u16), String> {
    let error = || format!("the value is {}, expected <address>:<port>", show(text));
    let (address, port) = text.trim().rsplit_once(':').ok_or_else(error)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    let port = check::parse_port(port).ok_or_else(error)?;
    if check::is_host(address) && address.contains(':') == bare.is_some() {
        Ok((address.to_owned(), port))
    } else {
        Err(error())
    }
}
