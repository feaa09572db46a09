//! Files to disk: a set of files replaces the one before without ever being torn.
//!
//! The whole set is first written into a *stage*, a directory inside the output's own, where a proxy's check
//! can read it as it will be. A commit then renames what differs from the disk into place, each old file
//! being whole until its successor is. What is on disk decides what differs, not what was written before: a
//! hand in the directory heals. Files that an earlier set had and this one has not are removed; a list of
//! our files (`.waypost-files`) tells them from the operator's.
//!
//! A link at a file's place is replaced, never followed. A file that is a mount of its own cannot be exchanged and is
//! written in place. Everything here blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod access;
mod error;
mod place;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use error::WriteError;

/// The stage inside the output's directory.
const STAGE: &str = ".waypost-staged";
/// Paths of the files that an agent wrote here, one a line.
const LIST: &str = ".waypost-files";

/// The directory of an output.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    access: Access,
}

impl Directory {
    /// Opens a directory, creates it when it is missing, and removes the stage of a run that crashed.
    ///
    /// # Errors
    /// It cannot be created, is no directory, or the old stage cannot be removed.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        place::remove_tree(&root.join(STAGE))?;
        Ok(Directory { root, access: Access::default() })
    }

    /// Files have this mode and owner from now on; one on the disk that has others counts as different.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Directory { access, ..self }
    }

    /// Whether an agent wrote files here before.
    pub fn is_written(&self) -> bool {
        !self.listed().is_empty()
    }

    /// The files that an agent wrote here before, where they are text.
    pub fn files(&self) -> BTreeMap<String, Arc<str>> {
        let read = |path: String| {
            let text = fs::read_to_string(self.root.join(&path)).ok()?;
            Some((path, Arc::from(text)))
        };
        self.listed().into_iter().filter_map(read).collect()
    }

    /// Where the files are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a complete set of files beside what is there; none when the disk has exactly these.
    ///
    /// One stage exists at a time: an earlier one that was neither committed nor dropped is replaced.
    ///
    /// # Errors
    /// Names the path and what to do; what is in the directory stays as it was.
    pub fn stage(&self, files: &BTreeMap<String, Arc<str>>) -> Result<Option<Staged>, WriteError> {
        for path in files.keys() {
            place::check(&self.root, path).map_err(|error| error.blaming(&[path]))?;
            no_file_above(path, files)?;
        }
        let is_file = |path: &String| self.root.join(path).symlink_metadata().is_ok_and(|found| !found.is_dir());
        let is_gone = |path: &String| !files.contains_key(path) && is_file(path);
        let gone: Vec<String> = self.listed().into_iter().filter(is_gone).collect();
        let differs = |(path, text): (&String, &Arc<str>)| !place::is_same(&self.root.join(path), text, &self.access);
        if gone.is_empty() && !files.iter().any(differs) {
            self.list(files.keys())?;
            return Ok(None);
        }
        let stage = self.root.join(STAGE);
        place::create_stage(&stage)?;
        let staged = Staged { directory: self.clone(), stage, files: files.clone(), gone };
        for (path, text) in files {
            let written = place::write_candidate(&staged.stage, path, text, &self.root.join(path), &self.access);
            written.map_err(|error| match error.source.kind() {
                io::ErrorKind::InvalidFilename => error.blaming(&[path]),
                _ => error,
            })?;
        }
        Ok(Some(staged))
    }

    /// The files that an agent wrote here.
    fn listed(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.root.join(LIST)).unwrap_or_default();
        text.lines().filter(|path| place::check(&self.root, path).is_ok()).map(str::to_owned).collect()
    }

    /// Notes which files are ours.
    fn list<'a>(&self, paths: impl Iterator<Item = &'a String>) -> Result<(), WriteError> {
        let mut text = String::new();
        for path in paths {
            text.push_str(path);
            text.push('\n');
        }
        let target = self.root.join(LIST);
        if place::is_same(&target, &text, &Access::default()) {
            return Ok(());
        }
        let draft = self.root.join(format!("{LIST}.new"));
        place::remove_tree(&draft).map_err(|error| WriteError::new("remove", &draft, error))?;
        place::write_new(&draft, &text)
            .and_then(|file| Access::default().give(&file, None))
            .and_then(|()| fs::rename(&draft, &target))
            .map_err(|error| WriteError::new("write", &target, error))
    }
}

/// A complete set of files that waits to be checked and put into place; dropping it changes nothing.
#[derive(Debug)]
pub struct Staged {
    directory: Directory,
    stage: PathBuf,
    files: BTreeMap<String, Arc<str>>,
    /// Files of an earlier set that this one has not.
    gone: Vec<String>,
}

impl Staged {
    /// The directory with all files of the set, changed or not.
    pub fn dir(&self) -> &Path {
        &self.stage
    }

    /// Puts the files that differ from the disk into place, and removes those that an earlier set had; gives
    /// their paths. What a main file (`*.cfg`, `*.conf`) refers to is there before it and goes after it.
    ///
    /// # Errors
    /// Names the path and what to do. Files already in place stay, the others are as they were; staging
    /// again finds what is left to do.
    pub fn commit(self) -> Result<Vec<String>, WriteError> {
        let (directory, root) = (&self.directory, &self.directory.root);
        let listed: BTreeSet<String> = directory.listed().into_iter().chain(self.files.keys().cloned()).collect();
        directory.list(listed.iter())?;

        let differs = |path: &&String| !place::is_same(&root.join(path), &self.files[*path], &directory.access);
        let mut paths: Vec<&String> = self.files.keys().filter(differs).collect();
        paths.sort_by_key(|path| is_main(path));
        // A file system that finds out late that it is full does so before any file is exchanged.
        paths.iter().try_for_each(|path| place::settle(&self.stage.join(path)))?;
        let mut changed = Vec::new();
        for path in paths {
            place::put(root, path, &self.stage.join(path), &directory.access)?;
            changed.push(path.clone());
        }
        // The files are in place, and the proxy has to hear of them whatever happens to the rest.
        if let Err(error) = self.tidy(&mut changed) {
            tracing::warn!(%error, "files written, but some obsolete files remain");
        }
        Ok(changed)
    }
}

impl Staged {
    /// Makes sure that the files survive a crash of the host, and removes those that an earlier set had.
    fn tidy(&self, changed: &mut Vec<String>) -> Result<(), WriteError> {
        let root = &self.directory.root;
        place::sync(root, changed)?;
        for path in &self.gone {
            if place::remove(&root.join(path))? {
                changed.push(path.clone());
            }
        }
        place::sync(root, &self.gone)?;
        self.directory.list(self.files.keys())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = place::remove_tree(&self.stage) {
            tracing::warn!(path = %self.stage.display(), %error, "cannot remove the staging directory; the next run removes it");
        }
    }
}

/// Refuses a file below another file of the set.
fn no_file_above(path: &str, files: &BTreeMap<String, Arc<str>>) -> Result<(), WriteError> {
    let mut above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
    let Some(file) = above.find(|above| files.contains_key(*above)) else { return Ok(()) };
    let found = io::Error::new(io::ErrorKind::AlreadyExists, format!("{file} is to be a file"));
    Err(WriteError::new("write", Path::new(path), found).blaming(&[path, file]))
}

/// Whether a file is one that refers to others.
fn is_main(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "cfg" || extension == "conf")
}
