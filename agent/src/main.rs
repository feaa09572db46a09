//! The `waypost` command: arguments and exit codes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cli;

use cli::argument::ConfigArgument;
use cli::failure::Failure;

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
    Run(cli::run::RunArguments),
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
        Command::Run(arguments) => cli::run::run(arguments).await,
        Command::Check(config) => cli::check::check(config).await,
        Command::Render(arguments) => cli::render::render(arguments).await,
        Command::Catalog(arguments) => cli::catalog::catalog(arguments).await,
        Command::Plugin(command) => cli::plugin::plugin(command).await,
    }
}
