//! What happened in a run, as its clients saw it. It can be stored, one JSON document a line, and judged again.

pub mod groups;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use groups::{Commit, GroupEnd, GroupHistory, Look, Poll};
use serde::{Deserialize, Serialize};

/// Microseconds since the run began, on the clock of the one process that all its clients live in.
pub type Micros = u64;

/// The producer of a record that this run did not write; its number is a fingerprint then.
pub const FOREIGN: u32 = u32::MAX;

/// A record of a run. Producers number their records per partition, from 0 and without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who wrote it.
    pub producer: u32,
    /// The partition that it was written to.
    pub partition: u32,
    /// Its place among what this producer wrote to this partition.
    pub number: u64,
}

impl RecordId {
    /// Whether somebody else wrote it, or it is damaged.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        self.producer == FOREIGN
    }

    /// The record `further` on.
    #[must_use]
    pub const fn plus(self, further: u64) -> Self {
        Self { number: self.number.wrapping_add(further), ..self }
    }
}

/// Records at consecutive offsets with consecutive numbers. In JSON a list:
/// `[offset, producer, partition, number, count]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u32, u32, u64, u64)", into = "(u64, u32, u32, u64, u64)")]
pub struct Run {
    /// Where the first one is.
    pub offset: u64,
    /// The first one.
    pub first: RecordId,
    /// How many they are.
    pub count: u64,
}

impl From<(u64, u32, u32, u64, u64)> for Run {
    fn from((offset, producer, partition, number, count): (u64, u32, u32, u64, u64)) -> Self {
        Self { offset, first: RecordId { producer, partition, number }, count }
    }
}

impl From<Run> for (u64, u32, u32, u64, u64) {
    fn from(run: Run) -> Self {
        (run.offset, run.first.producer, run.first.partition, run.first.number, run.count)
    }
}

impl Run {
    /// Every record with its offset.
    pub fn records(self) -> impl Iterator<Item = (u64, RecordId)> {
        (0..self.count).map(move |index| (self.offset + index, self.first.plus(index)))
    }

    /// Adds a record to the last run, or begins another one.
    pub fn push(runs: &mut Vec<Self>, offset: u64, id: RecordId) {
        if let Some(last) = runs.last_mut()
            && last.offset + last.count == offset
            && last.first.plus(last.count) == id
            && !id.is_foreign()
        {
            last.count += 1;
            return;
        }
        runs.push(Self { offset, first: id, count: 1 });
    }
}

/// What the run set out to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Stands in every record.
    pub run: String,
    /// The topic.
    pub topic: String,
    /// The brokers that clients talked to; others name them by their place here.
    pub brokers: Vec<String>,
    /// Where each partition ended before the run.
    pub first_offsets: Vec<u64>,
    /// Whether producers number their batches, so that a repeated one is stored once.
    pub idempotent: bool,
    /// Whether an acknowledgement promises that the record stays: `acks=all`.
    pub committed: bool,
    /// How many consumer groups read it.
    #[serde(default)]
    pub groups: u32,
    /// How long a group's member may be silent.
    #[serde(default)]
    pub session_us: Micros,
}

/// How an attempt to write ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The records are at this offset and behind it.
    Acknowledged {
        /// Of the first one.
        offset: u64,
        /// The epoch that the answer names.
        epoch: Option<u32>,
        /// The leader that the answer names.
        leader: Option<u32>,
        /// Whether an earlier attempt had stored them.
        duplicate: bool,
    },
    /// Nothing was written, says the answer, or the request cannot have reached anybody.
    Refused {
        /// The error's number; 0 when nobody was there.
        code: i64,
    },
    /// Nobody can say.
    Unknown {
        /// What is known about it.
        reason: String,
    },
}

/// An attempt to write consecutive records of one producer to one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Who writes.
    pub producer: u32,
    /// Where to.
    pub partition: u32,
    /// The first record's number.
    pub number: u64,
    /// How many records.
    pub count: u64,
    /// Which broker was asked.
    pub broker: u32,
    /// When the first record was to be sent, where a schedule said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_us: Option<Micros>,
    /// When the request was made.
    pub start_us: Micros,
    /// When its outcome was known.
    pub end_us: Micros,
    /// How it ended.
    pub outcome: Outcome,
}

impl Write {
    /// The first record.
    #[must_use]
    pub const fn first(&self) -> RecordId {
        RecordId { producer: self.producer, partition: self.partition, number: self.number }
    }
}

/// An answer to a reader while the run lasted. One without records only says where the partition ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What was read.
    pub partition: u32,
    /// Which broker was asked.
    pub broker: u32,
    /// When the request was made.
    pub start_us: Micros,
    /// When the answer was complete.
    pub end_us: Micros,
    /// The offset that was asked for.
    pub from: u64,
    /// Below this, says the answer, everything is committed.
    pub high_watermark: u64,
    /// What it contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// A batch as it is stored: base offset, leader epoch, fingerprint of all its bytes.
pub type StoredBatch = (u64, i64, u64);

/// A partition as one replica holds it when the run is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The partition.
    pub partition: u32,
    /// The replica; `None` for what the leader serves to everybody.
    pub replica: Option<u32>,
    /// The first offset that was read.
    pub start: u64,
    /// The offset after the last one.
    pub end: u64,
    /// The records.
    pub runs: Vec<Run>,
    /// The batches that they are in.
    pub batches: Vec<StoredBatch>,
    /// Why not all of it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A leadership that a fault took from a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// The partition.
    pub partition: u32,
    /// The epoch in which the broker led it.
    pub epoch: u32,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub at_us: Micros,
    /// What, in words.
    pub what: String,
    /// To which broker.
    pub broker: u32,
    /// Whether it was the controller.
    #[serde(default)]
    pub controller: bool,
    /// What it led.
    #[serde(default)]
    pub led: Vec<Led>,
}

/// How the run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When the producers were told to stop.
    pub writing_until_us: Micros,
    /// Why the cluster was not healthy again in time.
    pub unhealthy: Option<String>,
    /// Why replicas were not compared.
    pub not_compared: Option<String>,
}

/// One line of a stored history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first line.
    Setting(Setting),
    /// An attempt to write.
    Write(Write),
    /// An answer to a reader.
    Read(Read),
    /// Something that was done to the cluster.
    Fault(Fault),
    /// What a replica holds at the end.
    Copy(Copy),
    /// A group's member asked for records.
    Poll(Poll),
    /// A group's member committed.
    Commit(Commit),
    /// Somebody asked how a group is.
    Look(Look),
    /// A group at the end.
    GroupEnd(GroupEnd),
    /// The last line.
    Ending(Ending),
}

/// All of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What it set out to do.
    pub setting: Setting,
    /// Every attempt to write, in the order in which they ended.
    pub writes: Vec<Write>,
    /// Every answer to a reader, in the order in which they ended.
    pub reads: Vec<Read>,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// What the replicas hold.
    pub copies: Vec<Copy>,
    /// What consumer groups did.
    pub groups: GroupHistory,
    /// How it ended.
    pub ending: Ending,
}

impl History {
    /// Adds what happened next.
    pub fn push(&mut self, entry: Entry) {
        match entry {
            Entry::Setting(setting) => self.setting = setting,
            Entry::Write(write) => self.writes.push(write),
            Entry::Read(read) => self.reads.push(read),
            Entry::Fault(fault) => self.faults.push(fault),
            Entry::Copy(copy) => self.copies.push(copy),
            Entry::Poll(poll) => self.groups.polls.push(poll),
            Entry::Commit(commit) => self.groups.commits.push(commit),
            Entry::Look(look) => self.groups.looks.push(look),
            Entry::GroupEnd(end) => self.groups.ends.push(end),
            Entry::Ending(ending) => self.ending = ending,
        }
    }

    /// Reads a stored history.
    ///
    /// # Errors
    /// A file that cannot be read or is no history; the first and the last line must be there.
    pub fn load(path: &Path) -> io::Result<Self> {
        let damaged = |line: usize, what: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is no part of a history: {what}"))
        };
        let mut history = Self::default();
        let mut ended = false;
        for (index, line) in BufReader::new(File::open(path)?).lines().enumerate() {
            let entry: Entry = serde_json::from_str(&line?).map_err(|error| damaged(index + 1, &error.to_string()))?;
            if (index == 0) != matches!(entry, Entry::Setting(_)) {
                return Err(damaged(index + 1, "the setting stands first"));
            }
            ended = matches!(entry, Entry::Ending(_));
            history.push(entry);
        }
        // A judgement over half of a run would acquit it of what is in the other half.
        if ended { Ok(history) } else { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the history has no end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        groups::{CommitOutcome, Life, Membership},
        *,
    };

    #[test]
    fn records_are_joined_to_runs_and_come_out_again() {
        let id = |producer, number| RecordId { producer, partition: 2, number };
        let records = [(5, id(0, 0)), (6, id(0, 1)), (7, id(1, 2)), (8, id(0, 2)), (10, id(0, 3))];
        let mut runs = Vec::new();
        records.iter().for_each(|(offset, id)| Run::push(&mut runs, *offset, *id));
        assert_eq!(runs.len(), 4);
        assert_eq!(runs.iter().flat_map(|run| run.records()).collect::<Vec<_>>(), records);
        let mut foreign = Vec::new();
        Run::push(&mut foreign, 0, id(FOREIGN, 7));
        Run::push(&mut foreign, 1, id(FOREIGN, 8));
        assert_eq!(foreign.len(), 2, "fingerprints do not count up");
    }

    #[test]
    fn a_history_is_the_same_after_it_was_stored() {
        let run = Run { offset: 1, first: RecordId { producer: 0, partition: 0, number: 1 }, count: 2 };
        let entries = [
            Entry::Setting(Setting { run: "r".to_owned(), first_offsets: vec![0], ..Setting::default() }),
            Entry::Write(Write {
                producer: 0,
                partition: 0,
                number: 0,
                count: 3,
                broker: 1,
                due_us: Some(4),
                start_us: 5,
                end_us: 9,
                outcome: Outcome::Acknowledged { offset: 0, epoch: Some(4), leader: Some(1), duplicate: false },
            }),
            Entry::Read(Read {
                partition: 0,
                broker: 0,
                start_us: 10,
                end_us: 12,
                from: 1,
                high_watermark: 3,
                runs: vec![run],
            }),
            Entry::Fault(Fault { led: vec![Led { partition: 0, epoch: 4 }], ..Fault::default() }),
            Entry::Copy(Copy { replica: Some(2), runs: vec![run], batches: vec![(0, 4, 77)], ..Copy::default() }),
            Entry::Poll(Poll { generation: Some(3), runs: vec![(0, run)], ..Poll::default() }),
            Entry::Commit(Commit {
                who: Life { group: 1, member: 2, life: 3 },
                broker: 0,
                start_us: 5,
                end_us: 6,
                offsets: vec![(0, 3)],
                named: true,
                frozen_us: 0,
                outcome: CommitOutcome::Refused { code: 40_904 },
            }),
            Entry::Look(Look {
                committed: vec![(0, Some(3)), (1, None)],
                membership: Some(Membership { owners: vec![(0, 7)], ..Membership::default() }),
                ..Look::default()
            }),
            Entry::GroupEnd(GroupEnd { ends: vec![(0, 3)], ..GroupEnd::default() }),
            Entry::Ending(Ending { writing_until_us: 20, ..Ending::default() }),
        ];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let lines: Vec<String> = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut expected = History::default();
        entries.into_iter().for_each(|entry| expected.push(entry));
        assert_eq!(History::load(&path).unwrap(), expected);

        std::fs::write(&path, lines[..lines.len() - 1].join("\n")).unwrap();
        assert!(History::load(&path).unwrap_err().to_string().contains("no end"));
        std::fs::write(&path, lines[1..].join("\n")).unwrap();
        assert!(History::load(&path).unwrap_err().to_string().contains("line 1"));
    }
}
