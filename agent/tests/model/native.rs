//! The plugin `haproxy` as native Rust.

use std::sync::Arc;

use async_trait::async_trait;
use waypost::model::{self, Change, Fragment, LivePlan, Node, Rendering, Service};
use waypost::plugin::{CallError, Planned, Renderer};
use waypost_plugin_haproxy::{self as haproxy, Settings};
use waypost_plugin_sdk as sdk;

use crate::world::Shared;

/// The plugin with its settings, and the world, which is told when it asks for a reload soon.
pub(crate) struct Native(pub(crate) Settings, pub(crate) Shared);

#[async_trait]
impl Renderer for Native {
    async fn base(&self, of: &Arc<Node>) -> Result<Vec<Fragment>, CallError> {
        let fragments = haproxy::base(&self.0, &node(of)).map_err(refused)?;
        Ok(fragments.into_iter().map(fragment).collect())
    }

    async fn render(&self, of: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>> {
        let node = node(of);
        let one = |service: Arc<Service>| render(&self.0, &node, &service).map_err(CallError::Refused);
        services.into_iter().map(one).collect()
    }

    async fn queries(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError> {
        haproxy::queries(&self.0, &changes.iter().map(change).collect::<Vec<_>>()).map_err(refused)
    }

    async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError> {
        Ok(haproxy::process(answers))
    }

    async fn plan(&self, of: &Arc<Node>, changes: &Arc<[Change]>, answers: &Arc<[String]>) -> Planned {
        let changes: Vec<_> = changes.iter().map(change).collect();
        let plan = haproxy::plan(&self.0, &node(of), &changes, answers).map_err(refused).map(|plan| match plan {
            sdk::LivePlan::Commands(commands) => LivePlan::Commands { commands, reload_soon: false },
            sdk::LivePlan::CommandsAndReload(commands) => {
                self.1.world().is_excused = true;
                LivePlan::Commands { commands, reload_soon: true }
            }
            sdk::LivePlan::Reload => LivePlan::Reload,
        });
        Planned { process: haproxy::process(answers), plan }
    }
}

fn render(settings: &Settings, node: &sdk::Node, service: &Service) -> Result<Rendering, String> {
    let sdk::Rendering { fragments, claims } =
        haproxy::render(settings, node, &self::service(service)).map_err(|error| text(&error))?;
    Ok(Rendering {
        fragments: fragments.into_iter().map(fragment).collect(),
        claims: claims.into_iter().map(Into::into).collect(),
    })
}

fn text(error: &sdk::PluginError) -> String {
    format!("{error:?}")
}

#[expect(clippy::needless_pass_by_value, reason = "it is named where an error is turned into another")]
fn refused(error: sdk::PluginError) -> CallError {
    CallError::Refused(text(&error))
}

fn pairs(attributes: &model::Attributes) -> Vec<(String, String)> {
    attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn node(node: &Node) -> sdk::Node {
    sdk::Node { name: node.name.clone(), address: node.address.clone(), attributes: pairs(&node.attributes) }
}

fn instance(instance: &Arc<model::Instance>) -> sdk::Instance {
    sdk::Instance {
        service: instance.service.clone(),
        id: instance.id.clone(),
        address: instance.address.clone(),
        port: instance.port,
        transport: sdk::Transport::Tcp,
        readiness: match instance.readiness {
            model::Readiness::Ready => sdk::Readiness::Ready,
            model::Readiness::Draining => sdk::Readiness::Draining,
            model::Readiness::Gone => sdk::Readiness::Gone,
        },
        weight: instance.weight,
        attributes: pairs(&instance.attributes),
    }
}

fn service(service: &Service) -> sdk::Service {
    let denied = service.denied.iter().map(ToString::to_string).collect();
    sdk::Service { name: service.name.clone(), instances: service.instances.iter().map(instance).collect(), denied }
}

fn change(change: &Change) -> sdk::Change {
    let side = |of: &Option<Arc<Service>>| of.as_ref().map(|of| service(of));
    sdk::Change { before: side(&change.before), after: side(&change.after) }
}

fn fragment(fragment: sdk::Fragment) -> Fragment {
    Fragment { path: fragment.path, key: fragment.key, text: fragment.text }
}
