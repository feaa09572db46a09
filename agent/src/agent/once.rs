//! All outputs once, for images that render their files before their proxy starts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::time::{Instant, timeout_at};

use super::pipeline::{Local, Pipeline, listed};
use super::{BuildError, lock, node, proxy_options, target};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::discover::{self, Target};
use crate::docker;
use crate::model::{Ages, Containers, Services};
use crate::output::{Consumed, SavedState};
use crate::proxy::{Proxy, ProxyOptions};

/// What became of one output.
pub struct Rendered {
    /// Name of the output.
    pub name: String,
    /// Where its files are.
    pub directory: PathBuf,
    /// Services it takes.
    pub services: usize,
    /// Services that are not in the files as they want to be, and why; whoever logs has said so.
    pub held: Vec<String>,
    /// Whether files changed, or why the old ones stay.
    pub written: Result<bool>,
}

/// Renders, checks and writes every output once; nothing is reloaded, and no proxy is started.
///
/// With etcd the catalog is what hosts registered there. With the embedded registry it is what containers of this host
/// offer. Either is waited for until `limit` is over. Docker is also asked, where this host registers, when an output takes
/// what containers of this host want.
///
/// # Errors
/// The configuration is wrong, another agent uses the state directory, or there is no complete list in time.
pub async fn render_once(config: Config, limit: Duration) -> Result<Vec<Rendered>, BuildError> {
    let node = node(&config)?;
    for index in 0..config.output.len() {
        target::access(&config, index)?;
    }
    if config.output.is_empty() || !config.agent.discover {
        return Err(anyhow!("the configuration has no [[output]], or agent.discover = false: nothing to render").into());
    }
    let _lock = lock(&config.agent.state_dir).context("`waypost run` keeps the files right by itself")?;
    let pipeline = Pipeline::load(config, node).await?;
    // Compiling plugins, which the first start does, takes nothing of it.
    let snapshot = Snapshot::take(&pipeline, Instant::now() + limit).await?;
    let mut rendered = Vec::new();
    for index in 0..pipeline.plugins.outputs.len() {
        rendered.push(snapshot.render(&pipeline, index).await?);
    }
    Ok(rendered)
}

/// What there is to render.
struct Snapshot {
    services: Services,
    ages: Ages,
    consumed: Consumed,
}

impl Snapshot {
    async fn take(pipeline: &Pipeline, deadline: Instant) -> Result<Self, BuildError> {
        let config = &pipeline.config;
        let is_asked = config.agent.register && config.output.iter().any(|output| output.services.is_some());
        let mut local = match !pipeline.is_shared() || is_asked {
            true => pipeline.local(&containers(&config.docker.endpoint.0, deadline).await?).await,
            false => Local::default(),
        };
        let mut registered = Vec::new();
        if pipeline.is_shared() {
            let registry = pipeline.registry()?;
            let listed = listed(&mut pipeline.watch(&*registry), &*registry, deadline).await;
            registered = listed.context("the files stay as they are")?;
            // It is rendered when it is registered.
            local.entries.clear();
        }
        let (services, ages) = pipeline.catalog(registered, &local).await;
        Ok(Snapshot { services, ages, consumed: local.consumed })
    }

    async fn render(&self, pipeline: &Pipeline, index: usize) -> Result<Rendered> {
        let settings = &pipeline.config.output[index];
        let (name, output) = pipeline.output(index);
        let options = ProxyOptions { reload: None, ..proxy_options(&pipeline.config, settings, &name) };
        let target = Target {
            name: name.clone(),
            directory: target::directory(&pipeline.config, index)?,
            saved_state: SavedState::new(&pipeline.config.agent.state_dir, &name),
            linger: settings.linger.0,
            proxy: Proxy::new(options),
            live: None,
        };
        let taken = target::selection(settings).update(&self.services, &self.consumed).clone();
        let (services, written) = discover::once(output, &taken, &self.ages, target).await;
        let own = ["service", "base", "claims"].map(|what| format!("output {name} {what}"));
        let problems = pipeline.status.report().problems.into_iter();
        let problems = problems.filter(|problem| own.contains(&problem.component));
        let held = problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect();
        Ok(Rendered { name, directory: settings.directory.clone(), services, held, written })
    }
}

/// The containers of this host, as soon as the engine answers.
async fn containers(endpoint: &str, deadline: Instant) -> Result<Containers> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
    loop {
        let error = match timeout_at(deadline, docker::snapshot(endpoint)).await {
            Ok(Ok(containers)) => return Ok(containers),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("container engine at {endpoint}: it does not answer"),
        };
        let pause = Instant::now() + backoff.next_delay();
        if pause >= deadline {
            return Err(error.context("containers were not listed in time, the files stay as they are"));
        }
        tracing::debug!(error = %format_args!("{error:#}"), "containers cannot be listed yet");
        tokio::time::sleep_until(pause).await;
    }
}
