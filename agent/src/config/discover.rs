//! How the catalog is read: what is made of a sudden loss.

use std::time::Duration;

use serde::Deserialize;

use super::Period;

/// How the catalog is read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Discover {
    /// When instances that vanish at once are kept for a while.
    pub doubt: Doubt,
}

/// When instances that vanish at once are kept for a while.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawDoubt")]
pub enum Doubt {
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

impl Default for Doubt {
    fn default() -> Self {
        Doubt::On { share: 0.5, least: 10, time: None }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected false, true or { share = 0.5, least = 10, time = \"30s\" }")]
enum RawDoubt {
    Switch(bool),
    Table(Table),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    share: Option<f64>,
    least: Option<usize>,
    time: Option<Period>,
}

impl TryFrom<RawDoubt> for Doubt {
    type Error = String;

    fn try_from(raw: RawDoubt) -> Result<Self, String> {
        let Table { share, least, time } = match raw {
            RawDoubt::Switch(false) => return Ok(Doubt::Off),
            RawDoubt::Switch(true) => return Ok(Doubt::default()),
            RawDoubt::Table(table) => table,
        };
        let (share, least) = (share.unwrap_or(0.5), least.unwrap_or(10));
        if !(0.0..1.0).contains(&share) {
            return Err(format!("found share {share}, expected a number from 0 up to, but not including, 1"));
        }
        if least == 0 {
            return Err("found least 0, expected 1 or more".to_owned());
        }
        Ok(Doubt::On { share, least, time: time.map(|time| time.0) })
    }
}
