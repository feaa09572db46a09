//! Brings the files to what is rendered: stage, check, hold back who is to blame, put into place, reload.

use std::sync::Arc;

use anyhow::{Result, bail};
use tracing::info;

use super::target::Target;
use crate::output::Output;
use crate::output::write::Staged;
use crate::proxy::{Place, Verdict};

/// Most checks of one turn. Finding one bad service among 1,000 takes 11; what is not found by then waits.
const CHECKS_LIMIT: usize = 64;

/// What a candidate turned out to be.
enum Candidate {
    /// The disk has exactly this.
    Unchanged,
    Valid(Staged),
    Invalid(Verdict),
}

/// Writes what is rendered, without the services that the check refuses; true when files changed.
pub(super) async fn write(output: &mut Output, target: &Target) -> Result<bool> {
    if !output.is_framed() {
        bail!("the plugin did not give the parts that are there whatever the services");
    }
    for _ in 0..CHECKS_LIMIT {
        let refused = match candidate(output, target).await? {
            Candidate::Invalid(Verdict::Invalid { text, places }) => {
                if let Some(at) = places.iter().find(|at| output.is_common(&at.path, at.line)) {
                    output.hold_all();
                    bail!("refused is what no one service wrote: {} ({} line {})", at.text, at.path, at.line);
                }
                let held = places.iter().filter(|at| output.hold(&at.path, at.line, &at.text, at.may_pass)).count();
                if held > 0 {
                    continue;
                }
                text
            }
            ready => return put(ready, output, target).await,
        };
        search(output, target, refused.trim()).await?;
        let found = candidate(output, target).await?;
        return put(found, output, target).await;
    }
    output.hold_all();
    bail!("after {CHECKS_LIMIT} checks, each with one more service held back, the files are still refused")
}

async fn candidate(output: &mut Output, target: &Target) -> Result<Candidate> {
    let (files, directory) = (output.compose().files, target.directory.clone());
    let staged = match tokio::task::spawn_blocking(move || directory.stage(&files)).await? {
        Ok(Some(staged)) => staged,
        Ok(None) => return Ok(Candidate::Unchanged),
        Err(error) => {
            let Some(path) = output.yielding(error.culprits()).map(str::to_owned) else { return Err(error.into()) };
            let text = format!("{:#}", anyhow::Error::from(error));
            // What is in its way may go without any change of the file that is to be there.
            let at = Place { path, line: 1, text: text.clone(), may_pass: true };
            return Ok(Candidate::Invalid(Verdict::Invalid { text, places: vec![at] }));
        }
    };
    Ok(match target.proxy.check(staged.dir()).await? {
        Verdict::Valid => Candidate::Valid(staged),
        invalid @ Verdict::Invalid { .. } => Candidate::Invalid(invalid),
    })
}

async fn put(candidate: Candidate, output: &mut Output, target: &Target) -> Result<bool> {
    match candidate {
        Candidate::Unchanged => {
            output.committed();
            Ok(false)
        }
        Candidate::Valid(staged) => {
            let changed = tokio::task::spawn_blocking(move || staged.commit()).await??;
            output.committed();
            info!(output = target.name, files = ?changed, "written");
            Ok(true)
        }
        Candidate::Invalid(_) => {
            output.hold_all();
            bail!("the check refuses them and blames no service")
        }
    }
}

/// Finds the services to blame when the check names none, by halves, and holds them back.
///
/// # Errors
/// When even the last good state is refused, so that no service is to blame, or nothing can be checked.
async fn search(output: &mut Output, target: &Target, reason: &str) -> Result<()> {
    let all = output.changed();
    output.hold_all();
    let good = match candidate(output, target).await? {
        Candidate::Unchanged => target.proxy.check(target.directory.root()).await?,
        Candidate::Valid(_) => Verdict::Valid,
        Candidate::Invalid(verdict) => verdict,
    };
    if let Verdict::Invalid { places, .. } = good {
        // The world changed under an unchanged file: a name that no longer resolves, a certificate that is gone.
        let common = places.iter().any(|at| output.is_common(&at.path, at.line));
        let expelled = places.iter().filter(|at| !common && output.expel(&at.path, at.line, &at.text)).count();
        if expelled == 0 {
            bail!("the check refuses even what was good before: {reason}");
        }
        return Ok(());
    }
    let mut checks = 1;
    let mut groups = halves(&all);
    while let Some(group) = groups.pop() {
        if checks == CHECKS_LIMIT {
            bail!("after {checks} checks the services to blame are not all found; the rest waits: {reason}");
        }
        checks += 1;
        output.admit(&group);
        let Candidate::Invalid(verdict) = candidate(output, target).await? else { continue };
        output.withhold(&group);
        if let [name] = &group[..] {
            let Verdict::Invalid { text, .. } = verdict else { continue };
            output.blame(name, text.trim());
        } else {
            groups.extend(halves(&group));
        }
    }
    info!(
        output = target.name,
        services = all.len(),
        checks,
        "the check named nobody; who is to blame was searched for"
    );
    Ok(())
}

fn halves(group: &[Arc<str>]) -> Vec<Vec<Arc<str>>> {
    let (left, right) = group.split_at(group.len() / 2);
    [left, right].into_iter().filter(|half| !half.is_empty()).map(<[_]>::to_vec).collect()
}
