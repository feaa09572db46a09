//! Where an output's files go, under which name the output is known, and how its proxy is spoken to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::config::{self, Reload};
use crate::discover::LiveOptions;
use crate::model::Node;
use crate::output::write::{Access, Directory};
use crate::output::{Filter, Selection};
use crate::plugin::Plugin;
use crate::proxy::Socket;

/// How long one line to a proxy's stats socket may take.
const SOCKET_PATIENCE: Duration = Duration::from_secs(2);

/// Mode and owner of an output's files, with names looked up.
///
/// # Errors
/// When the user or group is not known on this host.
pub fn access(output: &config::Output) -> Result<Access> {
    let owner = output.owner.as_ref();
    let (user, group) = (owner.and_then(|owner| owner.user.as_deref()), owner.and_then(|owner| owner.group.as_deref()));
    Access::resolve(output.mode.map(|mode| mode.0), user, group).context("owner")
}

/// Where the programs are that the output runs, in the order check, reload.
pub fn programs(output: &config::Output) -> Vec<Result<PathBuf>> {
    let reload = match &output.reload {
        Some(Reload::Command(command) | Reload::Supervise(command, _)) => Some(command),
        _ => None,
    };
    let found = |name: &String| {
        which::which(name).with_context(|| format!("{name} is not there; install it, or name its whole path"))
    };
    output.check.iter().chain(reload).filter_map(|command| command.0.first()).map(found).collect()
}

/// The directory of `output[index]`.
pub(super) fn directory(output: &config::Output, index: usize) -> Result<Directory> {
    let opened = Directory::open(&output.directory)
        .with_context(|| format!("output[{index}]: directory {} cannot be used", output.directory.display()))?;
    Ok(opened.with_access(access(output).with_context(|| format!("output[{index}]"))?))
}

/// The names of all outputs: each that of its plugin, with a number from the second of a kind on.
pub(super) fn names(config: &config::Config) -> Vec<String> {
    let mut twins = BTreeMap::<String, usize>::new();
    let named = config.output.iter().map(|output| {
        let own = output.stage.source.name();
        let number = twins.entry(own.clone()).or_default();
        *number += 1;
        if *number == 1 { own } else { format!("{own}-{number}") }
    });
    named.collect()
}

/// Which services the output takes.
pub fn selection(output: &config::Output) -> Selection {
    let patterns = output.services.as_ref().map(|all| all.iter().map(|pattern| pattern.0.clone()).collect());
    Selection::new(Filter { patterns })
}

/// Whether the plugin can do what the output asks of it.
///
/// # Errors
/// Says what it cannot do.
pub(super) fn fits(output: &config::Output, plugin: &Plugin) -> Result<()> {
    ensure!(
        output.live.is_none() || plugin.description().live,
        "live: the plugin {} does not take changes over a stats socket; remove the key",
        plugin.name()
    );
    Ok(())
}

/// How the running proxy takes changes without a reload, when it is to.
pub(super) fn live(output: &config::Output, plugin: &Plugin, node: &Arc<Node>) -> Result<Option<LiveOptions>> {
    let Some(live) = &output.live else { return Ok(None) };
    fits(output, plugin)?;
    let socket = Socket::new(live.socket.clone(), SOCKET_PATIENCE.min(output.timeout.0));
    Ok(Some(LiveOptions { renderer: Arc::new(plugin.clone()), node: Arc::clone(node), socket, resync: live.resync.0 }))
}
