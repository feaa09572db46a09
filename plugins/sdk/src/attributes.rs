//! Lists of names and values: unique names, sorted bytewise.

use std::collections::BTreeMap;

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
