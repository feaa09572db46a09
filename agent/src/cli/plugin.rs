//! `waypost plugin`: what plugins are and what they ask for.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use waypost::model::printable;
use waypost::plugin::{Description, Host, Limits, Source};

use super::table::{self, say};
use crate::cli::failure::Failure;

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins that are built in
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Load a plugin and show what it says of itself
    Inspect {
        /// A file, or the name of a shipped plugin
        plugin: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn plugin(command: PluginCommand) -> Result<(), Failure> {
    let host = Host::new(Limits::default(), user_cache())?;
    let settings = json!({});
    match command {
        PluginCommand::List { json } => {
            let loading = Host::shipped().into_iter().map(|name| host.load(Source::Shipped(name), &settings));
            let loaded = futures::future::try_join_all(loading).await?;
            let all: Vec<_> = loaded.iter().map(waypost::plugin::Plugin::description).collect();
            if json {
                say!("{}", all.into_iter().map(as_json).collect::<serde_json::Value>());
                return Ok(());
            }
            let row = |one: &&Description| {
                vec![one.name.clone(), one.kind.to_string(), one.version.clone(), one.summary.clone()]
            };
            table::print(&["NAME", "KIND", "VERSION", "SUMMARY"], &all.iter().map(row).collect::<Vec<_>>());
        }
        PluginCommand::Inspect { plugin, json } => {
            let shipped = plugin.to_str().filter(|name| Host::shipped().contains(name));
            let source = shipped.map_or(Source::File(Path::new(&plugin), None), Source::Shipped);
            let loaded = host.load(source, &settings).await?;
            let one = loaded.description();
            if json {
                say!("{}", as_json(one));
            } else {
                show(one);
            }
        }
    }
    Ok(())
}

/// Where compiled plugins of this user are kept, for an answer at once.
fn user_cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    base.is_absolute().then(|| base.join("waypost").join("plugins"))
}

fn as_json(one: &Description) -> serde_json::Value {
    let schema = serde_json::from_str(&one.settings_schema).unwrap_or(serde_json::Value::Null);
    json!({
        "name": one.name, "kind": one.kind.to_string(), "live": one.live, "version": one.version,
        "summary": one.summary, "environment": one.environment, "sha256": one.sha256, "settings-schema": schema,
    })
}

fn show(one: &Description) {
    let live = if one.live { ", takes changes over a socket" } else { "" };
    let environment =
        if one.environment.is_empty() { "none".to_owned() } else { printable(&one.environment.join(", ")) };
    say!("{} {}", table::paint("1", &printable(&one.name)), printable(&one.version));
    say!("  {}", printable(&one.summary));
    say!("  kind         {}{live}", one.kind);
    say!("  environment  {environment}");
    say!("  sha256       {}", one.sha256);
    match serde_json::from_str::<serde_json::Value>(&one.settings_schema) {
        Ok(schema) => say!("  settings     {schema:#}"),
        Err(_) if one.settings_schema.is_empty() => say!("  settings     none"),
        Err(error) => say!("  settings     its schema is not JSON: {error}"),
    }
}
