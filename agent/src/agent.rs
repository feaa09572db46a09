//! Builds the stages and spawns the loops.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{self, Config, OnStop};
use crate::discover::{self, Inputs, Pace, Target};
use crate::docker;
use crate::model::Ages;
use crate::output::{Consumed, SavedState};
use crate::proxy::{Proxy, ProxyOptions};
use crate::register::Register;
use crate::registry::Registry;
use crate::shutdown::{Kept, Shutdown};
use crate::status::{self, Status};

mod address;
mod adopted;
mod error;
mod node;
mod once;
mod pipeline;
mod plugins;
mod registry;
mod reload;
mod sources;
mod target;

pub use adopted::adopted;
pub use error::BuildError;
pub use node::node;
pub use once::{Rendered, render_once};
pub use pipeline::{Local, Pipeline, listed};
pub use plugins::Plugins;
pub use registry::registry;
pub use target::{access, programs, selection};

/// Name of the stats socket in the state directory.
pub const SOCKET: &str = "waypost.sock";

/// How often the status of the registry is read.
const REGISTRY_CHECK: Duration = Duration::from_secs(1);

/// A built agent, ready to run.
pub struct Agent {
    pipeline: Pipeline,
    registry: Arc<dyn Registry>,
}

impl Agent {
    /// Loads the plugins and prepares the stages; nothing is watched or written yet.
    ///
    /// # Errors
    /// Names the part of the configuration that is wrong, or what the world lacks.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let node = node(&config)?;
        let pipeline = Pipeline::load(config, Arc::clone(&node)).await?;
        let config = &pipeline.config;
        let registry = registry(config, Some(config.agent.state_dir.clone()), Some(node))?;
        for (index, output) in config.output.iter().enumerate().filter(|_| config.agent.discover) {
            std::fs::create_dir_all(&output.directory).map_err(|error| {
                let text = format!("directory {} cannot be made: {error}", output.directory.display());
                config.mistake(&format!("output[{index}].directory"), text)
            })?;
            access(config, index)?;
        }
        Ok(Agent { pipeline, registry })
    }

    /// How many plugins had to be compiled and need not be at the next start.
    pub fn compiled(&self) -> usize {
        self.pipeline.plugins.host.compiled()
    }

    /// What asks this agent to end; what stays then is what the configuration says, unless the request says otherwise.
    pub fn shutdown(&self) -> Shutdown {
        let leaves = self.pipeline.config.agent.on_stop == OnStop::Leave;
        Shutdown::new(if leaves { Kept::all() } else { Kept::default() })
    }

    /// Runs both loops until `shutdown` is requested or one of them fails.
    ///
    /// # Errors
    /// What ended a loop before it was asked to end.
    pub async fn run(self, shutdown: Shutdown) -> Result<()> {
        let Pipeline { config, node, status, .. } = &self.pipeline;
        let description = self.registry.status().description;
        info!(node = node.name, address = node.address, registry = description, "agent started");
        status.registry(description);
        let mut loops = JoinSet::new();
        let (consumed_out, consumed) = watch::channel(Consumed::new());
        if config.agent.discover {
            self.spawn_discover(&mut loops, &consumed, &shutdown)?;
        }
        if config.agent.register {
            self.spawn_register(&mut loops, consumed_out, &shutdown);
        } else {
            // Nothing is consumed, which the outputs must not take for an ended input.
            loops.spawn(hold(consumed_out, shutdown.token()));
        }
        loops.spawn(watch_registry(Arc::clone(&self.registry), status.clone(), shutdown.token()));
        let socket = config.agent.state_dir.join(SOCKET);
        let (shown, ended) = (status.clone(), shutdown.token());
        loops.spawn(async move { status::serve(&socket, shown, ended).await });
        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended.context("a loop panicked").and_then(|result| result);
            if ended.is_err() && outcome.is_ok() {
                outcome = ended;
            }
            shutdown.request();
        }
        outcome
    }

    fn spawn_register(&self, loops: &mut JoinSet<Result<()>>, consumed: watch::Sender<Consumed>, shutdown: &Shutdown) {
        let Pipeline { config, plugins, node, status } = &self.pipeline;
        let options = docker::Options { endpoint: config.docker.endpoint.0.clone(), resync: config.docker.resync.0 };
        let containers = docker::watch(options, status.clone(), shutdown.token());
        let register = Register {
            grouping: self.pipeline.grouping(),
            encoder: plugins.encoder(node, status),
            presence: self.pipeline.is_shared().then(|| Arc::clone(node)),
            consumed,
            status: status.clone(),
            resync: config.docker.resync.0,
        };
        loops.spawn(register.run(containers, Arc::clone(&self.registry), shutdown.clone()));
    }

    fn spawn_discover(
        &self,
        loops: &mut JoinSet<Result<()>>,
        consumed: &watch::Receiver<Consumed>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let Pipeline { config, plugins, node, status } = &self.pipeline;
        let sources = sources::sources(&self.pipeline, &*self.registry);
        if sources.is_empty() {
            bail!("no layout is read; give one of them read = true, or set agent.discover = false");
        }
        let (catalog_out, services) = watch::channel(None);
        let (ages_out, ages) = watch::channel(Ages::new());
        for (index, (settings, plugin)) in config.output.iter().zip(&plugins.outputs).enumerate() {
            let (name, output) = self.pipeline.output(index);
            let directory = target::directory(config, index)?;
            // The proxy is stopped by its output's loop, after that loop's last turn.
            let proxy = Proxy::new(proxy_options(config, settings, &name));
            let live = target::live(settings, plugin, node);
            let saved_state = SavedState::new(&config.agent.state_dir, &name);
            let target = Target { name, directory, saved_state, linger: settings.linger.0, proxy, live };
            let selection = target::selection(settings);
            let (services, ages) = (services.clone(), ages.clone());
            let inputs = Inputs { services, ages, consumed: consumed.clone(), selection };
            let pace = Pace { min: settings.debounce.min.0, max: settings.debounce.max.0 };
            loops.spawn(discover::serve(output, inputs, target, pace, status.clone(), shutdown.clone()));
        }
        loops.spawn(discover::follow(sources, catalog_out, ages_out, status.clone(), shutdown.token()));
        Ok(())
    }
}

/// Reports whether the registry answers.
async fn watch_registry(registry: Arc<dyn Registry>, status: Status, stop: CancellationToken) -> Result<()> {
    let mut ticks = tokio::time::interval(REGISTRY_CHECK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = registry.status();
        match now.error.filter(|_| !now.connected) {
            Some(error) => status.problem("registry", &now.description, format!("it is away, routes stay: {error}")),
            None => status.resolved("registry", &now.description),
        }
        status.replace("registry key", now.contested);
    }
}

async fn hold(consumed: watch::Sender<Consumed>, stop: CancellationToken) -> Result<()> {
    stop.cancelled().await;
    drop(consumed);
    Ok(())
}

fn proxy_options(config: &Config, output: &config::Output, name: &str) -> ProxyOptions {
    ProxyOptions {
        dir: output.directory.clone(),
        check: output.check.as_ref().map(|check| check.0.clone()),
        bind_check: output.bind_check,
        reload: output.reload.clone().map(|reload| reload::method(config, output, reload)),
        timeout: output.timeout.0,
        min_interval: output.min_interval.0,
        name: name.to_owned(),
    }
}

/// Makes sure that one agent at a time uses the state directory, while the file is open.
///
/// # Errors
/// When the directory cannot be made, or another agent uses it.
pub fn lock(state_dir: &Path) -> Result<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let at = || format!("state directory {}", state_dir.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .with_context(|| format!("{} cannot be made; set agent.state-dir to a place this user can write", at()))?;
    let path = state_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path).with_context(at)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("{} is in use by another agent", at()))?;
    Ok(file)
}
