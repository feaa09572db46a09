//! Mode and owner of an output's files: those the operator names, else those of the file that is replaced.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

use anyhow::{Context as _, Result};

/// Mode of a file that was not there before, when the operator names none.
const NEW_MODE: u32 = 0o644;
/// The permission bits of a mode.
const BITS: u32 = 0o777;

/// What the operator wants the files to have; what is not given is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Number of the user.
    pub user: Option<u32>,
    /// Number of the group.
    pub group: Option<u32>,
}

impl Access {
    /// Looks user and group up, which are numbers or names that the system knows, from `/etc/passwd` or elsewhere.
    ///
    /// # Errors
    /// Says which name is not known, and what to do.
    pub fn resolve(mode: Option<u32>, user: Option<&str>, group: Option<&str>) -> Result<Self> {
        let user_id = |name: &str| Some(uzers::get_user_by_name(name)?.uid());
        let group_id = |name: &str| Some(uzers::get_group_by_name(name)?.gid());
        let user = user.map(|name| number(name, "user", user_id)).transpose()?;
        let group = group.map(|name| number(name, "group", group_id)).transpose()?;
        Ok(Access { mode, user, group })
    }

    /// Whether a file has what is wanted.
    pub(super) fn fits(&self, found: &Metadata) -> bool {
        self.mode.is_none_or(|mode| found.mode() & BITS == mode)
            && self.user.is_none_or(|user| found.uid() == user)
            && self.group.is_none_or(|group| found.gid() == group)
    }

    /// Gives a file what is wanted, and where nothing is, what the file had that it replaces.
    pub(super) fn give(&self, file: &File, old: Option<&Metadata>) -> io::Result<()> {
        self.keep_owner(file, old)?;
        let own = file.metadata()?;
        let differs = |wanted: Option<u32>, found: u32| wanted.is_some_and(|wanted| wanted != found);
        if differs(self.user, own.uid()) || differs(self.group, own.gid()) {
            fchown(file, self.user, self.group)?;
        }
        // After the owner, because a change of owner may clear bits of the mode.
        let mode = self.mode.unwrap_or_else(|| old.map_or(NEW_MODE, |old| old.mode() & BITS));
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Only root may give a file away; another user at least keeps the group when it is one of its own.
    fn keep_owner(&self, file: &File, old: Option<&Metadata>) -> io::Result<()> {
        let Some(old) = old else { return Ok(()) };
        let own = file.metadata()?;
        let user = (self.user.is_none() && own.uid() != old.uid()).then(|| old.uid());
        let group = (self.group.is_none() && own.gid() != old.gid()).then(|| old.gid());
        if (user.is_some() || group.is_some()) && fchown(file, user, group).is_err() {
            let given = fchown(file, None, group);
            tracing::debug!(group_kept = given.is_ok(), "the owner of a file could not be kept");
        }
        Ok(())
    }
}

/// The number of a user or group.
fn number(name: &str, what: &str, known: impl Fn(&str) -> Option<u32>) -> Result<u32> {
    let found = name.parse().ok().or_else(|| known(name));
    found
        .with_context(|| format!("found {what} {name:?}, which this system does not know; make it, or give its number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_resolved() {
        let root = Access::resolve(Some(0o640), Some("root"), Some("0")).unwrap();
        assert_eq!(root, Access { mode: Some(0o640), user: Some(0), group: Some(0) });
        assert_eq!(Access::resolve(None, None, Some("4321")).unwrap().group, Some(4321));
        let error = Access::resolve(None, Some("nobody-at-all"), None).unwrap_err().to_string();
        assert!(error.contains("found user \"nobody-at-all\"") && error.contains("give its number"), "{error}");
    }
}
