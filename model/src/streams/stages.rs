//! The two stages apart, for when they run on different brokers.
//!
//! A [`PartitionStage`] runs where its partition is led and hands on [`PartialBatch`]es: never
//! records, but what is closed there, once, and its time. Their groups are divided among merge
//! shards. A [`MergeStage`] is one shard: it takes the batches of each partition in their order and
//! gives rows. Together they give what a [`WindowEngine`](super::engine::WindowEngine) gives.

use std::sync::Arc;

use super::{
    codec::{Damaged, Reader},
    engine::{Diverted, InputRecord, Output, RestoreError, Row, Stats},
    merge::Merge,
    partial::Partials,
    partition::{FINISHED, PartitionWindows},
    plan::{Plan, PlanError},
    query::Query,
    state::{Entries, Pieces, damaged},
};

/// Kinds of entries of the states; those of the merge have others.
const GROUP: u8 = 1;
const POSITION: u8 = 2;

/// The shard that a group belongs to; the same on every broker.
#[must_use]
pub fn shard_of(group: &[u8], shards: u32) -> u32 {
    crc32c::crc32c(group) % shards.max(1)
}

/// What a partition hands on at once.
#[derive(Clone, Debug)]
pub struct PartialBatch {
    query: Arc<Query>,
    partials: Partials,
}

impl PartialBatch {
    /// The bytes for one of the shards. Every shard needs them, also if none of its groups is in
    /// there: they carry the partition's time.
    #[must_use]
    pub fn encode(&self, shard: u32, shards: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.partials.encode(&self.query.aggregates, |group| shard_of(group, shards) == shard, &mut out);
        out
    }

    /// The same as [`PartialBatch::encode`] gives, in parts of about `bytes_max` at most, to be taken in this order.
    /// The time comes with the last one: before that no window is closed.
    #[must_use]
    pub fn encode_parts(&self, shard: u32, shards: u32, bytes_max: usize) -> Vec<Vec<u8>> {
        let whole = self.encode(shard, shards);
        if whole.len() <= bytes_max {
            return vec![whole];
        }
        let count = u32::try_from(whole.len() / bytes_max.max(1) + 1).unwrap_or(u32::MAX);
        let part = |part: u32| {
            let is_last = part + 1 == count;
            let wanted = |group: &[u8]| {
                shard_of(group, shards) == shard && crc32c::crc32c(group) / shards.max(1) % count == part
            };
            let watermark_ms = self.partials.watermark_ms.filter(|_| is_last);
            let mut out = Vec::new();
            self.partials.encode_at(watermark_ms, &self.query.aggregates, wanted, &mut out);
            out
        };
        (0..count).map(part).collect()
    }

    /// The partition's time.
    #[must_use]
    pub const fn watermark_ms(&self) -> Option<i64> {
        self.partials.watermark_ms
    }

    /// Whether it carries no more than the time.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Partials { windows, sessions, opened, .. } = &self.partials;
        windows.is_empty() && sessions.is_empty() && opened.is_empty()
    }
}

/// The first stage: the windows of one partition.
#[derive(Clone, Debug)]
pub struct PartitionStage {
    query: Arc<Query>,
    windows: PartitionWindows,
}

impl PartitionStage {
    /// A partition that was not read yet.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be executed.
    pub fn new(plan: Arc<Plan>, partition: u32) -> Result<Self, PlanError> {
        let query = Arc::new(Query::compile(plan)?);
        Ok(Self { windows: PartitionWindows::new(Arc::clone(&query), partition, true), query })
    }

    /// The reading begins at this offset, not at 0.
    pub const fn start_at(&mut self, offset: u64) {
        self.windows.start_at(offset);
    }

    pub(crate) const fn windows(&self) -> &PartitionWindows {
        &self.windows
    }

    /// The partition's time, and nothing else.
    #[must_use]
    pub fn time(&self) -> PartialBatch {
        self.batch(Partials { watermark_ms: self.windows.watermark(), ..Partials::default() })
    }

    /// The open windows that overlap a span of time, as they are now. What has changed stays to be given out.
    pub fn open(&mut self, from_ms: i64, to_ms: i64) -> PartialBatch {
        let mut partials = Partials::default();
        self.windows.open_windows(false, &mut partials);
        partials.windows.retain(|window| window.start_ms <= to_ms && from_ms <= window.end_ms);
        self.batch(partials)
    }

    /// From now on [`PartitionStage::changes`] is called regularly.
    pub fn track_changes(&mut self) {
        self.windows.track();
    }

    fn batch(&self, partials: Partials) -> PartialBatch {
        PartialBatch { query: Arc::clone(&self.query), partials }
    }

    /// Takes the next records, in the order of their offsets. Those that were fed before are passed
    /// over.
    pub fn feed(&mut self, records: &[InputRecord<'_>], diverted: &mut Vec<Diverted>) -> PartialBatch {
        let mut partials = Partials::default();
        self.windows.feed(records, diverted, &mut partials);
        self.batch(partials)
    }

    /// Time that passed without records; it must be stored before.
    pub fn advance(&mut self, watermark_ms: i64) -> PartialBatch {
        let mut partials = Partials::default();
        self.windows.advance(watermark_ms, &mut partials);
        self.batch(partials)
    }

    /// Closes all windows: nothing more will be read.
    pub fn finish(&mut self) -> PartialBatch {
        self.advance(FINISHED)
    }

    /// What has changed since the last call, for early rows.
    pub fn updates(&mut self) -> PartialBatch {
        let mut partials = Partials::default();
        self.windows.open_windows(true, &mut partials);
        self.batch(partials)
    }

    /// The partition's time.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.windows.watermark()
    }

    /// The partition's time right after its last record: while all partitions are silent, time goes
    /// on from there.
    #[must_use]
    pub fn watermark_at_record_ms(&self) -> Option<i64> {
        self.windows.watermark_at_record()
    }

    /// The offset of the record to go on with.
    #[must_use]
    pub const fn next_offset(&self) -> u64 {
        self.windows.next_offset()
    }

    /// What became of the records.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        *self.windows.stats()
    }

    /// How many bytes of memory the state takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.windows.memory_bytes()
    }

    /// The whole state, in pieces of about `piece_bytes`.
    #[must_use]
    pub fn snapshot(&mut self, piece_bytes: usize) -> Vec<Vec<u8>> {
        self.encode(true, piece_bytes)
    }

    /// What has changed since the last call or snapshot.
    pub fn changes(&mut self) -> Vec<u8> {
        self.encode(false, usize::MAX).pop().unwrap_or_default()
    }

    fn encode(&mut self, all: bool, piece_bytes: usize) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(piece_bytes);
        self.windows.encode_groups(all, |bytes| pieces.put(GROUP, 0, bytes));
        let mut bytes = Vec::new();
        self.windows.encode_position(&mut bytes);
        pieces.put(POSITION, 0, &bytes);
        pieces.finish()
    }

    /// Applies a piece of a snapshot, or changes.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan's state; it is of no use then.
    pub fn apply_changes(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let mut entries = Entries::of(piece)?;
        while let Some((kind, _, mut entry)) = entries.next().map_err(damaged)? {
            let result = match kind {
                GROUP => self.windows.decode_group(&mut entry),
                POSITION => self.windows.decode_position(&mut entry),
                _ => Err(Damaged),
            };
            result.map_err(damaged)?;
        }
        Ok(())
    }
}

/// The second stage: one shard of the groups.
#[derive(Clone, Debug)]
pub struct MergeStage {
    query: Arc<Query>,
    merge: Merge,
}

impl MergeStage {
    /// A shard that has nothing yet, and waits for these partitions.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be executed.
    pub fn new(plan: Arc<Plan>, partitions: &[u32]) -> Result<Self, PlanError> {
        let query = Arc::new(Query::compile(plan)?);
        Ok(Self { merge: Merge::new(Arc::clone(&query), partitions.iter().copied()), query })
    }

    /// From now on [`MergeStage::changes`] is called regularly.
    pub const fn track_changes(&mut self) {
        self.merge.track();
    }

    /// Takes what a partition hands on, in its order, and gives the rows that follow.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan; nothing has changed then.
    pub fn accept(&mut self, partition: u32, batch: &[u8], out: &mut Output) -> Result<(), RestoreError> {
        let mut reader = Reader(batch);
        let partials = Partials::decode(&self.query.aggregates, &mut reader).map_err(damaged)?;
        if !reader.is_empty() {
            return Err(damaged(Damaged));
        }
        self.merge.accept(partition, partials, out);
        self.merge.settle(out);
        Ok(())
    }

    /// A partition is not waited for until it hands on something. What it has open comes late then.
    pub fn leave(&mut self, partition: u32, out: &mut Output) {
        self.merge.leave(partition);
        self.merge.settle(out);
    }

    /// The rows of what has changed since the last call.
    pub fn emit_updates(&mut self, out: &mut Output) {
        self.merge.emit_updates(out);
    }

    /// The rows of windows that are closed and kept, and of what the partitions have handed on of
    /// windows that are open.
    #[must_use]
    pub fn read(&self, closed: bool, open: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        if closed {
            self.merge.read_kept(&mut rows);
        }
        if open {
            self.merge.read_open(&mut rows);
        }
        rows
    }

    /// Like [`MergeStage::read`], with what the partitions have open added: the batches of
    /// [`PartitionStage::open`], for this shard. They may be older than what is here: what a partition has handed on
    /// since counts once. Nothing changes here.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan.
    pub fn read_with(&self, closed: bool, open: &[(u32, Vec<u8>)]) -> Result<Vec<Row>, RestoreError> {
        let mut rows = self.read(closed, false);
        let mut view = self.merge.view();
        for (partition, batch) in open {
            let partials = Partials::decode(&self.query.aggregates, &mut Reader(batch)).map_err(damaged)?;
            self.merge.add_open(*partition, partials, &mut view);
        }
        view.read_open(&mut rows);
        Ok(rows)
    }

    /// How many windows or sessions wait for partitions.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.merge.open_count()
    }

    /// How many partial results came too late.
    #[must_use]
    pub const fn late_merges(&self) -> u64 {
        self.merge.late_merges()
    }

    /// The query's time.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.merge.watermark()
    }

    /// How many bytes of memory the state takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.merge.memory_bytes()
    }

    /// The whole state, in pieces of about `piece_bytes`.
    #[must_use]
    pub fn snapshot(&mut self, piece_bytes: usize) -> Vec<Vec<u8>> {
        self.encode(true, piece_bytes)
    }

    /// What has changed since the last call or snapshot.
    pub fn changes(&mut self) -> Vec<u8> {
        self.encode(false, usize::MAX).pop().unwrap_or_default()
    }

    fn encode(&mut self, all: bool, piece_bytes: usize) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(piece_bytes);
        self.merge.encode_entries(all, |kind, bytes| pieces.put(kind, 0, bytes));
        let mut bytes = Vec::new();
        self.merge.encode_position(&mut bytes);
        pieces.put(POSITION, 0, &bytes);
        pieces.finish()
    }

    /// Applies a piece of a snapshot, or changes.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan's state; it is of no use then.
    pub fn apply_changes(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let mut entries = Entries::of(piece)?;
        while let Some((kind, _, mut entry)) = entries.next().map_err(damaged)? {
            let result = match kind {
                POSITION => self.merge.decode_position(&mut entry),
                kind => self.merge.decode_entry(kind, &mut entry),
            };
            result.map_err(damaged)?;
        }
        Ok(())
    }
}
