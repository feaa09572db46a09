//! A sorted list of names and values as a JSON object.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(list: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(list.iter().map(|(name, value)| (name, value)))
}

pub(crate) fn deserialize<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'a, [(String, String)]>, D::Error> {
    let map: BTreeMap<String, String> = BTreeMap::deserialize(deserializer)?;
    Ok(map.into_iter().collect())
}
