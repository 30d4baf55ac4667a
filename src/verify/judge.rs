//! From a history to a verdict. Pure: the same history always gets the same one.
//!
//! What clients were promised is judged, nothing else: that an acknowledged record is where its
//! acknowledgement said, once, on every replica; that nobody read what was not committed, or less
//! than had been committed before; and that leaders follow one another.

mod groups;
mod log;
mod realtime;
mod records;
mod replicas;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde::Serialize;

use super::history::{History, Outcome, RecordId};
pub use groups::GroupCounts;
use log::FinalLog;

/// Findings of each kind that are told in words; all are counted.
const EXAMPLES_MAX: usize = 5;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Acknowledged and found nowhere.
    Lost,
    /// Acknowledged at one place and found at another.
    Moved,
    /// Stored more often than it may be.
    Duplicated,
    /// One producer's records stand in another order than they were written in.
    Reordered,
    /// Found and never sent, or damaged.
    NeverSent,
    /// Every attempt was refused, and yet it is stored.
    RefusedYetStored,
    /// An idempotent producer that did nothing wrong was told that records are missing before its own.
    SequenceRefused,
    /// Replicas hold different bytes.
    ReplicasDiffer,
    /// A replica could not be read to the end.
    ReplicaUnread,
    /// A reader got something that the log does not hold at this offset.
    ReadContradicted,
    /// A reader was given offsets that do not follow one another, or lie above the high watermark.
    ReadGap,
    /// An answer knew less than an earlier answer had shown.
    StaleRead,
    /// A leader acknowledged after a newer one had.
    EpochRegression,
    /// Two brokers acknowledged in one epoch, or epochs do not rise along the log.
    TwoLeaders,
    /// The cluster was not healthy in time.
    Unhealthy,
    /// A group's committed offset was read lower than it had been acknowledged or read before.
    OffsetRegressed,
    /// Below a group's final offset, and none of its members was given it.
    Skipped,
    /// A member was given what its group had committed before.
    Redelivered,
    /// A member was given records from neither where it was nor where its group had committed.
    Misplaced,
    /// Two members owned a partition in one generation.
    TwoOwners,
    /// A generation was followed by an earlier one.
    GenerationFell,
    /// Members were given records, and nobody was told a generation: what rests on generations was not looked at.
    GenerationUntold,
    /// A member committed what it had lost.
    StaleCommit,
    /// A group did not come to the end of the topic.
    NotDrained,
}

impl Kind {
    /// The kinds as the table names them, in its order.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::Lost, "lost"),
        (Self::Moved, "moved"),
        (Self::Duplicated, "duplicated"),
        (Self::Reordered, "reordered"),
        (Self::NeverSent, "never sent"),
        (Self::RefusedYetStored, "refused, yet stored"),
        (Self::SequenceRefused, "sequence refused"),
        (Self::ReplicasDiffer, "replicas differ"),
        (Self::ReplicaUnread, "replicas not read"),
        (Self::ReadContradicted, "read, and not there"),
        (Self::ReadGap, "read with gaps"),
        (Self::StaleRead, "stale reads"),
        (Self::EpochRegression, "acknowledged by a deposed leader"),
        (Self::TwoLeaders, "two leaders in one epoch"),
        (Self::Unhealthy, "not healthy again"),
    ];

    /// The same for runs with consumer groups.
    pub const OF_GROUPS: [(Self, &'static str); 9] = [
        (Self::OffsetRegressed, "committed offsets that fell"),
        (Self::Skipped, "skipped by a group"),
        (Self::Redelivered, "delivered again after its commit"),
        (Self::Misplaced, "delivered out of place"),
        (Self::TwoOwners, "two owners in a generation"),
        (Self::GenerationFell, "generations that fell"),
        (Self::GenerationUntold, "no generation told"),
        (Self::StaleCommit, "stale commits accepted"),
        (Self::NotDrained, "groups not at the end"),
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().chain(&Self::OF_GROUPS).find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// One broken promise in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which promise.
    pub kind: Kind,
    /// Where and how.
    pub what: String,
}

/// What a history shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records that were sent, each counted once.
    pub sent: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that were never acknowledged: they may be stored or not.
    pub unknown: u64,
    /// Records in the log at the end.
    pub found: u64,
    /// Records that are stored more than once, and may be: a repeated request without idempotence.
    pub repeated: u64,
    /// Acknowledged and not found, where the acknowledgement promised nothing (`acks=1`).
    pub lost_without_promise: u64,
    /// Answers to readers that were compared with the log.
    pub reads: u64,
    /// Copies of partitions that were compared with their leader's.
    pub copies_compared: u64,
    /// What consumer groups did, where there were some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupCounts>,
    /// How often each promise was broken. Empty: never.
    pub violations: BTreeMap<Kind, u64>,
    /// Some of these in words.
    pub examples: Vec<Finding>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How often this promise was broken.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.violations.get(&kind).copied().unwrap_or(0)
    }

    fn accuse(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        let count = self.violations.entry(kind).or_default();
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            self.examples.push(Finding { kind, what: what() });
        }
    }
}

/// What is known about one producer's records in one partition.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// Records that were sent: the numbers below this.
    sent: u64,
    /// Attempts by first number: how many records, how many of the attempts may have stored them.
    attempts: BTreeMap<u64, Attempts>,
    /// Acknowledged places, `None` for those that were not.
    places: Vec<Option<u64>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    count: u64,
    may_have_stored: u64,
}

impl Lane {
    fn attempts(&self, number: u64) -> Attempts {
        let before = self.attempts.range(..=number).next_back();
        before.filter(|(first, tries)| number < *first + tries.count).map(|(_, tries)| *tries).unwrap_or_default()
    }
}

/// Every producer's records in every partition.
type Lanes = HashMap<(u32, u32), Lane>;

fn lanes(history: &History) -> Lanes {
    let mut lanes = Lanes::new();
    for write in &history.writes {
        let lane = lanes.entry((write.producer, write.partition)).or_default();
        let end = write.number + write.count;
        lane.sent = lane.sent.max(end);
        let tries = lane.attempts.entry(write.number).or_default();
        tries.count = tries.count.max(write.count);
        if !matches!(write.outcome, Outcome::Refused { .. }) {
            tries.may_have_stored += 1;
        }
        if let Outcome::Acknowledged { offset, .. } = write.outcome {
            let length = usize::try_from(end).unwrap_or(usize::MAX);
            if lane.places.len() < length {
                lane.places.resize(length, None);
            }
            for index in 0..write.count {
                if let Some(place) = usize::try_from(write.number + index).ok().and_then(|at| lane.places.get_mut(at)) {
                    *place = Some(offset + index);
                }
            }
        }
    }
    lanes
}

/// Judges a run.
#[must_use]
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let lanes = lanes(history);
    verdict.sent = lanes.values().map(|lane| lane.sent).sum();
    let acknowledged = |lane: &Lane| lane.places.iter().flatten().count() as u64;
    verdict.acknowledged = lanes.values().map(acknowledged).sum();
    verdict.unknown = verdict.sent - verdict.acknowledged;
    let log = FinalLog::of(history);
    verdict.found = log.records();
    records::judge(history, &lanes, &log, &mut verdict);
    replicas::judge(history, &mut verdict);
    realtime::judge(history, &log, &mut verdict);
    groups::judge(history, &log, &mut verdict);
    if let Some(reason) = &history.ending.unhealthy {
        verdict.accuse(Kind::Unhealthy, || reason.clone());
    }
    verdict
}

/// Judges only whether the replicas hold the same.
#[must_use]
pub fn judge_replicas(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    replicas::judge(history, &mut verdict);
    verdict
}

/// A record in words.
fn name(id: RecordId) -> String {
    if id.is_foreign() {
        "a record that nobody wrote".to_owned()
    } else {
        format!("record {} of producer {} for partition {}", id.number, id.producer, id.partition)
    }
}

#[cfg(test)]
mod tests;
