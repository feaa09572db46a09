//! What an output asks of its plugin.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CallError, Plugin};
use crate::model::{Change, Node, Part, Reaction, Rendering, Service};

/// The plugin of an output: a component, or in tests the same code natively.
#[async_trait]
pub trait Renderer: Send + Sync {
    /// As [`Plugin::frame`].
    async fn frame(&self, node: &Arc<Node>) -> Result<Vec<Part>, CallError>;
    /// As [`Plugin::render`].
    async fn render(&self, node: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>>;
    /// As [`Plugin::questions`].
    async fn questions(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError>;
    /// As [`Plugin::process`].
    async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError>;
    /// As [`Plugin::react`].
    async fn react(
        &self,
        node: &Arc<Node>,
        changes: &Arc<[Change]>,
        answers: &Arc<[String]>,
    ) -> Result<Reaction, CallError>;
    /// As [`Plugin::trim`].
    fn trim(&self) {}
}

#[async_trait]
impl Renderer for Plugin {
    async fn frame(&self, node: &Arc<Node>) -> Result<Vec<Part>, CallError> {
        Plugin::frame(self, node).await
    }

    async fn render(&self, node: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>> {
        Plugin::render(self, node, services).await
    }

    async fn questions(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError> {
        Plugin::questions(self, changes).await
    }

    async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError> {
        Plugin::process(self, answers).await
    }

    async fn react(
        &self,
        node: &Arc<Node>,
        changes: &Arc<[Change]>,
        answers: &Arc<[String]>,
    ) -> Result<Reaction, CallError> {
        Plugin::react(self, node, changes, answers).await
    }

    fn trim(&self) {
        Plugin::trim(self);
    }
}
