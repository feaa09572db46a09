//! What an output serves, on disk, so that the next agent goes on from there: which services, who has which claim, and
//! what stays as it was because its new form is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::claims::Held;
use super::linger::{Linger, gone};
use super::{Accepted, Output, Served};
use crate::model::{Claim, Service};

/// A service that was served: what leads to it, and since when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    service: Arc<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    departed: Option<u64>,
}

/// What the file has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    services: BTreeMap<Arc<str>, Known>,
    #[serde(default)]
    claims: BTreeMap<Claim, Held>,
    /// Services that stay as they were, with their fragments.
    #[serde(default)]
    stale: BTreeMap<Arc<str>, Arc<Served>>,
}

/// A file of one output in the state directory.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    record: Record,
    /// What `record.services` follows.
    seen: Accepted,
    /// The file has the record.
    is_kept: bool,
}

impl Memory {
    /// The memory of the output `name`.
    pub fn new(state_dir: &Path, name: &str) -> Self {
        let path = state_dir.join(format!("served-{}.json", name.replace('/', "-")));
        Memory { path, record: Record::default(), seen: Accepted::new(), is_kept: true }
    }

    /// Gives the output what an earlier agent served; without it, the age of entries decides who has what.
    pub fn recall(&mut self, output: &mut Output, linger: &mut Linger, now: u64) {
        let record = self.read().unwrap_or_else(|error| {
            warn!(path = %self.path.display(), error = %format_args!("{error:#}"), "cannot read the saved state");
            Record::default()
        });
        for known in record.services.values() {
            linger.restore(&known.service, known.departed, now);
        }
        output.restore(record.claims, record.stale);
        self.is_kept = false;
    }

    /// Writes down what is served now.
    pub fn keep(&mut self, output: &Output, linger: &Linger) {
        let accepted = output.accepted();
        for change in self.seen.diff(accepted) {
            match change {
                DiffItem::Add(name, served) | DiffItem::Update { new: (name, served), .. } => {
                    let known = Known { service: gone(&served.service), departed: linger.departed(name) };
                    if self.record.services.get(name) != Some(&known) {
                        self.record.services.insert(Arc::clone(name), known);
                        self.is_kept = false;
                    }
                }
                DiffItem::Remove(name, _) => self.is_kept &= self.record.services.remove(name).is_none(),
            }
        }
        self.seen = accepted.clone();
        let (claims, stale) = (output.claims(), output.stale());
        if (&claims, &stale) != (&self.record.claims, &self.record.stale) {
            (self.record.claims, self.record.stale) = (claims, stale);
            self.is_kept = false;
        }
        if self.is_kept {
            return;
        }
        match self.write() {
            Ok(()) => self.is_kept = true,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot save the state; a restart would forget claims");
            }
        }
    }

    fn read(&self) -> anyhow::Result<Record> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            text => text?,
        };
        serde_json::from_slice(&text).context("it is not as an agent writes it; it will be written anew")
    }

    fn write(&self) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&serde_json::to_vec(&self.record)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}
