//! The real disk and the real proxy of an output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use tracing::info;

use super::write::{Candidate, Disk};
use crate::output::write::{Directory, Staged};
use crate::proxy::{Asked, Proxy, Verdict};

/// An output's directory, and the proxy that reads it.
pub(super) struct RealDisk {
    pub(super) name: String,
    pub(super) directory: Directory,
    pub(super) proxy: Arc<Proxy>,
    /// What was checked last, when the disk has something else.
    staged: Option<Staged>,
}

impl RealDisk {
    pub(super) fn new(name: &str, directory: Directory, proxy: Arc<Proxy>) -> Self {
        RealDisk { name: name.to_owned(), directory, proxy, staged: None }
    }
}

#[async_trait]
impl Disk for RealDisk {
    async fn check(
        &mut self,
        files: &BTreeMap<String, Arc<str>>,
        new: Vec<Asked>,
        limit: Option<Duration>,
    ) -> Result<Candidate> {
        self.staged = None;
        let (files, directory) = (files.clone(), self.directory.clone());
        let staged = match tokio::task::spawn_blocking(move || directory.stage(&files)).await? {
            Ok(Some(staged)) => staged,
            // Who searches wants to know whether what is in place is still good, and addresses that the proxy does not have
            // may be somebody else's by now.
            Ok(None) if limit.is_some() || !new.is_empty() => {
                return Ok(match self.proxy.check(self.directory.root(), new, limit).await? {
                    Verdict::Valid => Candidate::Unchanged,
                    invalid @ Verdict::Invalid { .. } => Candidate::Invalid(invalid),
                });
            }
            Ok(None) => return Ok(Candidate::Unchanged),
            Err(error) if error.culprits().is_empty() => return Err(error.into()),
            Err(error) => {
                let paths = error.culprits().to_vec();
                return Ok(Candidate::Clash(paths, format!("{:#}", anyhow::Error::from(error))));
            }
        };
        Ok(match self.proxy.check(staged.dir(), new, limit).await? {
            Verdict::Valid => {
                self.staged = Some(staged);
                Candidate::Valid
            }
            invalid @ Verdict::Invalid { .. } => Candidate::Invalid(invalid),
        })
    }

    async fn commit(&mut self) -> Result<u64> {
        // No reload begins while files are exchanged, so that it is known what each one took up.
        let mut number = self.proxy.exchange().await;
        let Some(staged) = self.staged.take() else { return Ok(*number) };
        let committed = tokio::task::spawn_blocking(move || staged.commit()).await?;
        // Where it failed, some files may be in place all the same.
        *number += u64::from(committed.as_ref().map_or(true, |changed| !changed.is_empty()));
        info!(output = self.name, files = ?committed?, "files written");
        Ok(*number)
    }
}
