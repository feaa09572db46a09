//! Values as nginx writes them.

use serde::Deserialize;
use waypost_plugin_sdk::show;

/// Longest time nginx can count, in milliseconds: its timers are signed 32-bit numbers.
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

/// Whether nginx has its stream module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Stream {
    /// No streams are written.
    Off,
    /// It is compiled in, or loaded by a line of the operator's.
    BuiltIn,
    /// It is loaded from this file.
    Module(String),
}

impl TryFrom<String> for Stream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'+' | b'-');
        match text.as_str() {
            "off" => Ok(Stream::Off),
            "built-in" => Ok(Stream::BuiltIn),
            path if path.starts_with('/') && path.bytes().all(plain) => Ok(Stream::Module(text)),
            _ => Err(format!(
                "found {}, expected \"off\", \"built-in\" or the path of a module such as \
                 \"/usr/lib/nginx/modules/ngx_stream_module.so\"",
                show(&text)
            )),
        }
    }
}

/// A time as nginx writes it, such as `2s`.
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

/// A size as nginx writes it, such as `1m`; `0` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub String);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_suffix(['k', 'm', 'g']).unwrap_or(&text);
        if digits.parse::<u32>().is_ok() && !digits.starts_with('+') {
            Ok(Size(text))
        } else {
            Err(format!("found {}, expected a size such as \"512k\", \"10m\", \"2g\" or \"0\" for none", show(&text)))
        }
    }
}

/// One line of nginx's language, as the operator wrote it.
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
