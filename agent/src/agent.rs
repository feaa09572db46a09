//! Builds the stages and spawns the loops, nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{self, Advertise, Config, ConfigError, OnStop, RegistryKind};
use crate::discover::{self, Inputs, Pace, Target};
use crate::docker;
use crate::grouping::Grouping;
use crate::layout::{Decoder, Encoder, Layout};
use crate::model::{Ages, Node};
use crate::output::{Consumed, Memory, Output};
use crate::plugin::{Host, Kind, Limits, LoadError, Plugin, Source};
use crate::proxy::{Proxy, ProxyOptions};
use crate::register::Register;
use crate::registry::{Registry, etcd, memory};
use crate::status::{self, Status};

mod address;
mod ending;
mod once;
mod reload;
mod sources;
mod target;

pub use ending::{Ending, adopted};
pub use once::{Rendered, render_once};
pub use target::{access, programs, selection};

/// Name of the stats socket in the state directory.
pub const SOCKET: &str = "waypost.sock";

/// How often the status of the registry is read.
const REGISTRY_CHECK: Duration = Duration::from_secs(1);

/// Why an agent could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operator has to change the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The world is not as it must be.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// All plugins of a configuration, loaded and configured.
pub struct Plugins {
    host: Host,
    /// In the order they are asked.
    pub groupings: Vec<Plugin>,
    /// Layouts, whether they are read, whether they are written.
    pub layouts: Vec<(Layout, bool, bool)>,
    /// In the order of the configuration.
    pub outputs: Vec<Plugin>,
}

impl Plugins {
    /// Loads everything the configuration names.
    ///
    /// # Errors
    /// Names the part of the configuration and, in words, what is wrong with its plugin.
    pub async fn load(config: &Config) -> Result<Self, BuildError> {
        let limits = Limits {
            memory: (config.plugins.memory_mib as usize) << 20,
            deadline: config.plugins.deadline.0,
            timeout: config.plugins.timeout.0,
            result: (config.plugins.result_mib as usize) << 20,
        };
        let host = Host::new(limits, Some(config.agent.state_dir.join("plugins")))?;
        let stages = |key: &'static str, stages: Vec<&config::Stage>, kind| {
            let named =
                stages.into_iter().enumerate().map(move |(index, stage)| (format!("{key}[{index}]"), stage.clone()));
            let loading: Vec<_> = named.map(|(key, stage)| load(&host, config, key, stage, kind)).collect();
            futures::future::try_join_all(loading)
        };
        let (groupings, layouts, outputs) = futures::try_join!(
            stages("grouping", config.grouping.iter().filter(|_| config.agent.register).collect(), Kind::Grouping),
            stages("layout", config.layout.iter().map(|layout| &layout.stage).collect(), Kind::Layout),
            stages(
                "output",
                config.output.iter().filter(|_| config.agent.discover).map(|output| &output.stage).collect(),
                Kind::Output
            ),
        )?;
        for (index, (plugin, output)) in outputs.iter().zip(&config.output).enumerate() {
            if output.live.is_some() && !plugin.description().live {
                let text = "does not take changes over a stats socket; remove the key";
                let text = format!("the plugin {} {text}", plugin.name());
                return Err(config.mistake(&format!("output[{index}].live"), text).into());
            }
        }
        let mut prepared = Vec::new();
        for (index, (plugin, layout)) in layouts.into_iter().zip(&config.layout).enumerate() {
            let built = Layout::new(plugin).await.map_err(|error| {
                let text = format!("{error:#}");
                config.mistake(&config.key_named(&format!("layout[{index}].settings"), &text), text)
            })?;
            prepared.push((built, layout.read.unwrap_or(index == 0), layout.write));
        }
        Ok(Plugins { host, groupings, layouts: prepared, outputs })
    }

    /// The layouts that the catalog is read from.
    pub fn decoders(&self, status: &Status) -> Vec<(Vec<String>, Decoder)> {
        let read = self.layouts.iter().filter(|(_, read, _)| *read);
        read.map(|(layout, ..)| (layout.prefixes.clone(), Decoder::new(layout.clone(), status.clone()))).collect()
    }

    /// The layouts that registrations are written in.
    pub fn encoder(&self, node: &Arc<Node>, status: &Status) -> Encoder {
        let written = self.layouts.iter().filter(|(.., write)| *write).map(|(layout, ..)| layout.clone());
        Encoder::new(written.collect(), Arc::clone(node), status.clone())
    }
}

async fn load(
    host: &Host,
    config: &Config,
    key: String,
    stage: config::Stage,
    kind: Kind,
) -> Result<Plugin, ConfigError> {
    let (source, source_key) = match &stage.source {
        config::Source::Shipped(name) => (Source::Shipped(name), format!("{key}.plugin")),
        config::Source::File(path, digest) => {
            (Source::File(path, digest.as_ref().map(|digest| digest.0.as_str())), format!("{key}.path"))
        }
    };
    let plugin = host.load(source, &stage.settings).await.map_err(|error| {
        let key = match error.downcast_ref() {
            Some(LoadError::Digest { .. }) => format!("{key}.sha256"),
            Some(LoadError::Settings { words, .. }) => config.key_named(&format!("{key}.settings"), words),
            Some(LoadError::Crash(_)) => format!("{key}.settings"),
            None => source_key.clone(),
        };
        config.mistake(&key, format_args!("{error:#}"))
    })?;
    let found = plugin.description().kind;
    if found != kind {
        let text = format!("plugin {}: found a plugin of kind {found}, expected {kind}", plugin.name());
        return Err(config.mistake(&source_key, text));
    }
    Ok(plugin)
}

/// The host as plugins see it.
///
/// # Errors
/// When its address or name cannot be told.
pub fn node(config: &Config) -> Result<Arc<Node>, BuildError> {
    let name = match &config.agent.node {
        Some(name) => name.clone(),
        None => address::host_name()?,
    };
    let advertise = config.agent.advertise.as_ref();
    let address = address::resolve(advertise).map_err(|error| {
        let key = match advertise {
            Some(Advertise::Interface(_)) => "agent.advertise.interface",
            Some(Advertise::Network(..)) => "agent.advertise.network",
            Some(Advertise::Address(_)) | None => "agent.advertise",
        };
        config.mistake(key, format_args!("{error:#}"))
    })?;
    Ok(Arc::new(Node { name, address: address.to_string(), attributes: crate::model::Attributes::new() }))
}

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

/// A built agent, ready to run.
pub struct Agent {
    config: Config,
    plugins: Plugins,
    node: Arc<Node>,
    registry: Arc<dyn Registry>,
    status: Status,
}

impl Agent {
    /// Loads the plugins and prepares the stages; nothing is watched or written yet.
    ///
    /// # Errors
    /// Names the part of the configuration that is wrong, or what the world lacks.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let node = node(&config)?;
        let plugins = Plugins::load(&config).await?;
        let registry = registry(&config, Some(config.agent.state_dir.clone()), Some(Arc::clone(&node)))?;
        for (index, output) in config.output.iter().enumerate().filter(|_| config.agent.discover) {
            std::fs::create_dir_all(&output.directory).map_err(|error| {
                let text = format!("directory {} cannot be made: {error}", output.directory.display());
                config.mistake(&format!("output[{index}].directory"), text)
            })?;
            access(&config, index)?;
        }
        let status = Status::new(&node.name);
        Ok(Agent { config, plugins, node, registry, status })
    }

    /// How many plugins had to be compiled and need not be at the next start.
    pub fn compiled(&self) -> usize {
        self.plugins.host.compiled()
    }

    /// Runs both loops until it is asked to end or one of them fails.
    ///
    /// # Errors
    /// What ended a loop before it was asked to end.
    pub async fn run(self, ending: Ending) -> Result<()> {
        let Agent { config, plugins, node, registry, status } = self;
        let stop = ending.stop.clone();
        if config.agent.on_stop == OnStop::Leave {
            ending.leave.store(true, Ordering::Release);
        }
        info!(node = node.name, address = node.address, registry = registry.status().description, "agent started");
        status.registry(registry.status().description);
        let mut loops = JoinSet::new();
        let (consumed_out, consumed) = watch::channel(Consumed::new());
        if config.agent.discover {
            spawn_discover(&mut loops, &config, &plugins, &node, &*registry, &status, &consumed, &ending)?;
        }
        if config.agent.register {
            let options =
                docker::Options { endpoint: config.docker.endpoint.0.clone(), resync: config.docker.resync.0 };
            let containers = docker::watch(options, status.clone(), stop.clone());
            let register = Register {
                grouping: Grouping::new(plugins.groupings.clone(), Arc::clone(&node), status.clone()),
                encoder: plugins.encoder(&node, &status),
                presence: (config.registry.kind == Some(RegistryKind::Etcd)).then(|| Arc::clone(&node)),
                consumed: consumed_out,
                status: status.clone(),
                resync: config.docker.resync.0,
                leave: Arc::clone(&ending.leave),
            };
            loops.spawn(register.run(containers, Arc::clone(&registry), stop.clone()));
        } else {
            // Nothing is consumed, which the outputs must not take for an ended input.
            loops.spawn(hold(consumed_out, stop.clone()));
        }
        loops.spawn(watch_registry(Arc::clone(&registry), status.clone(), stop.clone()));
        let socket = config.agent.state_dir.join(SOCKET);
        let (status, ended) = (status.clone(), stop.clone());
        loops.spawn(async move { status::serve(&socket, status, ended).await });
        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended.context("a loop panicked").and_then(|result| result);
            if ended.is_err() && outcome.is_ok() {
                outcome = ended;
            }
            stop.cancel();
        }
        drop(plugins.host);
        outcome
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

#[expect(clippy::too_many_arguments, reason = "wiring: each is one wire")]
fn spawn_discover(
    loops: &mut JoinSet<Result<()>>,
    config: &Config,
    plugins: &Plugins,
    node: &Arc<Node>,
    registry: &dyn Registry,
    status: &Status,
    consumed: &watch::Receiver<Consumed>,
    ending: &Ending,
) -> Result<()> {
    let sources = sources::sources(config, plugins, registry, status);
    if sources.is_empty() {
        bail!("no layout is read; give one of them read = true, or set agent.discover = false");
    }
    let (catalog_out, services) = watch::channel(None);
    let (ages_out, ages) = watch::channel(Ages::new());
    let names = target::names(config);
    for (index, (settings, plugin)) in config.output.iter().zip(&plugins.outputs).enumerate() {
        let name = names[index].clone();
        let leave = ending.of_proxy(&name, config.agent.on_stop == OnStop::Leave);
        let output = Output::new(&name, Arc::new(plugin.clone()), Arc::clone(node), status.clone());
        let directory = target::directory(config, index)?;
        // The proxy is stopped by its output's loop, after that loop's last turn.
        let proxy = Proxy::new(proxy_options(config, settings, &name)?, CancellationToken::new());
        let live = target::live(settings, plugin, node);
        let memory = Memory::new(&config.agent.state_dir, &name);
        let linger = settings.linger.0;
        let target = Target { name, directory, memory, linger, proxy, live, leave };
        let selection = target::selection(settings);
        let inputs = Inputs { services: services.clone(), ages: ages.clone(), consumed: consumed.clone(), selection };
        let pace = Pace { min: settings.debounce.min.0, max: settings.debounce.max.0 };
        loops.spawn(discover::serve(output, inputs, target, pace, status.clone(), ending.stop.clone()));
    }
    loops.spawn(discover::follow(sources, catalog_out, ages_out, status.clone(), ending.stop.clone()));
    Ok(())
}

fn proxy_options(config: &Config, output: &config::Output, name: &str) -> Result<ProxyOptions> {
    Ok(ProxyOptions {
        dir: output.directory.clone(),
        check: output.check.as_ref().map(|check| check.0.clone()),
        bind_check: output.bind_check,
        reload: output.reload.clone().map(|reload| reload::method(config, output, reload)).transpose()?,
        timeout: output.timeout.0,
        min_interval: output.min_interval.0,
        name: name.to_owned(),
    })
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
