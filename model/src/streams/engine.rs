//! The engine: records in, rows out.

use std::sync::Arc;

use super::{
    codec::{Damaged, Reader},
    merge::Merge,
    partial::Partials,
    partition::{FINISHED, PartitionWindows},
    plan::{Plan, PlanError, Stages},
    query::Query,
    state::{Entries, Pieces, damaged},
    value::Value,
};

/// A record of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputRecord<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its timestamp.
    pub timestamp_ms: i64,
    /// When it was appended to the log, if that is known.
    pub append_time_ms: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// Time that passed without records: from then on the partition behaves as if a record had brought
/// its time to `watermark_ms`. It must be stored before it has an effect that anyone can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeAdvance {
    /// The partition.
    pub partition: u32,
    /// The offset of the first record that comes after it.
    pub before_offset: u64,
    /// The partition's time.
    pub watermark_ms: i64,
}

/// Why a record is in no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// All its windows are closed.
    Late,
    /// Its time is too far after its append.
    Future,
    /// Its value is not JSON.
    Malformed,
    /// It has no time.
    NoTime,
}

/// A record that is in no window, for the side topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverted {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Why.
    pub reason: Reason,
}

/// What became of the records: `read` is the sum of all others but `late_pairs` and `late_merges`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records read.
    pub read: u64,
    /// In at least one window.
    pub accepted: u64,
    /// Not wanted by the filter.
    pub filtered: u64,
    /// Too late for all their windows.
    pub late: u64,
    /// Of a time too far after their append.
    pub future: u64,
    /// Not JSON.
    pub malformed: u64,
    /// Without a time.
    pub no_time: u64,
    /// Pairs of a record and a window for which it was late.
    pub late_pairs: u64,
    /// Partial results that came after the close of a window that is not kept any more.
    pub late_merges: u64,
}

/// A result: a group of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The start of the window.
    pub window_start_ms: i64,
    /// Its end; of a session the time of its last record.
    pub window_end_ms: i64,
    /// The values of the group's columns.
    pub group: Vec<Value<'static>>,
    /// The values of the output's columns.
    pub columns: Vec<Value<'static>>,
    /// How often this group and window was computed before. Where HAVING or Top-N leaves rows out, numbers are missing.
    pub rev: u32,
    /// Whether the window is closed.
    pub is_final: bool,
    /// How many records the row is made of.
    pub records: u64,
}

/// A partial result that came after the close of its window, which is not kept any more; or, of a
/// session, that would have made one longer that is closed.
#[derive(Clone, Debug, PartialEq)]
pub struct LateMerge {
    /// The partition that it came from.
    pub partition: u32,
    /// The start of the window.
    pub window_start_ms: i64,
    /// Its end.
    pub window_end_ms: i64,
    /// The values of the group's columns.
    pub group: Vec<Value<'static>>,
    /// How many records it is made of.
    pub records: u64,
}

/// What came out of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The records that are in no window.
    pub diverted: Vec<Diverted>,
    /// The advances that took place of themselves; to be stored with the offsets.
    pub advances: Vec<TimeAdvance>,
    /// What was lost because a partition was not waited for.
    pub late_merges: Vec<LateMerge>,
    /// Of the rows, how many are final and take the place of a final one.
    pub corrections: u64,
}

/// A state that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a window query cannot be restored: {0}")]
pub struct RestoreError(pub &'static str);

/// What the caller knows of a partition's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The partition.
    pub partition: u32,
    /// Whether all its records have been fed.
    pub caught_up: bool,
    /// How long ago the last record was appended.
    pub silent_ms: i64,
}

/// Executes a plan over one or more partitions, in one place.
#[derive(Clone, Debug)]
pub struct WindowEngine {
    query: Arc<Query>,
    partitions: Vec<PartitionWindows>,
    /// One for all partitions, or one for each.
    merges: Vec<Merge>,
}

impl WindowEngine {
    /// An engine without state.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be executed.
    pub fn new(plan: Arc<Plan>, partitions: &[u32]) -> Result<Self, PlanError> {
        let query = Arc::new(Query::compile(plan)?);
        let alone = query.plan.stages == Stages::PerPartition;
        let mut partitions: Vec<u32> = partitions.to_vec();
        partitions.sort_unstable();
        partitions.dedup();
        let merges = if alone {
            partitions.iter().map(|partition| Merge::new(Arc::clone(&query), [*partition])).collect()
        } else {
            vec![Merge::new(Arc::clone(&query), partitions.iter().copied())]
        };
        let others = !alone && partitions.len() > 1;
        let partition = |partition| PartitionWindows::new(Arc::clone(&query), partition, others);
        Ok(Self { partitions: partitions.into_iter().map(partition).collect(), merges, query })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.query.plan
    }

    /// From now on [`WindowEngine::changes`] is called regularly. Without this nothing is
    /// remembered for it.
    pub fn track_changes(&mut self) {
        self.partitions.iter_mut().for_each(PartitionWindows::track);
        self.merges.iter_mut().for_each(Merge::track);
    }

    fn index_of(&self, partition: u32) -> Option<usize> {
        self.partitions.binary_search_by_key(&partition, PartitionWindows::partition).ok()
    }

    const fn merge_of(&self, index: usize) -> usize {
        if self.merges.len() > 1 { index } else { 0 }
    }

    /// The reading of a partition begins at this offset, not at 0.
    pub fn start_at(&mut self, partition: u32, offset: u64) {
        if let Some(index) = self.index_of(partition) {
            self.partitions[index].start_at(offset);
        }
    }

    /// The windows of a partition.
    pub(crate) fn windows_of(&self, partition: u32) -> Option<&PartitionWindows> {
        self.index_of(partition).map(|index| &self.partitions[index])
    }

    /// Takes the next records of a partition, in the order of their offsets. Records that were fed
    /// before are passed over, and so are those of partitions that are not the query's.
    pub fn feed(&mut self, partition: u32, records: &[InputRecord<'_>], out: &mut Output) {
        let Some(index) = self.index_of(partition) else { return };
        let merge = self.merge_of(index);
        if let Some(first) = records.first()
            && self.merges[merge].has_left(partition)
            && let Some(watermark_ms) = self.merges[merge].watermark()
        {
            // Whoever comes back starts from the query's time.
            let advance = TimeAdvance { partition, before_offset: first.offset, watermark_ms };
            out.advances.push(advance);
            self.apply(index, advance, out);
        }
        let mut partials = Partials::default();
        self.partitions[index].feed(records, &mut out.diverted, &mut partials);
        self.merges[merge].accept(partition, partials, out);
        self.merges[merge].settle(out);
    }

    /// Applies an advance that was stored: before the record that it names, or to a partition that
    /// was fed up to there.
    pub fn advance(&mut self, advance: TimeAdvance, out: &mut Output) {
        if let Some(index) = self.index_of(advance.partition) {
            self.apply(index, advance, out);
            let merge = self.merge_of(index);
            self.merges[merge].settle(out);
        }
    }

    fn apply(&mut self, index: usize, advance: TimeAdvance, out: &mut Output) {
        let mut partials = Partials::default();
        self.partitions[index].advance(advance.watermark_ms, &mut partials);
        let merge = self.merge_of(index);
        self.merges[merge].accept(advance.partition, partials, out);
    }

    /// A partition is not waited for until it is fed again: its leader is gone. What it has open
    /// comes late then: as corrections while the windows are kept. For partitions that are idle use
    /// [`WindowEngine::idle_advances`], which loses nothing.
    pub fn leave(&mut self, partition: u32, out: &mut Output) {
        if let Some(index) = self.index_of(partition) {
            let merge = self.merge_of(index);
            self.merges[merge].leave(partition);
            self.merges[merge].settle(out);
        }
    }

    /// The advances that are due because partitions are idle. Nothing is changed: store them, then
    /// apply them.
    ///
    /// A partition is idle when it was read to its end and nothing was appended for the idle
    /// timeout; one that never had a record is idle at once. Idle partitions follow the others; when
    /// all are idle, time goes on as the clock does since their last records.
    #[must_use]
    pub fn idle_advances(&self, silences: &[Silence]) -> Vec<TimeAdvance> {
        let Some(timeout) = self.query.plan.time.idle_timeout_ms else { return Vec::new() };
        let mut advances = Vec::new();
        let size = if self.merges.len() > 1 { 1 } else { self.partitions.len().max(1) };
        for together in self.partitions.chunks(size) {
            let silence_of = |partition: &PartitionWindows| {
                let silence = silences.iter().find(|silence| silence.partition == partition.partition())?;
                let is_empty = partition.watermark_at_record().is_none();
                (silence.caught_up && (is_empty || silence.silent_ms >= timeout)).then_some(*silence)
            };
            let active = together.iter().filter(|partition| silence_of(partition).is_none());
            let to = if active.clone().next().is_some() {
                // A partition with unread records and no time yet holds back all.
                active.map(PartitionWindows::watermark).min().flatten()
            } else {
                let alone = |partition: &PartitionWindows| {
                    let silent_ms = silence_of(partition)?.silent_ms.max(0);
                    Some(partition.watermark_at_record()?.saturating_add(silent_ms))
                };
                together.iter().filter_map(alone).max()
            };
            let Some(to) = to else { continue };
            let idle = together.iter().filter(|partition| silence_of(partition).is_some());
            let behind = idle.filter(|partition| partition.watermark() < Some(to));
            advances.extend(behind.map(|partition| TimeAdvance {
                partition: partition.partition(),
                before_offset: partition.next_offset(),
                watermark_ms: to,
            }));
        }
        advances
    }

    /// The rows that have changed since the last call (emit modes with updates).
    pub fn emit_updates(&mut self, out: &mut Output) {
        if !self.query.plan.emit.has_updates() {
            return;
        }
        for index in 0..self.partitions.len() {
            let mut partials = Partials::default();
            self.partitions[index].open_windows(true, &mut partials);
            let merge = self.merge_of(index);
            self.merges[merge].accept(self.partitions[index].partition(), partials, out);
        }
        for merge in &mut self.merges {
            merge.emit_updates(out);
        }
    }

    /// Closes all windows: nothing more will be read (a bounded run).
    pub fn finish(&mut self, out: &mut Output) {
        for index in 0..self.partitions.len() {
            let partition = self.partitions[index].partition();
            let before_offset = self.partitions[index].next_offset();
            self.apply(index, TimeAdvance { partition, before_offset, watermark_ms: FINISHED }, out);
        }
        for merge in &mut self.merges {
            merge.settle(out);
        }
    }

    /// The rows of windows that overlap a span of time: of closed ones that are kept, and of open
    /// ones as they are now.
    #[must_use]
    pub fn read(&mut self, from_ms: i64, to_ms: i64, closed: bool, open: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, merge) in self.merges.iter().enumerate() {
            if closed {
                merge.read_kept(&mut rows);
            }
            if open {
                let mut view = merge.view();
                let mut unused = Output::default();
                let alone = self.merges.len() > 1;
                for (index, partition) in self.partitions.iter_mut().enumerate() {
                    if !alone || index == at {
                        let mut partials = Partials::default();
                        partition.open_windows(false, &mut partials);
                        view.accept(partition.partition(), partials, &mut unused);
                    }
                }
                view.read_open(&mut rows);
            }
        }
        rows.retain(|row| row.window_start_ms <= to_ms && from_ms <= row.window_end_ms);
        rows
    }

    /// The query's time; without a second stage that of the partition furthest behind.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.merges.iter().map(Merge::watermark).min().flatten()
    }

    /// A partition's time.
    #[must_use]
    pub fn partition_watermark_ms(&self, partition: u32) -> Option<i64> {
        self.index_of(partition).and_then(|index| self.partitions[index].watermark())
    }

    /// The offset of the record that a partition goes on with.
    #[must_use]
    pub fn next_offset(&self, partition: u32) -> Option<u64> {
        self.index_of(partition).map(|index| self.partitions[index].next_offset())
    }

    /// Whether a partition is so far ahead of the query's time that it should not be read now.
    #[must_use]
    pub fn is_ahead(&self, partition: u32) -> bool {
        let Some(index) = self.index_of(partition) else { return false };
        let (Some(max_skew), Some(own)) = (self.query.plan.time.max_skew_ms, self.partitions[index].watermark()) else {
            return false;
        };
        // The one that is furthest behind is always read.
        let others = self.partitions.iter().filter(|_| self.merges.len() == 1).map(PartitionWindows::watermark);
        others.min().flatten().is_some_and(|earliest| own > earliest.saturating_add(max_skew))
    }

    /// What became of the records.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut all = self.partitions.iter().fold(Stats::default(), |all, one| all.plus(one.stats()));
        all.late_merges += self.merges.iter().map(Merge::late_merges).sum::<u64>();
        all
    }

    /// What became of the records of a partition.
    #[must_use]
    pub fn partition_stats(&self, partition: u32) -> Option<Stats> {
        self.index_of(partition).map(|index| *self.partitions[index].stats())
    }

    /// How much is open.
    #[must_use]
    pub fn open(&self) -> Open {
        Open {
            windows: self.partitions.iter().map(PartitionWindows::open_count).sum(),
            groups: self.partitions.iter().map(PartitionWindows::group_count).sum(),
            waiting: self.merges.iter().map(Merge::open_count).sum(),
        }
    }

    /// How many bytes of memory the state takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let partitions: usize = self.partitions.iter().map(PartitionWindows::memory_bytes).sum();
        partitions + self.merges.iter().map(Merge::memory_bytes).sum::<usize>()
    }

    /// Whether the state has reached the plan's limit: do not feed it before something has closed.
    #[must_use]
    pub fn is_over_memory(&self) -> bool {
        self.memory_bytes() > self.query.plan.memory_max_bytes
    }

    /// The whole state, in pieces of about `piece_bytes`.
    #[must_use]
    pub fn snapshot(&mut self, piece_bytes: usize) -> Vec<Vec<u8>> {
        self.encode(true, piece_bytes)
    }

    /// What has changed since the last call, or since the last snapshot, to be applied to it.
    pub fn changes(&mut self) -> Vec<u8> {
        self.encode(false, usize::MAX).pop().unwrap_or_default()
    }

    fn encode(&mut self, all: bool, piece_bytes: usize) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(piece_bytes);
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            partition.encode_groups(all, |bytes| pieces.put(PARTITION_GROUP, index, bytes));
        }
        for (index, merge) in self.merges.iter_mut().enumerate() {
            merge.encode_entries(all, |kind, bytes| pieces.put(kind, index, bytes));
        }
        let mut bytes = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            bytes.clear();
            partition.encode_position(&mut bytes);
            pieces.put(PARTITION_POSITION, index, &bytes);
        }
        for (index, merge) in self.merges.iter().enumerate() {
            bytes.clear();
            merge.encode_position(&mut bytes);
            pieces.put(MERGE_POSITION, index, &bytes);
        }
        pieces.finish()
    }

    /// The state of a snapshot's pieces and the changes after it, in order.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan's state.
    pub fn restore<'a>(
        plan: Arc<Plan>,
        partitions: &[u32],
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, RestoreError> {
        let mut engine = Self::new(plan, partitions).map_err(|_| RestoreError("the plan cannot be executed"))?;
        for piece in pieces {
            engine.apply_changes(piece)?;
        }
        Ok(engine)
    }

    /// Applies a piece of a snapshot, or changes.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes are not of this plan's state; the engine is of no use then.
    pub fn apply_changes(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let mut entries = Entries::of(piece)?;
        while let Some((kind, index, mut entry)) = entries.next().map_err(damaged)? {
            self.decode_entry(kind, index, &mut entry).map_err(damaged)?;
        }
        Ok(())
    }

    fn decode_entry(&mut self, kind: u8, index: usize, entry: &mut Reader<'_>) -> Result<(), Damaged> {
        match kind {
            PARTITION_GROUP => self.partitions.get_mut(index).ok_or(Damaged)?.decode_group(entry)?,
            PARTITION_POSITION => self.partitions.get_mut(index).ok_or(Damaged)?.decode_position(entry)?,
            MERGE_POSITION => self.merges.get_mut(index).ok_or(Damaged)?.decode_position(entry)?,
            kind => self.merges.get_mut(index).ok_or(Damaged)?.decode_entry(kind, entry)?,
        }
        if entry.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}

/// Kinds of entries of the state; those of the merge have others.
const PARTITION_GROUP: u8 = 1;
const PARTITION_POSITION: u8 = 2;
const MERGE_POSITION: u8 = 3;

impl Stats {
    /// The sum.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            read: self.read + other.read,
            accepted: self.accepted + other.accepted,
            filtered: self.filtered + other.filtered,
            late: self.late + other.late,
            future: self.future + other.future,
            malformed: self.malformed + other.malformed,
            no_time: self.no_time + other.no_time,
            late_pairs: self.late_pairs + other.late_pairs,
            late_merges: self.late_merges + other.late_merges,
        }
    }
}

/// How much is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Panes (for sessions: sessions) in all partitions.
    pub windows: usize,
    /// Groups in them.
    pub groups: usize,
    /// Windows or sessions that are closed in some partitions and wait for the others.
    pub waiting: usize,
}
