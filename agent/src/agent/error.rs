//! Why an agent cannot be built.

use crate::config::ConfigError;

/// Why an agent could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operator has to change the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The world is not as it must be.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
