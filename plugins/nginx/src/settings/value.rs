//! Values as nginx writes them.

use serde::Deserialize;
use waypost_plugin_sdk::show;

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
