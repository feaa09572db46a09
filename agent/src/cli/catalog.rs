//! `waypost catalog`: what all hosts offer, from the running agent or from the registry itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::time::Instant;
use waypost::agent::{self, Local, Pipeline, SOCKET};
use waypost::config::RegistryKind;
use waypost::model::{Attributes, Node, Readiness, printable};
use waypost::status::{self, Report, ServiceReport};

use super::table::{self, paint, say};
use crate::cli::argument::ConfigArgument;
use crate::cli::failure::Failure;

/// How long the registry may take to be listed.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct CatalogArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Go on and show every change
    #[arg(short, long)]
    watch: bool,
    /// For programs: one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn catalog(arguments: CatalogArguments) -> Result<(), Failure> {
    let config = arguments.config.read()?;
    let socket = config.agent.state_dir.join(SOCKET);
    match status::ask(&socket, arguments.watch).await {
        Ok(mut reports) => {
            let mut shown = None;
            while let Some(report) = reports.next().await? {
                // What is wrong, and whether a proxy has caught up, changes without the services.
                let seen = (report.services.clone(), report.outputs.clone(), report.problems.clone());
                if shown.as_ref() != Some(&seen) || arguments.json {
                    show(&report, &arguments);
                }
                shown = Some(seen);
            }
            if shown.is_none() {
                return Err(anyhow!("the agent at {} ended without an answer", socket.display()).into());
            }
            if arguments.watch {
                return Err(anyhow!("the agent at {} ended", socket.display()).into());
            }
            Ok(())
        }
        Err(error) if config.registry.kind != Some(RegistryKind::Etcd) => {
            let hint = "the embedded registry lives in a running agent; start one with `waypost run`";
            Err(error.context(hint).into())
        }
        Err(_) => {
            let nobody = Node { name: String::new(), address: String::new(), attributes: Attributes::new() };
            from_registry(&Pipeline::load(config, nobody.into()).await?, &arguments).await
        }
    }
}

/// Without an agent: the registry is asked directly.
async fn from_registry(pipeline: &Pipeline, arguments: &CatalogArguments) -> Result<(), Failure> {
    let registry = pipeline.registry()?;
    pipeline.status.registry(registry.status().description);
    let mut watched = pipeline.watch(&*registry);
    loop {
        let registered = agent::listed(&mut watched, &*registry, Instant::now() + TIMEOUT).await?;
        let (services, _) = pipeline.catalog(registered, &Local::default()).await;
        pipeline.status.services(&services);
        show(&pipeline.status.report(), arguments);
        if !arguments.watch {
            return Ok(());
        }
        let changed = futures::future::select_all(watched.iter_mut().map(|entries| Box::pin(entries.changed())));
        changed.await.0.context("the registry's list ended")?;
    }
}

fn show(report: &Report, arguments: &CatalogArguments) {
    if arguments.json {
        match serde_json::to_string(report) {
            Ok(line) => say!("{line}"),
            Err(error) => eprintln!("waypost: the report cannot be written as JSON: {error}"),
        }
        return;
    }
    if arguments.watch && table::colour() {
        table::write("\x1b[2J\x1b[H", "");
    }
    let rows: Vec<_> = report.services.iter().flat_map(rows).collect();
    table::print(&["SERVICE", "INSTANCE", "ADDRESS", "STATE", "NODE"], &rows);
    if rows.is_empty() {
        say!("{}", paint("2", "no service yet"));
    }
    for (name, output) in &report.outputs {
        let state = match (&output.error, output.settled) {
            (Some(_), _) => paint("31", "failing"),
            (None, true) => paint("32", "up to date"),
            (None, false) => paint("33", "not up to date"),
        };
        let live = output.live.map(|count| format!("{} live, ", counted(count, "change"))).unwrap_or_default();
        let services = counted(output.services as u64, "service");
        let reloads = counted(output.reloads, "reload");
        say!("\noutput {name}: {state}, {services}, {live}{reloads}, {}", output.directory);
        let gone = |(name, until): (&String, &String)| say!("  {}: no instance, 503 until {until}", printable(name));
        output.lingering.iter().for_each(gone);
        output.differences.iter().for_each(|difference| say!("  {}", printable(difference)));
    }
    for problem in &report.problems {
        let text = format!("{} {}: {}", problem.component, problem.subject, problem.text);
        say!("{} {} (since {})", paint("31", "!"), printable(&text), problem.since);
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn rows(service: &ServiceReport) -> Vec<Vec<String>> {
    let none = BTreeMap::new();
    let mut rows = Vec::new();
    for instance in &service.instances {
        let attributes = if instance.attributes.is_empty() { &none } else { &instance.attributes };
        let address = match instance.address.contains(':') {
            true => format!("[{}]:{}", instance.address, instance.port),
            false => format!("{}:{}", instance.address, instance.port),
        };
        let state = match instance.readiness {
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
            Readiness::Gone => "gone",
        };
        let node = attributes.get("node").cloned().unwrap_or_default();
        rows.push(vec![service.name.clone(), instance.id.clone(), address, state.to_owned(), node]);
    }
    rows
}
