//! Where an output's files go, under which name the output is known, and how its proxy is spoken to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::{self, Config, ConfigError, Reload};
use crate::discover::LiveOptions;
use crate::model::Node;
use crate::output::write::{Access, Directory};
use crate::output::{Filter, Selection};
use crate::plugin::Plugin;
use crate::proxy::Socket;

/// How long one line to a proxy's stats socket may take.
const SOCKET_PATIENCE: Duration = Duration::from_secs(2);

/// Mode and owner of the files of `output[index]`, with names looked up.
///
/// # Errors
/// When the user or group is not known on this host.
pub fn access(config: &Config, index: usize) -> Result<Access, ConfigError> {
    let output = &config.output[index];
    let owner = output.owner.as_ref();
    let (user, group) = (owner.and_then(|owner| owner.user.as_deref()), owner.and_then(|owner| owner.group.as_deref()));
    Access::resolve(output.mode.map(|mode| mode.0), user, group)
        .map_err(|error| config.mistake(&format!("output[{index}].owner"), format_args!("{error:#}")))
}

/// Where the programs are that `output[index]` runs, in the order check, reload.
pub fn programs(config: &Config, index: usize) -> Vec<Result<PathBuf, ConfigError>> {
    let output = &config.output[index];
    let reload = match &output.reload {
        Some(Reload::Command(command)) => Some(("reload.command", command)),
        Some(Reload::Supervise(command, _)) => Some(("reload.supervise", command)),
        _ => None,
    };
    let check = output.check.as_ref().map(|command| ("check", command));
    let named = check.into_iter().chain(reload).filter_map(|(key, command)| Some((key, command.0.first()?)));
    let found = |(key, name): (&str, &String)| {
        which::which(name).map_err(|error| {
            let text = format!("{name} is not there; install it, or name its whole path: {error}");
            config.mistake(&format!("output[{index}].{key}[0]"), text)
        })
    };
    named.map(found).collect()
}

/// The directory of `output[index]`.
pub(super) fn directory(config: &Config, index: usize) -> Result<Directory> {
    let path = &config.output[index].directory;
    let opened = Directory::open(path)
        .with_context(|| format!("output[{index}]: directory {} cannot be used", path.display()))?;
    Ok(opened.with_access(access(config, index)?))
}

/// The names of all outputs: each that of its plugin, with a number from the second of a kind on.
pub(super) fn names(config: &Config) -> Vec<String> {
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

/// How the running proxy takes changes without a reload, when it is to.
pub(super) fn live(output: &config::Output, plugin: &Plugin, node: &Arc<Node>) -> Option<LiveOptions> {
    let live = output.live.as_ref()?;
    let socket = Socket::new(live.socket.0.clone(), SOCKET_PATIENCE.min(output.timeout.0));
    Some(LiveOptions { renderer: Arc::new(plugin.clone()), node: Arc::clone(node), socket, resync: live.resync.0 })
}
