//! Records of the offsets topic on their way into it.

use std::collections::VecDeque;

use pubg1_model::{
    GroupId, InstanceName, TopicPartition,
    compression::Compression,
    consumer_group::{GroupMetadataKey, GroupMetadataValue},
    consumer_instance::{InstanceChange, InstanceKey},
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchBuilder, BatchError, NewRecord, ValidBatch},
};

/// What one batch takes, unless a single record is larger.
const BATCH_BYTES_MAX: usize = 512 * 1024;
const BATCH_RECORDS_MAX: usize = 2_048;

/// The key of the record that a coordinator writes to learn where the log ends: whoever reads skips it.
pub(super) const BARRIER_KEY_VERSION: i16 = 1002;

/// A record to be appended; without a value it removes what the key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// What a group wants stored, in order. What cannot be encoded was refused before it came here; if something does come
/// it is left out and told.
#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<Record>);

impl Outbox {
    fn push<E: std::fmt::Display>(
        &mut self,
        group: &GroupId,
        key: Result<Vec<u8>, E>,
        value: Option<Result<Vec<u8>, E>>,
    ) {
        match key.and_then(|key| Ok(Record { key, value: value.transpose()? })) {
            Ok(record) => self.0.push(record),
            Err(error) => tracing::error!(%group, %error, "a change of the group cannot be stored"),
        }
    }

    pub(super) fn offset(&mut self, group: &GroupId, partition: TopicPartition, value: Option<&OffsetCommitValue>) {
        let key = OffsetCommitKey { group: group.clone(), topic_partition: partition };
        self.push(group, key.encode(), value.map(OffsetCommitValue::encode));
    }

    pub(super) fn group(&mut self, group: &GroupId, value: Option<&GroupMetadataValue>) {
        let key = GroupMetadataKey { group: group.clone() };
        self.push(group, key.encode(), value.map(GroupMetadataValue::encode));
    }

    pub(super) fn instance(&mut self, group: &GroupId, name: &InstanceName, change: InstanceChange) {
        let key = |partition| InstanceKey { group: group.clone(), instance: name.clone(), partition }.encode();
        match change {
            InstanceChange::Definition(stored) => self.push(group, key(None), Some(stored.encode())),
            InstanceChange::Position(partition, stored) => {
                self.push(group, key(Some(partition)), stored.map(|stored| Ok(stored.encode())));
            }
        }
    }

    /// An instance is gone; what it knew of these partitions goes first, so that nothing is left of it alone.
    pub(super) fn remove_instance(&mut self, group: &GroupId, name: &InstanceName, partitions: Vec<TopicPartition>) {
        for partition in partitions {
            self.instance(group, name, InstanceChange::Position(partition, None));
        }
        let key = InstanceKey { group: group.clone(), instance: name.clone(), partition: None };
        self.push(group, key.encode(), None);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.0)
    }
}

/// Takes the records of the next batch.
pub(super) fn next_batch(queued: &mut VecDeque<Record>) -> Vec<Record> {
    let (mut bytes, mut records) = (0, Vec::new());
    while records.len() < BATCH_RECORDS_MAX
        && let Some(record) = queued.front()
    {
        bytes += record.key.len() + record.value.as_ref().map_or(0, Vec::len) + 32;
        if bytes > BATCH_BYTES_MAX && !records.is_empty() {
            break;
        }
        records.extend(queued.pop_front());
    }
    records
}

/// The batch that stores records.
pub(super) fn encode(records: &[Record], now_ms: i64) -> Result<ValidBatch, BatchError> {
    let mut batch = BatchBuilder::new(Compression::None);
    for Record { key, value } in records {
        batch.push(&NewRecord { timestamp_ms: now_ms, key: Some(key), value: value.as_deref(), headers: &[] })?;
    }
    batch.finish(None)
}

/// The record after which everything that was appended before is known to be in the log, or not to be.
pub(super) fn barrier() -> Record {
    Record { key: BARRIER_KEY_VERSION.to_be_bytes().to_vec(), value: None }
}
