//! From the operator's settings to a typed value.

use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::PluginError;

mod value;

pub use value::{Balance, Line, Switch, Time};

/// What the operator may set; derive `Deserialize` with `deny_unknown_fields`.
pub trait Settings: DeserializeOwned + Send + Sync + 'static {
    /// Checks what the types leave open; the text names the key, what was found and what is expected.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads settings from the JSON text that `configure` is given.
///
/// # Errors
/// `invalid-settings`, naming the key.
pub fn parse<S: Settings>(json: &str) -> Result<S, PluginError> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let settings: S = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = match error.path().to_string() {
            path if path == "." => String::new(),
            path => format!("{path}: "),
        };
        PluginError::InvalidSettings(at + &without_position(&error.inner().to_string()))
    })?;
    settings.check().map_err(PluginError::InvalidSettings)?;
    Ok(settings)
}

/// The operator wrote TOML, so a line and column of the JSON made from it would mislead.
fn without_position(text: &str) -> String {
    text.rsplit_once(" at line ").map_or(text, |(message, _)| message).to_owned()
}

/// Holds the settings of one plugin instance from `configure` on.
pub struct Cell<S>(OnceLock<S>);

impl<S: Settings> Cell<S> {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "made once, in a static")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Reads and keeps the settings.
    ///
    /// # Errors
    /// `invalid-settings` naming the key, or `other` when it was called before.
    pub fn configure(&self, json: &str) -> Result<(), PluginError> {
        let settings = parse(json)?;
        self.0.set(settings).map_err(|_| PluginError::Other("configure was called twice".to_owned()))
    }

    /// The settings.
    ///
    /// # Errors
    /// `other` when `configure` was not called.
    pub fn get(&self) -> Result<&S, PluginError> {
        self.0.get().ok_or_else(|| PluginError::Other("configure was not called".to_owned()))
    }
}

/// The settings of a plugin that has none; its schema is empty.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Settings for Nothing {}
