//! Lists of names and values: unique names, sorted bytewise.

use std::collections::BTreeMap;

use crate::{Instance, check, show};

/// The value of `name`.
pub fn get<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = attributes.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
    Some(&attributes[found].1)
}

/// Sorts, and keeps the last of those that share a name.
pub fn sorted<I, N, V>(attributes: I) -> Vec<(String, String)>
where
    I: IntoIterator<Item = (N, V)>,
    N: Into<String>,
    V: Into<String>,
{
    let unique: BTreeMap<String, String> = attributes.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
    unique.into_iter().collect()
}

/// The items of a list separated by `,`, trimmed, without empty ones.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The port an instance names for its consumers; none when it leaves that to its peers.
///
/// # Errors
/// Says what was found instead of a port.
pub fn listen_port(instance: &Instance) -> Result<Option<u16>, String> {
    let Some(text) = get(&instance.attributes, "listen-port") else { return Ok(None) };
    match check::parse_port(text).filter(|_| !text.starts_with('+')) {
        Some(port) => Ok(Some(port)),
        None => Err(format!("its listen-port is {}, expected a number from 1 to 65535", show(text))),
    }
}
