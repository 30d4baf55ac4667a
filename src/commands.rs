//! The commands, each in its file.

pub mod bench;
pub mod broker;
pub mod cluster;
pub mod config;
pub mod consume;
pub mod demo;
pub mod group;
pub mod partition;
pub mod produce;
pub mod report;
pub mod stream;
pub mod topic;
pub mod verify;

use std::{future::Future, io};

use clap::CommandFactory;

use self::stream::StreamCommand;
use crate::{
    cli::{Cli, Command, ConfigCommand},
    client::Client,
    error::CommandError,
    launcher, node,
    terminal::{Terminal, print_text},
};

/// Does what the command line says.
///
/// # Errors
/// The command's.
pub fn run(cli: Cli, terminal: Terminal) -> Result<(), CommandError> {
    let broker = cli.global.broker;
    let client = || Client::new(&broker);
    match cli.command {
        Command::Broker(mut args) => match args.administration()? {
            Some(command) => block_on(broker::run(&client()?, terminal, command)),
            None => node::run(&args, terminal),
        },
        Command::Topic(command) => block_on(topic::run(&client()?, terminal, command)),
        Command::Produce(args) => block_on(produce::run(&client()?, terminal, args)),
        Command::Group(command) => block_on(group::run(&client()?, terminal, command)),
        Command::Consume(args) => block_on(consume::run(&client()?, terminal, args)),
        Command::Partition(command) => block_on(partition::run(&client()?, terminal, command)),
        Command::Cluster(mut args) => match args.question()? {
            Some(command) => block_on(cluster::run(&client()?, terminal, command)),
            None => block_on(launcher::run(terminal, args.start)),
        },
        Command::Config(ConfigCommand::Show { origin, settings }) => config::show(terminal, &settings, origin),
        Command::Config(ConfigCommand::Check { settings }) => config::check(terminal, &settings),
        Command::Openapi => print_text(&pubg1_web::openapi_json()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pubg1", &mut script);
            print_text(&String::from_utf8_lossy(&script))
        }
        Command::Stream(StreamCommand::Local(command)) => stream::run_here(terminal, command),
        Command::Stream(StreamCommand::Cluster(command)) => block_on(stream::run(&client()?, terminal, command)),
        Command::Demo(args) => block_on(demo::run(terminal, args)),
        Command::Bench(args) => block_on(bench::run(&broker, terminal, *args)),
        Command::Verify(args) => block_on(verify::run(&broker, terminal, args)),
        Command::Report(args) => report::run(terminal, &args),
    }
}

/// Runs a client's command on a small runtime of its own.
fn block_on(command: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error: io::Error| CommandError::Failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    // A thread that waits for standard input cannot be waited for.
    runtime.shutdown_background();
    result
}
