//! Where the brokers of a cluster of one's own keep their data and logs: a directory that was named, or one for this
//! run alone.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::CommandError;

/// The directory of a cluster.
#[derive(Debug)]
pub enum ClusterDirectory {
    /// It was named, and stays.
    Named(PathBuf),
    /// It is removed when this is dropped.
    Temporary(TempDir),
}

impl ClusterDirectory {
    /// The directory that was named, made if it is missing, or a temporary one whose name begins with `prefix`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn of(named: Option<&Path>, prefix: &str) -> Result<Self, CommandError> {
        let Some(path) = named else {
            let made = tempfile::Builder::new().prefix(prefix).tempdir();
            let failed = |error| CommandError::Failed(format!("cannot make a temporary directory: {error}"));
            return made.map(Self::Temporary).map_err(failed);
        };
        let failed = |source| CommandError::File { action: "create", path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        Ok(Self::Named(path.to_owned()))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}
