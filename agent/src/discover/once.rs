//! One output once, for commands that do not stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, anyhow};

use super::clock::Clock;
use super::disk::RealDisk;
use super::state::Job;
use super::target::Target;
use super::write::Writer;
use crate::model::{Ages, Services};
use crate::output::{Linger, Output};
use crate::proxy::asked;

/// Renders, checks and writes once: how many services the output takes, and whether files
/// changed.
pub async fn once(mut output: Output, services: &Services, ages: &Ages, target: Target) -> (usize, Result<bool>) {
    let Target { name, directory, mut saved_state, linger, proxy, .. } = target;
    let (mut linger, now) = (Linger::new(linger), Clock::new().now());
    saved_state.load(&mut output, &mut linger, now);
    let wanted = linger.update(services, now, |_| false, |_| true).clone();
    let good = output.accepted().clone();
    output.update(&wanted, ages, now).await;
    let binds = asked(&directory.files()).into_iter().map(|one| one.bind).collect();
    let proxy = Arc::new(proxy);
    let mut writer = Writer::new(&name, RealDisk::new(&name, directory, Arc::clone(&proxy)));
    let outcome = match output.base().cloned() {
        None => Err(anyhow!("the plugin did not give the fragments that are there whatever the services")),
        Some(base) => {
            let (services, retried) = (output.accepted().clone(), BTreeSet::new());
            let job = Job { services, base, good, earlier: BTreeMap::new(), retried, binds };
            let outcome = writer.write(job).await;
            output.refuse(outcome.refusals, now);
            outcome.written
        }
    };
    if let Ok(written) = &outcome {
        saved_state.save(&written.services, &output, &linger);
    }
    proxy.stop().await;
    drop(tokio::task::spawn_blocking(move || saved_state.close()).await);
    (output.services(), outcome.map(|written| written.number > 0))
}
