//! PubG1's one binary: the command line, and the composition of a broker.
//!
//! `pubg1 broker` puts the actors and the web server together ([`node`]); every other command
//! speaks HTTP to a broker and knows nothing of its inside ([`client`], [`producer`],
//! [`consumer`]). [`config`] is the only place that reads the environment.

pub mod cli;
pub mod client;
pub mod cluster_process;
pub mod commands;
pub mod config;
pub mod consumer;
pub mod demo;
pub mod drill;
pub mod error;
pub mod input;
pub mod launcher;
mod logging;
pub mod node;
pub mod producer;
pub mod terminal;
pub mod verify;
pub mod view;

use std::{io::Write, process::ExitCode};

use clap::Parser;

use cli::Cli;
use error::{CommandError, FAILURE};
use terminal::Terminal;

/// Does what the command line says, and returns the exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let color = !cli.global.no_color && !config::environment_refuses_color();
    let terminal = Terminal { format: cli.global.output, color };
    match commands::run(cli, terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            report(terminal, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn report(terminal: Terminal, error: &CommandError) {
    let code = error.exit_code();
    let text = if terminal.json() {
        serde_json::json!({ "error": error.to_string(), "exit_code": code }).to_string()
    } else if code == FAILURE || code == error::USAGE {
        format!("error: {error}")
    } else {
        error.to_string()
    };
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}
