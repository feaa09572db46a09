//! Why files are not written.

use std::io;
use std::path::{Path, PathBuf};

/// What is done when mode and owner are set.
pub(super) const SET_ACCESS: &str = "set mode and owner of";

/// What could not be done to which path, and what a person can do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}; {advice}", path.display())]
pub struct WriteError {
    action: &'static str,
    path: PathBuf,
    advice: &'static str,
    culprits: Vec<String>,
    pub(super) source: io::Error,
}

impl WriteError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::PermissionDenied if action == SET_ACCESS => {
                "run the agent as root, or leave mode and owner out"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space on its file system",
            io::ErrorKind::ReadOnlyFilesystem => "mount its file system writable, or name another directory",
            io::ErrorKind::PermissionDenied => "let the agent's user write there, or name another directory",
            io::ErrorKind::IsADirectory => "move that directory away: a file belongs there",
            io::ErrorKind::NotADirectory => "move it away: a directory belongs there",
            io::ErrorKind::InvalidFilename => "give it a shorter name",
            io::ErrorKind::InvalidInput => "the output plugin must give a relative path without `..`",
            _ => "what is there stays as it was, and it is tried again",
        };
        WriteError { action, path: path.to_owned(), advice, culprits: Vec::new(), source }
    }

    pub(super) fn blaming(self, culprits: &[&str]) -> Self {
        WriteError { culprits: culprits.iter().map(|path| (*path).to_owned()).collect(), ..self }
    }

    /// Files of the set without any one of which this would not have gone wrong; none when it is no file's fault.
    pub fn culprits(&self) -> &[String] {
        &self.culprits
    }

    /// The file or directory it was about.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
