//! Values that outputs for proxies have in common.

use std::fmt;

use serde::Deserialize;

use crate::show;

/// Longest time that proxies can count, in milliseconds: timers of HAProxy and of nginx are signed 32-bit numbers.
const TIME_LIMIT: u64 = i32::MAX as u64;

/// A value, or the word `off`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: TryFrom<String, Error = String>")]
pub enum Switch<T> {
    /// Not wanted.
    Off,
    /// Wanted like this.
    On(T),
}

impl<T> Switch<T> {
    /// The value, unless switched off.
    pub fn get(&self) -> Option<&T> {
        match self {
            Switch::Off => None,
            Switch::On(value) => Some(value),
        }
    }
}

impl<T: TryFrom<String, Error = String>> TryFrom<String> for Switch<T> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" { Ok(Switch::Off) } else { T::try_from(text).map(Switch::On) }
    }
}

/// A time as HAProxy and nginx write it, such as `2s`: one number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub String);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let milliseconds = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let time = digits.parse::<u32>().map_or(0, |number| u64::from(number) * milliseconds);
        if !digits.starts_with('+') && (1..=TIME_LIMIT).contains(&time) {
            Ok(Time(text))
        } else {
            Err(format!(
                "found {}, expected a time of at most 24 days such as \"500ms\", \"2s\" or \"1h\"",
                show(&text)
            ))
        }
    }
}

/// One line of a proxy's own language, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Line(pub String);

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            Err(format!("found {}, expected one line without control characters", show(&text)))
        } else {
            Ok(Line(text))
        }
    }
}

/// How a proxy spreads requests over the instances of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// In turn.
    Roundrobin,
    /// To the instance with the fewest connections.
    Leastconn,
    /// At random.
    Random,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Balance::Roundrobin => "roundrobin",
            Balance::Leastconn => "leastconn",
            Balance::Random => "random",
        })
    }
}
