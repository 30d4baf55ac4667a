//! Record batches in, outputs into the outbox.

use super::{Fed, Task, TaskError, outbox::OutputTarget, stage::Stage};
use crate::{
    Offset, PartitionId,
    record_batch::{Batch, BatchError, BatchIter, NewRecord, RecordView, TimestampType},
    streams::{
        engine::{Diverted, InputRecord, LateMerge, Reason},
        stages::{PartialBatch, shard_of},
        value::Value,
    },
};

/// A feed ends after the batch with which it has taken so many records.
const FEED_RECORDS_MAX: usize = 4_096;
/// How many records the engine is given at once.
const CHUNK_RECORDS: usize = 1_024;
/// The most that the records of a batch may be, decompressed: what brokers take at most.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// The most bytes of a record of partial results; a single group may have more.
#[cfg(not(test))]
const PARTIAL_BYTES_MAX: usize = 256 << 10;
/// So that tests have results in parts.
#[cfg(test)]
const PARTIAL_BYTES_MAX: usize = 300;
/// What the topic of partial results takes.
const PARTIALS_BYTES_MAX: usize = 64 << 20;
/// Says that a diverted record was too large for its topic, and is not there as it was.
const TRUNCATED: (&str, Option<&[u8]>) = ("truncated", Some(b"true"));

impl Task {
    /// Takes what was read: whole record batches, back to back, of the input or, in a second stage, of the partial
    /// results. What lies before the position is passed over. `read_at_ms` is the clock's time.
    ///
    /// A step is bounded: see [`Fed::bytes`] for how far it came.
    ///
    /// # Errors
    /// [`TaskError`]; the task is of no use then.
    pub fn feed(&mut self, batches: &[u8], read_at_ms: i64) -> Result<Fed, TaskError> {
        let mut fed = Fed::default();
        for batch in BatchIter::unchecked(batches) {
            if !self.can_feed() || fed.records >= FEED_RECORDS_MAX {
                break;
            }
            let batch = batch.map_err(|problem| self.input(problem))?;
            let is_done = self.feed_batch(&batch, read_at_ms, &mut fed)?;
            if !is_done {
                break;
            }
            fed.bytes += batch.bytes().len();
        }
        if fed.records > 0 {
            self.check_finished();
        }
        Ok(fed)
    }

    const fn input(&self, problem: BatchError) -> TaskError {
        TaskError::Input { offset: self.progress.position, problem }
    }

    /// Whether all of it is done with.
    fn feed_batch(&mut self, batch: &Batch<'_>, read_at_ms: i64, fed: &mut Fed) -> Result<bool, TaskError> {
        let header = batch.header();
        let Some(next) = header.next_offset() else {
            let (field, value) = ("last_offset_delta", i64::from(header.last_offset_delta));
            return Err(self.input(BatchError::Field { field, value, reason: "leads to no offset" }));
        };
        if next <= self.progress.position {
            return Ok(true);
        }
        if !header.attributes.is_control() {
            let records_before = fed.records;
            let is_whole = self.feed_records(batch, read_at_ms, fed)?;
            if fed.records > records_before {
                let appended = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
                let at = if appended { header.max_timestamp.min(read_at_ms) } else { read_at_ms };
                self.progress.last_record_ms = self.progress.last_record_ms.max(Some(at));
            }
            if !is_whole {
                self.touch(read_at_ms);
                return Ok(false);
            }
        }
        self.input_bytes += batch.bytes().len();
        self.progress.position = self.progress.end.map_or(next, |end| next.min(end.max(self.progress.position)));
        self.touch(read_at_ms);
        Ok(true)
    }

    /// Whether all of them are taken that are to be.
    fn feed_records(&mut self, batch: &Batch<'_>, read_at_ms: i64, fed: &mut Fed) -> Result<bool, TaskError> {
        let header = *batch.header();
        let decoded = batch.decode(DECOMPRESSED_BYTES_MAX).map_err(|problem| self.input(problem))?;
        if let Stage::Merge(_) = self.stage {
            return self.feed_partials(decoded.records(), fed);
        }
        let append_time_ms = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => read_at_ms,
        };
        let end = self.progress.end.unwrap_or(Offset::MAX);
        let count = usize::try_from(header.record_count).unwrap_or(0);
        let mut chunk: Vec<InputRecord<'_>> = Vec::with_capacity(count.min(CHUNK_RECORDS));
        let mut records = decoded.records();
        loop {
            chunk.clear();
            for record in records.by_ref() {
                let RecordView { offset, timestamp_ms, key, value, .. } =
                    record.map_err(|problem| self.input(problem))?;
                if offset >= end {
                    break;
                }
                if offset >= self.progress.position {
                    let append_time_ms = Some(append_time_ms);
                    chunk.push(InputRecord { offset: offset.get(), timestamp_ms, append_time_ms, key, value });
                    if chunk.len() == CHUNK_RECORDS {
                        break;
                    }
                }
            }
            let Some(last) = chunk.last() else { return Ok(true) };
            self.progress.position = Offset::new(last.offset).plus(1);
            fed.records += chunk.len();
            let partials = self.stage.feed(&chunk, &mut self.out);
            self.collect(partials.as_ref(), &chunk)?;
            if self.is_full() {
                return Ok(false);
            }
        }
    }

    fn feed_partials<'a>(
        &mut self,
        records: impl Iterator<Item = Result<RecordView<'a>, BatchError>>,
        fed: &mut Fed,
    ) -> Result<bool, TaskError> {
        for record in records {
            let record = record.map_err(|problem| self.input(problem))?;
            if record.offset < self.progress.position {
                continue;
            }
            let damaged = TaskError::Partial { offset: record.offset };
            let (Some(key), Some(value)) = (record.key, record.value) else { return Err(damaged) };
            let partition = <[u8; 4]>::try_from(key).map(u32::from_be_bytes).unwrap_or(u32::MAX);
            if partition >= self.spec.inputs || self.stage.accept(partition, value, &mut self.out).is_err() {
                return Err(damaged);
            }
            self.progress.position = record.offset.plus(1);
            fed.records += 1;
            self.collect(None, &[])?;
            if self.is_full() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts what came out into the outbox. `records` are those that may have been diverted.
    pub(super) fn collect(
        &mut self,
        partials: Option<&PartialBatch>,
        records: &[InputRecord<'_>],
    ) -> Result<(), TaskError> {
        // Put back afterwards: the room that it has is used again.
        let mut out = std::mem::take(&mut self.out);
        out.advances.clear();
        self.corrections += std::mem::take(&mut out.corrections);
        for row in out.rows.drain(..) {
            let (key, value) = (row.key(), row.to_json(&self.spec.plan));
            let record = NewRecord {
                timestamp_ms: row.timestamp_ms(&self.spec.plan),
                key: key.as_deref(),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            let partition = shard_of(&row.group_bytes(), self.spec.output_partitions);
            self.outbox.push((OutputTarget::Output, partition), self.spec.output_bytes_max, &record)?;
        }
        for diverted in out.diverted.drain(..) {
            if let Ok(at) = records.binary_search_by_key(&diverted.offset, |record| record.offset) {
                self.divert(diverted, &records[at])?;
            }
        }
        for late in out.late_merges.drain(..) {
            self.divert_merge(&late)?;
        }
        self.out = out;
        // What carries the time alone is put off until the commit.
        if let Some(partials) = partials.filter(|partials| !partials.is_empty()) {
            self.hand_on(partials)?;
        }
        Ok(())
    }

    /// Tells of what is in no window; the last header is [`TRUNCATED`]. What is too large for the topic is told without
    /// its value, or without its key either: one large record does not keep a stream from going on.
    fn push_late(&mut self, partition: u32, truncated: &NewRecord<'_>) -> Result<(), TaskError> {
        let place = (OutputTarget::Late, partition % self.spec.late_partitions.max(1));
        let headers = &truncated.headers[..truncated.headers.len().saturating_sub(1)];
        let whole = NewRecord { headers, ..*truncated };
        let without_value = NewRecord { value: None, ..*truncated };
        let without_key = NewRecord { key: None, ..without_value };
        for record in [whole, without_value] {
            match self.outbox.push(place, self.spec.late_bytes_max, &record) {
                Err(TaskError::TooLarge { .. }) => {}
                pushed => return pushed,
            }
        }
        self.outbox.push(place, self.spec.late_bytes_max, &without_key)
    }

    fn divert(&mut self, diverted: Diverted, record: &InputRecord<'_>) -> Result<(), TaskError> {
        let (partition, offset) = (diverted.partition.to_string(), diverted.offset.to_string());
        let headers = [
            ("reason", Some(diverted.reason.name().as_bytes())),
            ("partition", Some(partition.as_bytes())),
            ("offset", Some(offset.as_bytes())),
            TRUNCATED,
        ];
        let InputRecord { timestamp_ms, key, value, .. } = *record;
        self.push_late(diverted.partition, &NewRecord { timestamp_ms, key, value, headers: &headers })
    }

    fn divert_merge(&mut self, late: &LateMerge) -> Result<(), TaskError> {
        let mut value = String::from("{\"group\":");
        Value::List(late.group.clone()).write_json(&mut value);
        for (name, number) in [
            (",\"window_start\":", late.window_start_ms),
            (",\"window_end\":", late.window_end_ms),
            (",\"records\":", i64::try_from(late.records).unwrap_or(i64::MAX)),
        ] {
            value.push_str(name);
            value.push_str(&number.to_string());
        }
        value.push('}');
        let partition = PartitionId(late.partition).to_string();
        let headers =
            [("reason", Some(b"late_merge".as_slice())), ("partition", Some(partition.as_bytes())), TRUNCATED];
        let record =
            NewRecord { timestamp_ms: late.window_end_ms, key: None, value: Some(value.as_bytes()), headers: &headers };
        self.push_late(late.partition, &record)
    }

    fn hand_on(&mut self, partials: &PartialBatch) -> Result<(), TaskError> {
        let Some(partition) = self.stage.windows().map(|windows| windows.partition()) else { return Ok(()) };
        let key = partition.to_be_bytes();
        for shard in 0..self.spec.shards {
            for part in partials.encode_parts(shard, self.spec.shards, PARTIAL_BYTES_MAX) {
                let record = NewRecord { key: Some(&key), value: Some(&part), ..NewRecord::default() };
                self.outbox.push((OutputTarget::Partials, shard), PARTIALS_BYTES_MAX, &record)?;
            }
        }
        self.progress.told_watermark_ms = partials.watermark_ms();
        Ok(())
    }

    /// Tells the second stage the time, if that has not been told with something else.
    pub(super) fn tell_time(&mut self) -> Result<(), TaskError> {
        match self.stage.time().filter(|time| time.watermark_ms() > self.progress.told_watermark_ms) {
            Some(time) => self.hand_on(&time),
            None => Ok(()),
        }
    }
}

impl Reason {
    /// The reason as a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Future => "future",
            Self::Malformed => "malformed",
            Self::NoTime => "no_time",
        }
    }
}
