//! What has happened in a run, and the invariants that look at it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use pubg1_actors::{PartitionStatus, PartitionView};
use pubg1_model::{BrokerId, LeaderEpoch, PartitionId, record_batch::BatchIter};

use crate::invariants::{
    AckedIsKept, ConsumersSkipNothing, GroupOffsetsNeverGoBack, HighWatermarkIsMonotonic, OffsetsAreDense,
    ReadsNeverContradict, SingleLeaderPerEpoch,
};

/// A record: its offset and its payload.
pub(crate) type Record = (u64, String);

/// The records in batches, from `from` on.
pub(crate) fn records_of(runs: &[bytes::Bytes], from: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for batch in runs.iter().flat_map(|run| BatchIter::new(run)) {
        let batch = batch.expect("batches are whole").decode(1 << 20).expect("and can be decoded");
        for record in batch.records() {
            let record = record.expect("records are whole");
            if record.offset.get() >= from {
                let payload = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                records.push((record.offset.get(), payload));
            }
        }
    }
    records
}

/// Who answered: the leader and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct By {
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
}

/// Everything that clients were told and replicas have published, in the order in which it happened.
#[derive(Default)]
pub(crate) struct History {
    acked: AckedIsKept,
    consumers: ConsumersSkipNothing,
    dense: OffsetsAreDense,
    groups: GroupOffsetsNeverGoBack,
    leaders: SingleLeaderPerEpoch,
    reads: ReadsNeverContradict,
    watermarks: HighWatermarkIsMonotonic,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

/// One history, shared by everybody in a simulation: it has one thread.
pub(crate) type Shared = Rc<RefCell<History>>;

impl History {
    /// Notes a broken invariant.
    pub(crate) fn violate(&mut self, text: String) {
        self.violations.push(text);
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Counts something, to show that a run was not empty.
    pub(crate) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    fn check(&mut self, result: Result<(), String>) {
        if let Err(text) = result {
            self.violate(text);
        }
    }

    /// A record was acknowledged.
    pub(crate) fn acknowledged(&mut self, partition: PartitionId, by: By, record: Record) {
        self.count("acknowledged", 1);
        self.reads.note_committed(partition, record.0 + 1);
        let result = self.leaders.seen(partition, by).and_then(|()| self.acked.acknowledged(partition, record));
        self.check(result);
    }

    /// A read begins: what it must not contradict.
    pub(crate) fn read_begins(&self, partition: PartitionId) -> u64 {
        self.reads.floor(partition)
    }

    /// A read that began when `floor` was committed was told this high watermark.
    pub(crate) fn read_ends(&mut self, partition: PartitionId, by: By, floor: u64, high_watermark: u64) {
        self.count("reads", 1);
        let result =
            self.leaders.seen(partition, by).and_then(|()| self.reads.ended(partition, by, floor, high_watermark));
        self.check(result);
    }

    /// It also got these records, asked for from `from` on.
    pub(crate) fn records_read(&mut self, partition: PartitionId, by: By, from: u64, records: &[Record]) {
        self.count("records read", u64::try_from(records.len()).unwrap_or(0));
        let result = self
            .dense
            .check(&format!("a read of {partition} by {by:?}"), from, records)
            .and_then(|()| self.acked.read(partition, by, records))
            .and_then(|()| self.reads.records(partition, by, records));
        self.check(result);
    }

    /// A replica has published this view.
    pub(crate) fn published(&mut self, broker: BrokerId, partition: PartitionId, view: &PartitionView) {
        if view.status != PartitionStatus::Leader {
            return;
        }
        let by = By { leader: broker, epoch: view.leader_epoch };
        let result = self
            .leaders
            .seen(partition, by)
            .and_then(|()| self.watermarks.published(partition, by, view.high_watermark.get()));
        self.check(result);
    }

    /// A group's commit was acknowledged.
    pub(crate) fn committed(&mut self, group: &str, offset: u64) {
        self.count("group commits", 1);
        self.groups.committed(group, offset);
    }

    /// What a group that is asked now must not be behind.
    pub(crate) fn group_read_begins(&self, group: &str) -> Option<u64> {
        self.groups.floor(group)
    }

    /// A group was asked when `floor` was committed.
    pub(crate) fn group_read_ends(&mut self, group: &str, floor: Option<u64>, found: Option<u64>) {
        self.count("group reads", 1);
        let result = self.groups.read(group, floor, found);
        self.check(result);
    }

    /// A member of the group of consumers was given these records.
    pub(crate) fn delivered(&mut self, partition: PartitionId, records: &[Record]) {
        self.count("records consumed", u64::try_from(records.len()).unwrap_or(0));
        self.consumers.delivered(partition, records);
    }

    /// A poll that began when `floor` was committed begins to read here.
    pub(crate) fn poll_begins(&mut self, partition: PartitionId, floor: Option<u64>, start: Option<u64>) {
        let result = self.consumers.begins(partition, floor, start);
        self.check(result);
    }

    /// The group of consumers has committed this.
    pub(crate) fn consumed(&mut self, partition: PartitionId, offset: u64) {
        let result = self.consumers.committed(partition, offset);
        self.check(result);
    }

    /// The whole log of one replica, at the end of a run.
    pub(crate) fn replica_at_the_end(&mut self, broker: BrokerId, partition: PartitionId, records: &[Record]) {
        let what = format!("the log of {partition} on broker {broker}");
        let result = self.dense.check(&what, 0, records).and_then(|()| self.acked.kept(&what, partition, records));
        self.check(result);
    }

    /// How many epochs were led.
    pub(crate) fn epochs_led(&self) -> usize {
        self.leaders.epochs_led()
    }
}
