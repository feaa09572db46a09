//! From text to structs, with the place of every mistake.

use std::fmt;
use std::path::Path;

use super::Config;

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

    /// A mistake that only shows when the file's words meet the world, such as a plugin that does not exist.
    pub fn at(path: &Path, key: &str, text: &str) -> Self {
        Self::in_text(path, &std::fs::read_to_string(path).unwrap_or_default(), key, text)
    }

    pub(super) fn in_text(path: &Path, source: &str, key: &str, text: &str) -> Self {
        match line_of_key(source, key) {
            Some(line) => ConfigError(format!("{}:{line}: {key}: {text}", path.display())),
            None => ConfigError(format!("{}: {key}: {text}", path.display())),
        }
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let place = |span: Option<std::ops::Range<usize>>| match span {
        Some(span) => format!("{}:{}", path.display(), line_at(text, span.start)),
        None => path.display().to_string(),
    };
    let deserializer = toml::de::Deserializer::parse(text).map_err(|error| {
        ConfigError(format!("{}: {}{}", place(error.span()), error.message(), advice(text, error.span())))
    })?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        let error = error.into_inner();
        let message = error.message().trim_end().replace('\n', " ");
        if key == "." {
            return ConfigError(format!("{}: {message}", place(error.span())));
        }
        ConfigError(format!("{}: {key}: {message}", place(error.span())))
    })
}

/// What to do about a line that is not TOML, where that is known.
fn advice(text: &str, span: Option<std::ops::Range<usize>>) -> &'static str {
    let line = span.and_then(|span| text.lines().nth(line_at(text, span.start) - 1)).unwrap_or_default();
    match line.split('=').next().map(str::trim) {
        Some("mode") => "; a mode stands in quotes, like mode = \"0640\"",
        _ => "",
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line of `output[1]` (the header that opens the table) or of `registry.ttl`.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let lines = || text.lines().map(str::trim).enumerate();
    if let Some((name, rest)) = key.split_once('[') {
        let index: usize = rest.split_once(']')?.0.parse().ok()?;
        let header = format!("[[{name}]]");
        return lines().filter(|(_, line)| *line == header).nth(index).map(|(number, _)| number + 1);
    }
    let (table, name) = key.split_once('.').unwrap_or((key, ""));
    let (header, _) = lines().find(|(_, line)| line.split('#').next().map(str::trim) == Some(&format!("[{table}]")))?;
    let within = lines().skip(header + 1).take_while(|(_, line)| !line.starts_with('['));
    let mut named = within.filter(|(_, line)| line.split('=').next().map(str::trim) == Some(name));
    Some(named.next().map_or(header, |(number, _)| number) + 1)
}
