//! All outputs once, for images that render their files before their proxy starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{BuildError, Plugins, lock, node, proxy_options, registry, target};
use crate::backoff::Backoff;
use crate::config::{Config, RegistryKind};
use crate::discover::{self, Target};
use crate::docker;
use crate::grouping::Grouping;
use crate::health;
use crate::layout::Decoder;
use crate::model::{Ages, Containers, Entries, Node, Services, Stored};
use crate::output::{Consumed, Memory, Output};
use crate::proxy::{Proxy, ProxyOptions};
use crate::status::Status;

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
pub async fn render_once(config: &Config, limit: Duration) -> Result<Vec<Rendered>, BuildError> {
    let node = node(config)?;
    for index in 0..config.output.len() {
        target::access(config, index)?;
    }
    if config.output.is_empty() || !config.agent.discover {
        return Err(anyhow!("the configuration has no [[output]], or agent.discover = false: nothing to render").into());
    }
    let _lock = lock(&config.agent.state_dir).context("`waypost run` keeps the files right by itself")?;
    let plugins = Plugins::load(config).await?;
    let status = Status::new(&node.name);
    // Compiling plugins, which the first start does, takes nothing of it.
    let deadline = Instant::now() + limit;
    let catalog = catalog(config, &plugins, &node, &status, deadline).await?;
    let mut rendered = Vec::new();
    for index in 0..plugins.outputs.len() {
        rendered.push(output(config, &plugins, index, &node, &status, &catalog).await?);
    }
    Ok(rendered)
}

/// What there is to render.
struct Found {
    services: Services,
    ages: Ages,
    consumed: Consumed,
}

async fn output(
    config: &Config,
    plugins: &Plugins,
    index: usize,
    node: &Arc<Node>,
    status: &Status,
    catalog: &Found,
) -> Result<Rendered> {
    let (settings, name) = (&config.output[index], target::names(config).swap_remove(index));
    let plugin = plugins.outputs[index].clone();
    let output = Output::new(&name, Arc::new(plugin), Arc::clone(node), status.clone());
    let options = ProxyOptions { reload: None, ..proxy_options(config, settings, &name)? };
    let target = Target {
        name: name.clone(),
        directory: target::directory(config, index)?,
        memory: Memory::new(&config.agent.state_dir, &name),
        linger: settings.linger.0,
        proxy: Proxy::new(options, CancellationToken::new()),
        live: None,
        leave: Arc::default(),
    };
    let taken = target::selection(settings).update(&catalog.services, &catalog.consumed).clone();
    let (services, written) = discover::once(output, &taken, &catalog.ages, target).await;
    let own = ["service", "base", "claims"].map(|what| format!("output {name} {what}"));
    let problems = status.report().problems.into_iter().filter(|problem| own.contains(&problem.component));
    let held = problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect();
    Ok(Rendered { name, directory: settings.directory.clone(), services, held, written })
}

async fn catalog(
    config: &Config,
    plugins: &Plugins,
    node: &Arc<Node>,
    status: &Status,
    deadline: Instant,
) -> Result<Found, BuildError> {
    let alone = config.registry.kind != Some(RegistryKind::Etcd);
    let mut grouping = Grouping::new(plugins.groupings.clone(), Arc::clone(node), status.clone());
    if alone || (config.agent.register && config.output.iter().any(|output| output.services.is_some())) {
        let containers = listed(&config.docker.endpoint.0, deadline).await?;
        grouping.update(&health::admitted(&containers)).await;
    }
    let readings = if alone {
        let own = plugins.encoder(node, status).update(&grouping.provided()).await;
        let of = |prefixes: &[String]| -> Entries {
            let ours = own.iter().filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())));
            let stored = |value: &Arc<str>| Stored { value: value.clone(), created: 0 };
            ours.map(|(key, entry)| (Arc::from(key.as_str()), stored(&entry.value))).collect()
        };
        plugins.decoders(status).into_iter().map(|(prefixes, decoder)| (of(&prefixes), decoder)).collect()
    } else {
        registered(config, plugins.decoders(status), deadline).await?
    };
    let (services, ages) = discover::catalog_of(readings).await;
    Ok(Found { services, ages, consumed: grouping.consumed() })
}

/// What all hosts registered.
async fn registered(
    config: &Config,
    decoders: Vec<(Vec<String>, Decoder)>,
    deadline: Instant,
) -> Result<Vec<(Entries, Decoder)>, BuildError> {
    let registry = registry(config, None, None)?;
    let followed: Vec<_> =
        decoders.into_iter().map(|(prefixes, decoder)| (registry.watch(prefixes), decoder)).collect();
    let mut readings = Vec::new();
    for (mut entries, decoder) in followed {
        let listed = timeout_at(deadline, entries.wait_for(Option::is_some)).await;
        let late = || {
            let status = registry.status();
            let why = status.error.unwrap_or_else(|| "no answer".to_owned());
            format!("{} was not listed in time, the files stay as they are: {why}", status.description)
        };
        let found = listed.with_context(late)?.with_context(late)?.clone();
        readings.push((found.unwrap_or_default(), decoder));
    }
    Ok(readings)
}

/// The containers of this host, as soon as the engine answers.
async fn listed(endpoint: &str, deadline: Instant) -> Result<Containers> {
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
