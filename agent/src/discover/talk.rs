//! Brings a running proxy to what is accepted over its stats socket, without a reload.
//!
//! What counts is what the proxy says it runs: it is asked about services, told what the plugin makes of its answers, and
//! asked again until nothing is left to say. So a command that was lost, a crash or a hand on the socket heals.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use tracing::debug;

use super::state::{End, Ended, Talk};
use crate::model::{Change, LivePlan, Node};
use crate::plugin::{CallError, Planned, Renderer};
use crate::proxy::Socket;

/// Most rounds of queries and commands about one change; removing a server and adding its successor takes three.
const ROUNDS: usize = 5;
/// Most queries, and most commands, of one round.
const LINES_LIMIT: usize = 20_000;

/// Where a running proxy takes queries and commands.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// As [`Socket::ask`].
    async fn ask(&self, queries: &[String]) -> Result<Vec<String>>;
    /// As [`Socket::say`].
    async fn say(&self, line: &str) -> Result<String>;
}

#[async_trait]
impl Runtime for Socket {
    async fn ask(&self, queries: &[String]) -> Result<Vec<String>> {
        Socket::ask(self, queries).await
    }

    async fn say(&self, line: &str) -> Result<String> {
        Socket::say(self, line).await
    }
}

/// Who speaks with a proxy.
#[derive(Clone)]
pub struct Speaker {
    /// The plugin that knows the proxy's language.
    pub renderer: Arc<dyn Renderer>,
    /// This host.
    pub node: Arc<Node>,
    /// The proxy's stats socket.
    pub runtime: Arc<dyn Runtime>,
    /// Name of the output, for the log.
    pub name: String,
}

impl Speaker {
    /// Brings the proxy to what these services are to be: all at once, and each alone when one is in the way of others. A
    /// process that was replaced, `old`, is told nothing.
    async fn talk(&self, changes: &[(Arc<str>, Change)], old: Option<&str>) -> Result<Ended> {
        let mut ended = Ended::default();
        let all = changes.iter().map(|(_, change)| change.clone()).collect();
        let end = self.converse(all, old, &mut ended.processes).await?;
        if changes.len() == 1 || matches!(end, End::Settled { .. } | End::Unknown) {
            ended.services.extend(changes.iter().map(|(name, _)| (Arc::clone(name), end)));
            return Ok(ended);
        }
        for (name, change) in changes {
            let end = self.converse([change.clone()].into(), old, &mut ended.processes).await?;
            ended.services.insert(Arc::clone(name), end);
        }
        Ok(ended)
    }

    /// Holds a conversation.
    ///
    /// # Errors
    /// When the proxy cannot be spoken to.
    pub async fn hold(&self, talk: &Talk) -> Result<Ended> {
        if talk.is_probe() { self.probe().await } else { self.talk(&talk.changes, talk.old.as_deref()).await }
    }

    /// Asks without telling anything, to learn which process answers.
    async fn probe(&self) -> Result<Ended> {
        let queries = self.renderer.queries(&Arc::default()).await.unwrap_or_default();
        let answers: Arc<[String]> = self.runtime.ask(&queries).await?.into();
        let process = self.renderer.process(&answers).await.ok().flatten();
        Ok(Ended { processes: process.into_iter().collect(), ..Ended::default() })
    }

    async fn converse(
        &self,
        changes: Arc<[Change]>,
        old: Option<&str>,
        processes: &mut BTreeSet<String>,
    ) -> Result<End> {
        let mut soon = false;
        // The same in every round: queries follow from the changes alone.
        let queries = match self.renderer.queries(&changes).await {
            Ok(queries) => queries,
            Err(error) => return Ok(self.refusal(&error, changes.len())),
        };
        if queries.len() > LINES_LIMIT {
            return Ok(End::Reload);
        }
        if queries.is_empty() {
            return Ok(End::Settled { reload_soon: soon });
        }
        for _ in 0..ROUNDS {
            let answers: Arc<[String]> = self.runtime.ask(&queries).await?.into();
            let Planned { process, plan } = self.renderer.plan(&self.node, &changes, &answers).await;
            let is_old = old.is_some() && process.as_deref() == old;
            processes.extend(process);
            if is_old {
                return Ok(End::Unknown);
            }
            match plan {
                Ok(LivePlan::Commands { commands, .. }) if commands.len() > LINES_LIMIT => return Ok(End::Reload),
                Ok(LivePlan::Commands { commands, reload_soon }) => {
                    soon |= reload_soon;
                    if commands.is_empty() {
                        return Ok(End::Settled { reload_soon: soon });
                    }
                    self.say(&commands).await;
                }
                Ok(LivePlan::Reload) => return Ok(End::Reload),
                Err(error) => return Ok(self.refusal(&error, changes.len())),
            }
        }
        debug!(output = self.name, services = changes.len(), rounds = ROUNDS, "the proxy did not settle");
        Ok(End::Reload)
    }

    /// Whether a command did what it should is what the next queries tell.
    async fn say(&self, commands: &[String]) {
        for command in commands {
            match self.runtime.say(command).await {
                Ok(answer) => debug!(output = self.name, command, answer = answer.trim(), "said"),
                Err(error) => debug!(output = self.name, command, error = %format_args!("{error:#}"), "not said"),
            }
        }
    }

    /// What a plugin refuses among several services, it may plan for each alone.
    fn refusal(&self, error: &CallError, services: usize) -> End {
        debug!(output = self.name, services, %error, "the plugin does not plan it");
        if services > 1 { End::Reload } else { End::Unknown }
    }
}
