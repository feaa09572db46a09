//! The `waypost` command: arguments, signals, exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};
use waypost::agent::{self, Agent, BuildError, Ending};
use waypost::config::{Config, ConfigError};

mod cli;

const EXAMPLES: &str = "\
Examples:
  waypost run --config /etc/waypost/waypost.toml   keep this host registered and its proxies right
  waypost check                                    is all that is configured right, and there?
  waypost render --diff                            what would change on disk?
  waypost render --once && exec haproxy -f ...     files first, then the proxy
  docker inspect web | waypost render --containers -
  waypost catalog --watch                          all services of all hosts, as they change
  waypost plugin inspect ./team.wasm               what a plugin is and what it asks for

Without --config, /etc/waypost/waypost.toml is read if it is there; HOST_IP and ETCD_HOST are honoured.
Exit codes: 0 done, 1 failed, 2 usage, 64 bad configuration.";

/// Where the configuration is looked for when no other place is named.
const DEFAULT_CONFIG: &str = "/etc/waypost/waypost.toml";

/// Service discovery for hosts that run Docker.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How much is logged: error, warn, info, debug, trace, or a filter by module
    #[arg(long, global = true, default_value = "info", env = "WAYPOST_LOG", hide_env = true)]
    log: String,
    /// Log in JSON, for programs
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent in the foreground
    Run(RunArguments),
    /// Check configuration, plugins and endpoints, without starting
    Check(ConfigArgument),
    /// Show the files that would be written, or write them once
    Render(cli::render::RenderArguments),
    /// Show all services of all hosts
    Catalog(cli::catalog::CatalogArguments),
    /// Show shipped plugins, or inspect one
    #[command(subcommand)]
    Plugin(cli::plugin::PluginCommand),
}

/// Which configuration.
#[derive(Args, Clone)]
struct ConfigArgument {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What `run` takes.
#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// It was started again by itself
    #[arg(long, hide = true)]
    again: bool,
}

/// Why a command failed, and so its exit code.
enum Failure {
    Config(ConfigError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Config(error) => Failure::Config(error),
            BuildError::Other(error) => Failure::Other(error),
        }
    }
}

impl ConfigArgument {
    /// The file, when there is one.
    fn path(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_CONFIG);
        self.config.as_deref().or_else(|| default.exists().then_some(default))
    }

    fn read(&self) -> Result<Config, Failure> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(match self.path() {
            Some(path) => Config::read(path, &environment)?,
            None => Config::parse("", Path::new("defaults"), &environment)?,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = cli::log::start(&arguments.log, arguments.log_json) {
        eprintln!("waypost: --log: {error:#}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(dispatch(arguments.command));
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::Other(error.into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => {
            eprintln!("waypost: {error}");
            ExitCode::from(64)
        }
        Err(Failure::Other(error)) => {
            eprintln!("waypost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run(arguments).await,
        Command::Check(config) => cli::check::check(config).await,
        Command::Render(arguments) => cli::render::render(arguments).await,
        Command::Catalog(arguments) => cli::catalog::catalog(arguments).await,
        Command::Plugin(command) => cli::plugin::plugin(command).await,
    }
}

/// Runs an agent until it is asked to end; a SIGHUP replaces it by one of the configuration as it is then.
async fn run(RunArguments { config: argument, again }: RunArguments) -> Result<(), Failure> {
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
        let ending = Ending::default();
        let mut running = tokio::spawn(next.run(ending.clone()));
        let (built, agent) = loop {
            tokio::select! {
                ended = &mut running => return Ok(ended.context("the agent panicked")??),
                () = stop.asked() => {
                    info!("stopping");
                    ending.stop.cancel();
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
        ending.leave.store(true, Ordering::Release);
        ending.leave_proxies(&adopted);
        ending.stop.cancel();
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
