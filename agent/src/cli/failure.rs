//! Why a command failed.

use waypost::agent::BuildError;
use waypost::config::ConfigError;

/// Why a command failed, and so its exit code.
pub(crate) enum Failure {
    Config(ConfigError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Config(error) => Failure::Config(error),
            BuildError::Other(error) => Failure::Other(error),
        }
    }
}
