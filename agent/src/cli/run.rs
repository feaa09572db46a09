//! `waypost run`: the agent in the foreground, and the signals it listens to.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};
use waypost::agent::{self, Agent};
use waypost::config::Config;
use waypost::shutdown::{Kept, KeptProxies};

use crate::cli::argument::ConfigArgument;
use crate::cli::failure::Failure;

/// What `run` takes.
#[derive(Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// It was started again by itself
    #[arg(long, hide = true)]
    again: bool,
}

/// Runs an agent until it is asked to end; a SIGHUP replaces it by one of the configuration as it is then.
pub(crate) async fn run(RunArguments { config: argument, again }: RunArguments) -> Result<(), Failure> {
    let Signals { mut stop, mut hangup } = Signals::new()?;
    let mut config = argument.read()?;
    let _lock = agent::lock(&config.agent.state_dir)?;
    let mut next = Agent::build(config.clone()).await?;
    if next.compiled() > 0 && !again {
        if stop.asked().now_or_never().is_some() {
            return Ok(());
        }
        start_again();
    }
    loop {
        let shutdown = next.shutdown();
        let mut running = tokio::spawn(next.run(shutdown.clone()));
        let (built, agent) = loop {
            tokio::select! {
                ended = &mut running => return Ok(ended.context("the agent panicked")??),
                () = stop.asked() => {
                    info!("stopping");
                    shutdown.request();
                    tokio::select! {
                        ended = &mut running => return Ok(ended.context("the agent panicked")??),
                        () = stop.asked_again() => return Err(anyhow!("asked twice to stop: ended at once").into()),
                    }
                }
                _ = hangup.recv() => match reread(&argument, &config).await {
                    Ok(built) => break built,
                    Err(Failure::Config(error)) => error!(%error, "new configuration refused; keeping the old one"),
                    Err(Failure::Other(error)) => {
                        error!(error = %format_args!("{error:#}"), "cannot start the new configuration; keeping the old one");
                    }
                },
            }
        };
        let (adopted, anew) = agent::adopted(&config, &built);
        (config, next) = (built, agent);
        info!(
            kept_proxies = ?adopted,
            restarted_proxies = ?anew,
            "reloading the configuration"
        );
        shutdown.request_keeping(Kept { registrations: true, proxies: KeptProxies::Of(adopted) });
        if let Err(error) = running.await.context("the agent panicked")? {
            error!(error = %format_args!("{error:#}"), "the old configuration did not shut down cleanly");
        }
    }
}

/// Becomes the same program anew, which finds its plugins compiled: compiling takes more than twice the memory that an
/// agent needs, and much of it would never be given back. Comes back only when that is not possible.
fn start_again() {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return };
    let arguments = std::env::args_os().skip(1);
    let error = std::process::Command::new(program).args(arguments).arg("--again").exec();
    tracing::debug!(%error, "cannot execute the agent again; the compiler's memory stays in use");
}

/// Builds the agent of the configuration as it is now, beside the one that runs.
async fn reread(argument: &ConfigArgument, old: &Config) -> Result<(Config, Agent), Failure> {
    let config = argument.read()?;
    if config.agent.state_dir != old.agent.state_dir {
        return Err(anyhow!("agent.state-dir has changed, which takes a restart").into());
    }
    // At a start they may come later; here there is a configuration that works.
    for index in (0..config.output.len()).filter(|_| config.agent.discover) {
        agent::programs(&config, index).into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let agent = Agent::build(config.clone()).await?;
    Ok((config, agent))
}

/// The signals an agent listens to.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
}

/// Those that ask it to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        let stop =
            StopSignals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        Ok(Signals { stop, hangup: listen(SignalKind::hangup())? })
    }
}

/// Signals within this time of the first mean the same: a shell and its `timeout` both send theirs.
const SAME: Duration = Duration::from_secs(1);

impl StopSignals {
    async fn asked_again(&mut self) {
        _ = tokio::time::timeout(SAME, async {
            loop {
                self.asked().await;
            }
        })
        .await;
        self.asked().await;
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
