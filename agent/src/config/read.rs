//! From text to structs, with the place of every mistake.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::renamed;

/// A mistake in the configuration, as one message.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        ConfigError(format!("{}: cannot be read: {error}", path.display()))
    }

    pub(super) fn environment(name: &str, found: &str, expected: &str) -> Self {
        ConfigError(format!("environment variable {name}: found {found:?}, expected {expected}"))
    }
}

/// Where each key of a file is.
#[derive(Clone, Debug, Default)]
pub(super) struct Locations {
    path: PathBuf,
    /// Lines by key, such as `output[0].settings.balance`; tables and array items have theirs too.
    lines: BTreeMap<String, usize>,
}

impl Locations {
    fn new(path: &Path, text: &str, table: &DeTable<'_>) -> Self {
        let mut locations = Locations { path: path.to_owned(), lines: BTreeMap::new() };
        for (name, value) in table {
            locations.add(name.to_string(), name.span().start, value, text);
        }
        locations
    }

    fn add(&mut self, key: String, start: usize, value: &Spanned<DeValue<'_>>, text: &str) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.add(format!("{key}.{name}"), name.span().start, value, text);
                }
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(format!("{key}[{index}]"), item.span().start, item, text);
                }
            }
            _ => {}
        }
        self.lines.insert(key, line_at(text, start));
    }

    /// `key`, or the nearest table or array around it that the file has, with its line.
    fn nearest<'k>(&self, key: &'k str) -> Option<(&'k str, usize)> {
        let ends = key.rmatch_indices(['.', '[']).map(|(end, _)| end);
        std::iter::once(key.len()).chain(ends).find_map(|end| Some((&key[..end], *self.lines.get(&key[..end])?)))
    }

    pub(super) fn mistake(&self, key: &str, text: impl Display) -> ConfigError {
        let line = self.nearest(key).map(|(_, line)| format!(":{line}")).unwrap_or_default();
        ConfigError(format!("{}{line}: {key}: {text}{}", self.path.display(), renamed::hint(key)))
    }

    /// The key in `table` that `words` name first, else `table`.
    pub(super) fn key_named(&self, table: &str, words: &str) -> String {
        let words = words.split(|c: char| !c.is_alphanumeric() && !"_-.[]".contains(c));
        let mut keys = words.map(|word| format!("{table}.{}", word.trim_end_matches('.')));
        let is_there = |key: &String| self.nearest(key).is_some_and(|(found, _)| found.len() > table.len());
        keys.find(is_there).unwrap_or_else(|| table.to_owned())
    }

    /// What the file says instead of TOML.
    fn not_toml(&self, text: &str, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|span| line_at(text, span.start));
        let mut here = self.lines.iter().filter(|(_, at)| Some(**at) == line);
        let is_mode = here.any(|(key, _)| key.rsplit('.').next() == Some("mode"));
        let advice = if is_mode { "; a mode stands in quotes, like mode = \"0640\"" } else { "" };
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        ConfigError(format!("{}{line}: {}{advice}", self.path.display(), error.message()))
    }
}

/// Reads `text`, which is at `path`.
pub(super) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<(T, Locations), ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let locations = Locations::new(path, text, table.get_ref());
    if let Some(error) = errors.first() {
        return Err(locations.not_toml(text, error));
    }
    match serde_path_to_error::deserialize(Deserializer::from(table)) {
        Ok(value) => Ok((value, locations)),
        Err(error) => {
            let message = error.inner().message().trim_end().replace('\n', " ");
            Err(locations.mistake(&error.path().to_string(), message))
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
