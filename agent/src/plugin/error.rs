//! Why loading or calling a plugin fails.

use std::path::PathBuf;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin refused this input and lives on; asking again will not help.
    #[error("{0}")]
    Refused(String),
    /// It trapped, overran a limit or did not answer; a new instance may.
    #[error("{0}")]
    Crashed(String),
    /// It crashed several times in a row and is not called for a while.
    #[error("it crashed several times in a row; calls are suspended for a while")]
    Suspended,
}

/// Why a plugin was not loaded, where it is not the fault of its name or file alone.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file has another digest than the operator gave.
    #[error("plugin {}: found sha256 {found}, expected {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest, hexadecimal.
        found: String,
        /// That of the operator.
        expected: String,
    },
    /// The plugin refused its settings.
    #[error("it refuses its settings {settings}: {words}")]
    Settings {
        /// The settings, a JSON object.
        settings: serde_json::Value,
        /// What the plugin said of them.
        words: String,
    },
    /// The plugin crashed while it took its settings.
    #[error("it crashed while it took its settings: {0}")]
    Crash(CallError),
}
