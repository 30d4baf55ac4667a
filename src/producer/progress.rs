//! How far a load has come, so that it can be continued exactly.
//!
//! The same input is spread over the partitions the same way each time, and a partition's records
//! are acknowledged in order. So the counts per partition say which records are stored: reading
//! the input again and leaving out that many of each partition continues without gap and without
//! repetition.

use std::{collections::BTreeMap, fs, io, path::Path};

use pubg1_model::{PartitionId, TopicName};
use serde::{Deserialize, Serialize};

/// What is acknowledged so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The topic that is loaded.
    pub topic: TopicName,
    /// What is loaded; `-` for standard input.
    pub source: String,
    /// Partitions of the topic: another number spreads the records in another way.
    pub partitions: u32,
    /// Records acknowledged, by partition.
    pub acknowledged: BTreeMap<PartitionId, u64>,
}

impl Progress {
    /// A load that begins.
    #[must_use]
    pub fn new(topic: TopicName, source: String, partitions: u32) -> Self {
        Self { topic, source, partitions, acknowledged: BTreeMap::new() }
    }

    /// Reads the file of an earlier load; `None` when there is none.
    ///
    /// # Errors
    /// The system's error, or `InvalidData` for a file that is something else.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file as a whole, so that an interruption leaves the old one or the new one.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&file, self)?;
        file.persist(path)?;
        Ok(())
    }

    /// Counts acknowledged records.
    pub fn acknowledge(&mut self, partition: PartitionId, records: u64) {
        *self.acknowledged.entry(partition).or_default() += records;
    }

    /// How many records are acknowledged.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.acknowledged.values().sum()
    }

    /// Why this progress belongs to another load; `None` when it fits.
    #[must_use]
    pub fn mismatch(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
            Some(format!("it belongs to a load with {what} {old}, this one has {new}"))
        };
        if self.topic != other.topic {
            return differs("topic", &self.topic, &other.topic);
        }
        if self.source != other.source {
            return differs("input", &self.source, &other.source);
        }
        if self.partitions != other.partitions {
            return differs("partition count", &self.partitions, &other.partitions);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_on_disk_and_knows_its_load() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("progress.json");
        assert_eq!(Progress::read(&path).unwrap(), None);
        let topic: TopicName = "flights".parse().unwrap();
        let mut progress = Progress::new(topic.clone(), "a.csv".to_owned(), 4);
        progress.acknowledge(PartitionId(2), 7);
        progress.acknowledge(PartitionId(2), 3);
        progress.write(&path).unwrap();
        let read = Progress::read(&path).unwrap().unwrap();
        assert_eq!(read, progress);
        assert_eq!(read.total(), 10);
        assert_eq!(read.mismatch(&Progress::new(topic.clone(), "a.csv".to_owned(), 4)), None);
        assert!(read.mismatch(&Progress::new(topic.clone(), "b.csv".to_owned(), 4)).unwrap().contains("b.csv"));
        assert!(read.mismatch(&Progress::new(topic, "a.csv".to_owned(), 5)).unwrap().contains("partition count"));
        fs::write(&path, "{}").unwrap();
        assert!(Progress::read(&path).is_err());
    }
}
