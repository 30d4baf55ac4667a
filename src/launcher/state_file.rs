//! `DIR/cluster.json`: what scripts need to find the brokers and to start them again; and the file
//! by which they ask for it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::Plan;
use crate::error::CommandError;

/// Its name in the directory of the cluster.
pub const NAME: &str = "cluster.json";

/// Writes it as a whole: readers see the old one or the new one.
///
/// # Errors
/// [`CommandError::File`].
pub fn write(plan: &Plan, launcher_pid: Option<u32>, pids: &[Option<u32>]) -> Result<(), CommandError> {
    let path = plan.directory.join(NAME);
    let working_directory = std::env::current_dir().unwrap_or_else(|_| plan.directory.clone());
    let brokers = plan.brokers.iter().zip(pids).map(|(broker, pid)| {
        let command = broker.launch.command_line(&broker.http.to_string());
        json!({
            "id": broker.id,
            "pid": pid,
            "http": broker.url(),
            "rpc": broker.rpc.to_string(),
            "data_dir": broker.launch.data_dir,
            "log": broker.launch.log,
            "command": command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
        })
    });
    let document = json!({
        "format": 1,
        "launcher_pid": launcher_pid,
        "working_directory": working_directory,
        "base_port": plan.base_port,
        "voters": plan.voters,
        "brokers": brokers.collect::<Vec<_>>(),
    });
    replace(&plan.directory, &path, &document).map_err(|source| CommandError::File { action: "write", path, source })
}

fn replace(directory: &Path, path: &Path, document: &Value) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, document)?;
    io::Write::write_all(&mut file, b"\n")?;
    file.persist(path)?;
    Ok(())
}

/// What must stay as it was at the first start.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Recorded {
    /// The http port of broker 0: brokers know each other by their addresses.
    pub base_port: u16,
    /// The brokers that founded the cluster.
    pub voters: BTreeSet<u32>,
}

/// What an earlier start has written; `None` when there was none.
///
/// # Errors
/// [`CommandError::File`] when the file is there and cannot be read.
pub fn recorded(directory: &Path) -> Result<Option<Recorded>, CommandError> {
    let path = directory.join(NAME);
    let failed = |source| CommandError::File { action: "read", path: path.clone(), source };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into()))
}

fn request_path(directory: &Path, broker: u32) -> PathBuf {
    directory.join(format!("start-{broker}"))
}

/// Whether somebody asked for this broker to be started, by making the file `DIR/start-N`. The
/// broker then is a child of the launcher again, and ends with it.
#[must_use]
pub fn take_start_request(directory: &Path, broker: u32) -> bool {
    fs::remove_file(request_path(directory, broker)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!take_start_request(directory.path(), 2));
        fs::write(request_path(directory.path(), 2), "").unwrap();
        assert!(!take_start_request(directory.path(), 1));
        assert!(take_start_request(directory.path(), 2));
        assert!(!take_start_request(directory.path(), 2));
    }

    #[test]
    fn what_must_stay_is_read_back_and_nonsense_is_no_cluster() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(recorded(directory.path()).unwrap(), None);
        let path = directory.path().join(NAME);
        fs::write(&path, r#"{"base_port":8000,"voters":[0,2],"brokers":[]}"#).unwrap();
        let expected = Recorded { base_port: 8000, voters: BTreeSet::from([0, 2]) };
        assert_eq!(recorded(directory.path()).unwrap(), Some(expected));
        fs::write(&path, r#"{"voters":7}"#).unwrap();
        assert!(recorded(directory.path()).is_err());
    }
}
