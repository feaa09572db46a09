//! What the files have of services that they do not follow, on disk, so that the next agent leaves it there as well.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Output, sound};
use crate::model::{Part, Service};

/// A service that the files do not follow, as they have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stale {
    service: Arc<Service>,
    parts: Vec<Part>,
}

/// Those services by name.
type Stales = BTreeMap<Arc<str>, Stale>;

/// A file of one output in the state directory; there is none while the files follow every service.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    /// What the file has.
    written: Stales,
}

impl Memory {
    /// The memory of the output `name`.
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Memory { path: state_dir.join(format!("held-{}.json", name.replace('/', "-"))), written: Stales::new() }
    }

    /// Gives the output what an earlier agent wrote down; without it, services to blame are left out at first.
    pub fn recall(&mut self, output: &mut Output) {
        match self.read() {
            Ok(stales) => self.written = stales,
            Err(error) => {
                warn!(path = %self.path.display(), error = %format_args!("{error:#}"), "what services were before the restart cannot be read");
            }
        }
        output.take_up(&self.written);
    }

    /// Writes down what the files have now of services that they do not follow.
    pub fn keep(&mut self, output: &Output) {
        let stales = output.stales();
        if stales == self.written {
            return;
        }
        match self.write(&stales) {
            Ok(()) => self.written = stales,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "what services were cannot be saved; a restart would leave them out");
            }
        }
    }

    fn read(&self) -> anyhow::Result<Stales> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stales::new()),
            text => text?,
        };
        serde_json::from_slice(&text).context("it is not as an agent writes it; it will be written anew")
    }

    fn write(&self, stales: &Stales) -> io::Result<()> {
        if stales.is_empty() {
            return fs::remove_file(&self.path);
        }
        let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&serde_json::to_vec(stales)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}

impl Output {
    /// Services that the files do not follow, and have in an older form.
    fn stales(&self) -> Stales {
        let names = self.held.iter().chain(&self.refused).chain(&self.retry).chain(self.waiting.keys());
        let stale = |name: &Arc<str>| {
            let service = Arc::clone(self.standing.get(name)?);
            let parts = Some(self.files.parts(name)).filter(|parts| !parts.is_empty())?;
            Some((Arc::clone(name), Stale { service, parts }))
        };
        names.filter_map(stale).collect()
    }

    /// Begins with what the files have of these services; the next turn renders them.
    fn take_up(&mut self, stales: &Stales) {
        for (name, Stale { service, parts }) in stales {
            if let Ok(parts) = sound(parts.clone()) {
                self.files.set(name, parts);
                self.standing.insert(Arc::clone(name), Arc::clone(service));
                self.retry.insert(Arc::clone(name));
            }
        }
    }
}
