//! Why an agent cannot be built.

/// Why an agent could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operator has to change the configuration.
    #[error("{key}: {text}")]
    Config {
        /// The part of the configuration, like `output[0]`.
        key: String,
        /// What is wrong.
        text: String,
    },
    /// The world is not as it must be.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
