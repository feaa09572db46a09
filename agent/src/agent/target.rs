//! Where an output's files go, and under which name the output is known.

use anyhow::{Context as _, Result};

use crate::config;
use crate::output::write::{Access, Directory};
use crate::plugin::Plugin;

/// Mode and owner of an output's files, with names looked up.
///
/// # Errors
/// When the user or group is not known on this host.
pub fn access(output: &config::Output) -> Result<Access> {
    let owner = output.owner.as_ref();
    let (user, group) = (owner.and_then(|owner| owner.user.as_deref()), owner.and_then(|owner| owner.group.as_deref()));
    Access::resolve(output.mode.map(|mode| mode.0), user, group).context("owner")
}

/// The directory of `output[index]`.
pub(super) fn directory(output: &config::Output, index: usize) -> Result<Directory> {
    let opened = Directory::open(&output.directory)
        .with_context(|| format!("output[{index}]: directory {} cannot be used", output.directory.display()))?;
    Ok(opened.with_access(access(output).with_context(|| format!("output[{index}]"))?))
}

/// The name of its plugin, with a number from the second of a kind on.
pub(super) fn name(outputs: &[Plugin], index: usize) -> String {
    let own = outputs[index].name();
    let twins = outputs[..index].iter().filter(|earlier| earlier.name() == own).count();
    if twins == 0 { own.to_owned() } else { format!("{own}-{}", twins + 1) }
}
