//! `waypost check`: is the configuration good, do plugins load, does everything answer?

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;
use waypost::agent::{self, Pipeline};
use waypost::config::{Output, Reload};
use waypost::docker;
use waypost::registry::Registry;

use super::table::{paint, say};
use crate::cli::argument::ConfigArgument;
use crate::cli::failure::Failure;

/// How long an endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn check(argument: ConfigArgument) -> Result<(), Failure> {
    let config = argument.read()?;
    let node = agent::node(&config)?;
    good("configuration", &format!("node {} at {}", node.name, node.address));
    let pipeline = Pipeline::load(config, node).await?;
    let Pipeline { config, plugins, .. } = &pipeline;
    let layouts = plugins.layouts.iter().map(|(layout, ..)| &layout.plugin);
    let all = plugins.groupings.iter().chain(layouts).chain(&plugins.outputs);
    let names: Vec<_> = all.map(waypost::plugin::Plugin::name).collect();
    good("plugins", &names.join(", "));
    let mut failed = 0;
    let controls = |output: &Output| matches!(output.reload, Some(Reload::Container(..)));
    if config.agent.register || config.output.iter().any(controls) {
        let endpoint = &config.docker.endpoint.0;
        let answer = tokio::time::timeout(TIMEOUT, docker::version(endpoint)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow!("{endpoint} does not answer within {TIMEOUT:?}")));
        failed += report("container engine", answer.map(|version| format!("version {version} at {endpoint}")));
    }
    let registry = pipeline.registry()?;
    failed += report("registry", entries(&pipeline, &*registry).await);
    for (index, output) in config.output.iter().enumerate() {
        let directory = &output.directory;
        let found = std::fs::metadata(directory);
        let usable = found.map_err(anyhow::Error::from).and_then(|found| match found.is_dir() {
            true => Ok(directory.display().to_string()),
            false => Err(anyhow!("{} is not a directory", directory.display())),
        });
        let missing = usable.as_ref().is_err_and(|error| {
            error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        });
        let shown = if missing { Ok(format!("{} will be created", directory.display())) } else { usable };
        failed += report("output directory", shown);
        if let Err(error) = agent::access(config, index) {
            failed += report("output files", Err(error.into()));
        }
        for program in agent::programs(config, index) {
            failed += report("program", program.map(|path| path.display().to_string()).map_err(Into::into));
        }
    }
    if failed > 0 {
        return Err(anyhow!("{failed} of what the configuration names does not work").into());
    }
    Ok(())
}

async fn entries(pipeline: &Pipeline, registry: &dyn Registry) -> Result<String> {
    if !pipeline.is_shared() {
        return Ok("memory: this host alone".to_owned());
    }
    let prefixes = pipeline.plugins.layouts.iter().flat_map(|(layout, ..)| layout.prefixes.clone()).collect();
    let mut watched = [registry.watch(prefixes)];
    let listed = agent::listed(&mut watched, registry, Instant::now() + TIMEOUT).await?;
    Ok(format!("{}, {} entries", registry.status().description, listed[0].len()))
}

fn report(what: &str, outcome: Result<String>) -> usize {
    match outcome {
        Ok(text) => {
            good(what, &text);
            0
        }
        Err(error) => {
            say!("{} {what:18} {error:#}", paint("31", "failed"));
            1
        }
    }
}

fn good(what: &str, text: &str) {
    say!("{} {what:18} {text}", paint("32", "ok    "));
}
