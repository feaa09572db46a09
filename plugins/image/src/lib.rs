//! The service of a container is the repository of its image, as docker-gen and docker-register have it.

use serde::Deserialize;
use waypost_plugin_sdk::grouping::{instance, plain_attributes, short_id};
use waypost_plugin_sdk::reach::{Address, Endpoint, Reach};
use waypost_plugin_sdk::{Container, Node, Plugin, PluginError, Role, check, reach_properties, refuse, settings, show};

#[cfg(test)]
mod tests;

/// The plugin `image`.
pub struct Image;

impl Plugin for Image {
    type Settings = Settings;
    const NAME: &'static str = "image";
    const SUMMARY: &'static str = "Groups containers by the repository of their image.";
    const SCHEMA: &'static str = concat!(
        r#"{"type":"object","properties":{"registry":{"enum":["first-segment","host-like"],"default":"first-segment"},"#,
        reach_properties!(),
        r#"},"additionalProperties":false}"#
    );
}

/// What the operator may set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What of an image's name is the registry.
    pub registry: Registry,
    /// Whose address is registered.
    pub address: Address,
    /// Network of the container's own address.
    pub network: Option<String>,
}

impl Settings {
    fn reach(&self) -> Reach {
        Reach { address: self.address, network: self.network.clone() }
    }
}

impl settings::Settings for Settings {
    fn check(&self) -> Result<(), String> {
        self.reach().check()
    }
}

/// What of an image's name is the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registry {
    /// Everything before the first `/`, as in docker-gen up to 0.17.2.
    #[default]
    FirstSegment,
    /// Only a first segment with a `.` or `:`, or `localhost`, as Docker itself has it.
    HostLike,
}

/// One instance for each port that other hosts can reach.
///
/// # Errors
/// `invalid-input` when the image has no usable name, or when ports are published but on loopback only.
pub fn group(settings: &Settings, node: &Node, container: &Container) -> Result<Role, PluginError> {
    let endpoints = settings.reach().endpoints(node, container)?;
    if endpoints.is_empty() {
        return Ok(Role::default());
    }
    let repository = repository(&container.image, settings.registry)?;
    let alone = endpoints.len() == 1;
    let offer = |endpoint: Endpoint| {
        let service = if alone { repository.to_owned() } else { format!("{repository}-{}", endpoint.label()) };
        let attributes = plain_attributes(&endpoint);
        instance(node, container, endpoint, (service, short_id(container).to_owned()), attributes)
    };
    Ok(Role { provides: endpoints.into_iter().map(offer).collect(), consumes: Vec::new() })
}

/// The repository of an image reference: without registry, tag and digest.
///
/// # Errors
/// `invalid-input` when nothing usable is left.
pub fn repository(image: &str, registry: Registry) -> Result<&str, PluginError> {
    let bare_id = image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit());
    if bare_id || image.starts_with("sha256:") {
        return refuse(format!(
            "image {} is an id, which names no service; start the container by the image's name",
            show(image)
        ));
    }
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let path = match name.split_once('/') {
        Some((first, rest)) if registry == Registry::FirstSegment || is_host_like(first) => rest,
        _ => name,
    };
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    let end = path[last..].find(':').map_or(path.len(), |colon| last + colon);
    check::service(&format!("the repository of image {}", show(image)), &path[..end])?;
    Ok(&path[..end])
}

fn is_host_like(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost"
}

waypost_plugin_sdk::grouping!(Image, group);
