//! The registry that the configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError, RegistryKind};
use crate::model::Node;
use crate::registry::{Registry, etcd, memory};

/// The registry that the configuration names.
///
/// # Errors
/// When its files cannot be read or its options do not go together.
pub fn registry(
    config: &Config,
    state_dir: Option<PathBuf>,
    node: Option<Arc<Node>>,
) -> Result<Arc<dyn Registry>, ConfigError> {
    let settings = &config.registry;
    if settings.kind != Some(RegistryKind::Etcd) {
        return Ok(memory::new());
    }
    let read = |key: &str, path: &Option<PathBuf>| -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        let wrong = |error| {
            let text = format!("{} cannot be read: {error}", path.display());
            config.mistake(&format!("registry.{key}"), text)
        };
        std::fs::read(path).map(Some).map_err(wrong)
    };
    let password = read("password-file", &settings.password_file)?;
    let first_line = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
    let options = etcd::EtcdOptions {
        endpoints: settings.endpoints.iter().map(|endpoint| endpoint.0.clone()).collect(),
        ttl: settings.ttl.0,
        username: settings.username.clone(),
        password: password.map(first_line),
        ca_pem: read("ca-file", &settings.ca_file)?,
        cert_pem: read("cert-file", &settings.cert_file)?,
        key_pem: read("key-file", &settings.key_file)?,
        state_dir,
        node,
    };
    etcd::connect(options).map_err(|error| {
        let text = error.to_string();
        config.mistake(&config.key_named("registry", &text), text)
    })
}
