//! What a command ends with when it does not succeed, and its exit code.

use std::{io, path::PathBuf};

use crate::{client::ClientError, config::ConfigError};

/// Exit code when something went wrong.
pub const FAILURE: u8 = 1;
/// Exit code when the command line or the configuration is wrong (clap's own).
pub const USAGE: u8 = 2;
/// Exit code when the question was answered and the answer is: unhealthy.
pub const UNHEALTHY: u8 = 10;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The arguments do not make sense together.
    #[error("{0}")]
    Usage(String),
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker cannot be reached or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The input breaks its format.
    #[error("record {record} of the input: {reason}")]
    Input {
        /// Its position, from 0: what `--skip` counts.
        record: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// Asked, and the answer is bad.
    #[error("{0}")]
    Unhealthy(String),
    /// Anything else that is an honest failure.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => USAGE,
            Self::Unhealthy(_) => UNHEALTHY,
            _ => FAILURE,
        }
    }

    /// The reader of standard output went away, as `| head` does: no failure at all.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
