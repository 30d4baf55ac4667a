//! The data directory: one process at a time, and only the broker it belongs to.
//!
//! ```text
//! DATA/broker.json    cluster id, broker id, storage id; written once, before anything else
//! DATA/.lock          held with flock(2) while a broker runs
//! DATA/metadata/      the metadata log
//! DATA/partitions/    <topic id>-<partition>/ each
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use pubg1_model::{BrokerId, PartitionId, TopicId};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::errors::StartError;

const IDENTITY_FILE: &str = "broker.json";
const FORMAT_VERSION: u32 = 1;

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    /// The cluster, chosen when the first directory of it was formatted.
    pub(crate) cluster_id: String,
    /// The broker.
    pub(crate) broker_id: BrokerId,
    /// This disk: new when the directory is, so that a wiped disk under a known broker is noticed.
    pub(crate) storage_id: Uuid,
}

/// An open and locked data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    identity: Identity,
    // Closing the file gives the lock back.
    _lock: File,
}

impl DataDir {
    /// Locks `root`, creating it when needed, and checks or writes its identity.
    pub(crate) fn open(root: &Path, broker_id: BrokerId, cluster_id: Option<&str>) -> Result<Self, StartError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::DataDir { path, source }
        };
        create_durably(root).map_err(at(root))?;
        let root = fs::canonicalize(root).map_err(at(root))?;
        let lock = lock(&root)?;
        let identity_path = root.join(IDENTITY_FILE);
        let identity = match read_identity(&identity_path)? {
            Some(identity) => check_identity(identity, &root, broker_id, cluster_id)?,
            None => {
                refuse_orphans(&root)?;
                let cluster_id = cluster_id.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned);
                let identity = Identity { version: FORMAT_VERSION, cluster_id, broker_id, storage_id: Uuid::new_v4() };
                write_durably(&root, IDENTITY_FILE, &identity).map_err(at(&identity_path))?;
                identity
            }
        };
        for dir in [root.join("metadata"), root.join("partitions")] {
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        File::open(&root).and_then(|dir| dir.sync_all()).map_err(at(&root))?;
        Ok(Self { root, identity, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn partitions(&self) -> PathBuf {
        self.root.join("partitions")
    }
}

/// The directory of a partition: named by the topic's id, never by its name.
pub(crate) fn partition_dir(partitions: &Path, topic: TopicId, partition: PartitionId) -> PathBuf {
    partitions.join(format!("{topic}-{partition}"))
}

/// The partition that a directory's name stands for.
pub(crate) fn partition_of_dir(name: &str) -> Option<(TopicId, PartitionId)> {
    let (topic, partition) = name.split_once('-')?;
    let topic = Uuid::try_parse(topic).ok().map(|id| TopicId::from_bytes(*id.as_bytes()))?;
    Some((topic, PartitionId(partition.parse().ok()?)))
}

fn lock(root: &Path) -> Result<File, StartError> {
    let path = root.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Locked { path: root.to_owned() }),
        Err(errno) => Err(StartError::DataDir { path, source: errno.into() }),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, StartError> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StartError::DataDir { path: path.to_owned(), source }),
    }
    let unreadable = |reason: String| StartError::Identity { path: path.to_owned(), reason };
    let identity: Identity = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if identity.version != FORMAT_VERSION {
        return Err(unreadable(format!("format version {} is not supported, only 1 is", identity.version)));
    }
    Ok(Some(identity))
}

fn check_identity(
    identity: Identity,
    root: &Path,
    broker_id: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, StartError> {
    if identity.broker_id != broker_id {
        return Err(StartError::OtherBroker {
            path: root.to_owned(),
            found: identity.broker_id,
            configured: broker_id,
        });
    }
    match cluster_id {
        Some(configured) if configured != identity.cluster_id => Err(StartError::OtherCluster {
            path: root.to_owned(),
            found: identity.cluster_id,
            configured: configured.to_owned(),
        }),
        _ => Ok(identity),
    }
}

/// Logs without an identity belong to somebody: they are not adopted.
fn refuse_orphans(root: &Path) -> Result<(), StartError> {
    for name in ["metadata", "partitions"] {
        let dir = root.join(name);
        match fs::read_dir(&dir) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let reason = format!("it is missing, but {name}/ is not empty; restore it from a backup");
                    return Err(StartError::Identity { path: root.join(IDENTITY_FILE), reason });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StartError::DataDir { path: dir, source }),
        }
    }
    Ok(())
}

/// Creates a directory and its parents where they are missing; each name is synced in the directory above
/// it, or a power cut could take the whole of it away.
fn create_durably(dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for path in dir.ancestors().take_while(|path| !path.as_os_str().is_empty()) {
        if path.try_exists()? {
            break;
        }
        missing.push(path);
    }
    fs::create_dir_all(dir)?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Writes beside, syncs, renames, syncs the directory: after a power cut there is the whole file or none.
fn write_durably(root: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let temporary = root.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, root.join(name))?;
    File::open(root)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: BrokerId = BrokerId(3);

    #[test]
    fn the_identity_is_written_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), BROKER, Some("blue")).unwrap().identity().clone();
        assert_eq!((first.cluster_id.as_str(), first.broker_id), ("blue", BROKER));
        let again = DataDir::open(dir.path(), BROKER, None).unwrap().identity().clone();
        assert_eq!(again, first);
    }

    #[test]
    fn missing_parents_are_created() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert_eq!(DataDir::open(&deep, BROKER, None).unwrap().root(), fs::canonicalize(&deep).unwrap());
    }

    #[test]
    fn another_broker_or_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), BROKER, Some("blue")).unwrap());
        let error = DataDir::open(dir.path(), BrokerId(4), None).unwrap_err();
        assert!(matches!(error, StartError::OtherBroker { found: BROKER, configured: BrokerId(4), .. }), "{error}");
        let error = DataDir::open(dir.path(), BROKER, Some("green")).unwrap_err();
        assert!(matches!(error, StartError::OtherCluster { .. }), "{error}");
    }

    #[test]
    fn two_brokers_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), BROKER, None).unwrap();
        let error = DataDir::open(dir.path(), BROKER, None).unwrap_err();
        assert!(matches!(error, StartError::Locked { .. }), "{error}");
        drop(held);
        DataDir::open(dir.path(), BROKER, None).unwrap();
    }

    #[test]
    fn logs_without_an_identity_and_broken_identities_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), BROKER, None).unwrap());
        for broken in ["", "{}", r#"{"version":9,"cluster_id":"c","broker_id":3,"storage_id":"0"}"#] {
            fs::write(dir.path().join(IDENTITY_FILE), broken).unwrap();
            let error = DataDir::open(dir.path(), BROKER, None).unwrap_err();
            assert!(matches!(error, StartError::Identity { .. }), "{error}");
        }
        fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
        fs::write(dir.path().join("metadata/00.log"), "x").unwrap();
        let error = DataDir::open(dir.path(), BROKER, None).unwrap_err();
        assert!(error.to_string().contains("restore it"), "{error}");
    }

    #[test]
    fn a_directory_name_tells_its_partition() {
        let topic = TopicId::from_bytes([0xab; 16]);
        let dir = partition_dir(Path::new("/x"), topic, PartitionId(12));
        assert_eq!(partition_of_dir(dir.file_name().unwrap().to_str().unwrap()), Some((topic, PartitionId(12))));
        for other in ["lost+found", "abc-1", "x", "-"] {
            assert_eq!(partition_of_dir(other), None);
        }
    }
}
