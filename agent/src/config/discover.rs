//! How the catalog is read: what is made of a sudden loss.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::value::Period;

/// How the catalog is read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Discover {
    /// When instances that vanish at once are kept for a while.
    pub self_preservation: SelfPreservation,
}

/// When instances that vanish at once are kept for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SelfPreservation {
    /// Never.
    Off,
    /// When more than `share` of at least `least` instances are lost.
    On {
        /// From 0 up to, but not including, 1.
        share: f64,
        /// At least 1.
        least: usize,
        /// How long they are kept; default: twice `registry.ttl`.
        time: Option<Duration>,
    },
}

impl Default for SelfPreservation {
    fn default() -> Self {
        SelfPreservation::On { share: 0.5, least: 10, time: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    share: Option<Share>,
    least: Option<Least>,
    time: Option<Period>,
}

#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if (0.0..1.0).contains(&share) {
            return Ok(Share(share));
        }
        Err(format!("found {share}, expected a number from 0 up to, but not including, 1"))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "usize")]
struct Least(usize);

impl TryFrom<usize> for Least {
    type Error = &'static str;

    fn try_from(least: usize) -> Result<Self, Self::Error> {
        if least == 0 { Err("found 0, expected 1 or more") } else { Ok(Least(least)) }
    }
}

impl<'de> Deserialize<'de> for SelfPreservation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Not an untagged enum, which would name neither the key nor what was found.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = SelfPreservation;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("false, true or { share = 0.5, least = 10, time = \"30s\" }")
    }

    fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<SelfPreservation, E> {
        Ok(if is_on { SelfPreservation::default() } else { SelfPreservation::Off })
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<SelfPreservation, M::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let share = table.share.map_or(0.5, |share| share.0);
        let least = table.least.map_or(10, |least| least.0);
        Ok(SelfPreservation::On { share, least, time: table.time.map(|time| time.0) })
    }
}
