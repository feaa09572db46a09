//! Which configuration a command reads.

use std::path::{Path, PathBuf};

use clap::Args;
use waypost::config::Config;

use super::failure::Failure;

/// Where the configuration is looked for when no other place is named.
const DEFAULT_CONFIG: &str = "/etc/waypost/waypost.toml";

/// Which configuration.
#[derive(Args, Clone)]
pub(crate) struct ConfigArgument {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgument {
    /// The file, when there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_CONFIG);
        self.config.as_deref().or_else(|| default.exists().then_some(default))
    }

    pub(crate) fn read(&self) -> Result<Config, Failure> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(match self.path() {
            Some(path) => Config::read(path, &environment)?,
            None => Config::parse("", Path::new("defaults"), &environment)?,
        })
    }
}
