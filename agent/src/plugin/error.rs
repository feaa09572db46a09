//! Why a call of a plugin fails.

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
    #[error("it crashed several times in a row and rests")]
    Resting,
}
