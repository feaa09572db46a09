//! `waypost render`: the files that would be written, printed or compared with what is on disk, or written once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use similar::TextDiff;
use tokio::time::Instant;
use waypost::agent::{self, Pipeline, Rendered};
use waypost::docker;
use waypost::model::{Ages, Services};
use waypost::output::Output;

use super::table::{self, colour, paint, say};
use crate::cli::argument::ConfigArgument;
use crate::cli::failure::Failure;

/// How long the registry may take to be listed.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct RenderArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Output of `docker inspect` to take containers from instead of a running engine; `-` is standard input
    #[arg(long, value_name = "FILE")]
    containers: Option<PathBuf>,
    /// Show what differs from the files on disk; exit code 1 when something does
    #[arg(long)]
    diff: bool,
    /// Check the files and write them, then end; for images that render before their proxy starts
    #[arg(long, conflicts_with_all = ["containers", "diff"])]
    once: bool,
    /// With --once: how long etcd, or Docker without etcd, may take to be listed completely
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration, requires = "once")]
    wait: Duration,
}

pub(crate) async fn render(arguments: RenderArguments) -> Result<(), Failure> {
    let config = arguments.config.read()?;
    if arguments.once {
        return written(&agent::render_once(config, arguments.wait).await?);
    }
    let node = agent::node(&config)?;
    let pipeline = Pipeline::load(config, node).await?;
    let config = &pipeline.config;
    let containers = match &arguments.containers {
        Some(path) if path.as_os_str() == "-" => docker::read_saved(Path::new("/dev/stdin"))?,
        Some(path) => docker::read_saved(path)?,
        None => docker::snapshot(&config.docker.endpoint.0).await?,
    };
    let local = pipeline.local(&containers).await;
    let registered = match arguments.containers {
        None if pipeline.is_shared() => {
            let registry = pipeline.registry()?;
            let listed = agent::listed(&mut pipeline.watch(&*registry), &*registry, Instant::now() + TIMEOUT).await;
            listed.context("use --containers to do without it")?
        }
        _ => Vec::new(),
    };
    let (services, ages) = pipeline.catalog(registered, &local).await;
    let mut differ = false;
    for (index, settings) in config.output.iter().enumerate().take(pipeline.plugins.outputs.len()) {
        let (_, output) = pipeline.output(index);
        let mut selection = agent::selection(settings);
        let taken = selection.update(&services, &local.consumed);
        differ |= show(output, taken, &ages, &settings.directory, arguments.diff).await;
    }
    if config.output.is_empty() {
        return Err(anyhow!("the configuration has no [[output]], so there is nothing to render").into());
    }
    if arguments.diff && differ {
        return Err(anyhow!("the files on disk differ from what would be written").into());
    }
    Ok(())
}

/// Says what became of each output.
fn written(rendered: &[Rendered]) -> Result<(), Failure> {
    let mut failed = 0;
    for output in rendered {
        let what = match &output.written {
            Ok(true) => "written",
            Ok(false) => "as it was",
            Err(_) => "not written",
        };
        say!("{}: {} {what}, {} services", output.name, output.directory.display(), output.services);
        for held in &output.held {
            eprintln!("waypost: output {}: {held}", output.name);
        }
        if let Err(error) = &output.written {
            failed += 1;
            eprintln!("waypost: output {}: the old files stay: {error:#}", output.name);
        }
    }
    if failed > 0 {
        return Err(anyhow!("{failed} of {} outputs could not be written", rendered.len()).into());
    }
    Ok(())
}

async fn show(mut output: Output, services: &Services, ages: &Ages, directory: &Path, diff: bool) -> bool {
    output.update(services, ages, 0).await;
    let mut differ = false;
    for (path, text) in output.compose().files {
        let target = directory.join(&path);
        if !diff {
            say!("{}", paint("1", &format!("# {}", target.display())));
            table::write(&text, "");
            continue;
        }
        let old = std::fs::read(&target).unwrap_or_default();
        let old = String::from_utf8_lossy(&old);
        if old != *text {
            differ = true;
            let name = target.display().to_string();
            let lines = TextDiff::from_lines(old.as_ref(), &text);
            for line in lines.unified_diff().header(&name, &format!("{name} (new)")).to_string().lines() {
                let code = match line.as_bytes().first() {
                    Some(b'+') => "32",
                    Some(b'-') => "31",
                    _ => "0",
                };
                say!("{}", if colour() { paint(code, line) } else { line.to_owned() });
            }
        }
    }
    differ
}
