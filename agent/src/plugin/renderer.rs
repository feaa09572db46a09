//! What an output asks of its plugin.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CallError, Planned, Plugin};
use crate::model::{Change, Fragment, Node, Rendering, Service};

/// The plugin of an output: a component, or in tests the same code natively.
#[async_trait]
pub trait Renderer: Send + Sync {
    /// As [`Plugin::base`].
    async fn base(&self, node: &Arc<Node>) -> Result<Vec<Fragment>, CallError>;
    /// As [`Plugin::render`].
    async fn render(&self, node: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>>;
    /// As [`Plugin::queries`].
    async fn queries(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError>;
    /// As [`Plugin::process`].
    async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError>;
    /// As [`Plugin::plan`].
    async fn plan(&self, node: &Arc<Node>, changes: &Arc<[Change]>, answers: &Arc<[String]>) -> Planned;
    /// As [`Plugin::trim`].
    fn trim(&self) {}
}

#[async_trait]
impl Renderer for Plugin {
    async fn base(&self, node: &Arc<Node>) -> Result<Vec<Fragment>, CallError> {
        Plugin::base(self, node).await
    }

    async fn render(&self, node: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>> {
        Plugin::render(self, node, services).await
    }

    async fn queries(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError> {
        Plugin::queries(self, changes).await
    }

    async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError> {
        Plugin::process(self, answers).await
    }

    async fn plan(&self, node: &Arc<Node>, changes: &Arc<[Change]>, answers: &Arc<[String]>) -> Planned {
        Plugin::plan(self, node, changes, answers).await
    }

    fn trim(&self) {
        Plugin::trim(self);
    }
}
