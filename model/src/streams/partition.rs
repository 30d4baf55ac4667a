//! The first stage: the records of one partition.
//!
//! It decides what becomes of each record, by the partition's own log alone: its time before the
//! record, and the advances that were stored. So it decides alike however the records are cut into
//! batches and whoever reads them.

use std::sync::Arc;

use super::{
    aggregate::Place,
    codec::{Damaged, Reader, put_i64, put_u64},
    engine::{Diverted, InputRecord, Reason, Stats},
    json::Found,
    panes::{Panes, Taken},
    partial::{Partials, WindowPartial},
    query::{Query, RecordScope},
    sessions::Sessions,
    time::TIME_MAX_MS,
};

/// No record has come yet.
const NO_TIME: i64 = i64::MIN;
/// The time after the end of a bounded run.
pub(crate) const FINISHED: i64 = i64::MAX / 4;

/// The windows that are open.
#[derive(Clone, Debug)]
enum Open {
    Panes(Box<Panes>),
    Sessions(Box<Sessions>),
}

/// The windows of one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionWindows {
    query: Arc<Query>,
    partition: u32,
    watermark: i64,
    /// The time right after the last record; silence counts from there.
    watermark_at_record: i64,
    next_offset: u64,
    stats: Stats,
    open: Open,
    found: Found,
    group: Vec<u8>,
}

impl PartitionWindows {
    /// A partition that was not read yet. `others`: whether there are other partitions whose
    /// results are merged with this one's.
    pub(crate) fn new(query: Arc<Query>, partition: u32, others: bool) -> Self {
        let open = if query.plan.window.is_session() {
            Open::Sessions(Box::new(Sessions::new(others)))
        } else {
            Open::Panes(Box::new(Panes::new()))
        };
        Self {
            query,
            partition,
            watermark: NO_TIME,
            watermark_at_record: NO_TIME,
            next_offset: 0,
            stats: Stats::default(),
            open,
            found: Found::default(),
            group: Vec::new(),
        }
    }

    /// Remembers what changes from now on, for `PartitionWindows::encode_changes`.
    pub(crate) fn track(&mut self) {
        match &mut self.open {
            Open::Panes(panes) => panes.track(),
            Open::Sessions(sessions) => sessions.track(),
        }
    }

    pub(crate) const fn partition(&self) -> u32 {
        self.partition
    }

    pub(crate) const fn next_offset(&self) -> u64 {
        self.next_offset
    }

    pub(crate) const fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn watermark(&self) -> Option<i64> {
        (self.watermark != NO_TIME).then_some(self.watermark)
    }

    pub(crate) fn watermark_at_record(&self) -> Option<i64> {
        (self.watermark_at_record != NO_TIME).then_some(self.watermark_at_record)
    }

    /// The reading begins at this offset.
    pub(crate) const fn start_at(&mut self, offset: u64) {
        self.next_offset = offset;
    }

    /// The time at which something that is open may close; with rows for windows without records also the end of the
    /// next window, as long as a group of this partition may be known.
    pub(crate) fn next_close(&self) -> Option<i64> {
        let open = match &self.open {
            Open::Panes(panes) => panes.next_close(),
            Open::Sessions(sessions) => sessions.next_close(&self.query),
        };
        let fill = self.query.plan.fill.filter(|_| self.watermark != NO_TIME && self.watermark < FINISHED);
        let filled = fill.and_then(|fill| {
            let next = self.next_boundary(self.watermark)?;
            let start = self.query.windows.start_of(next.saturating_sub(self.query.lateness_ms));
            let newest = self.watermark_at_record.saturating_add(self.query.plan.time.max_out_of_order_ms);
            (start <= newest.saturating_add(fill.forget_after_ms)).then_some(next)
        });
        let at = filled.map_or(open, |filled| filled.min(open));
        (at != i64::MAX).then_some(at)
    }

    /// The first time after `at` at which some window would close; sessions close at any.
    pub(crate) fn next_boundary(&self, at: i64) -> Option<i64> {
        let lateness = self.query.lateness_ms;
        (!self.query.plan.window.is_session() && at.unsigned_abs() < TIME_MAX_MS.unsigned_abs())
            .then(|| self.query.windows.first_end_after(at.saturating_sub(lateness)).saturating_add(lateness))
    }

    /// Takes records. Those before the next offset were taken before and are passed over.
    pub(crate) fn feed(&mut self, records: &[InputRecord<'_>], diverted: &mut Vec<Diverted>, out: &mut Partials) {
        let query = Arc::clone(&self.query);
        for record in records {
            if record.offset < self.next_offset {
                continue;
            }
            self.next_offset = record.offset.saturating_add(1);
            self.stats.read += 1;
            if let Err(reason) = self.take(&query, record, &mut out.windows) {
                *self.counter(reason) += 1;
                diverted.push(Diverted { partition: self.partition, offset: record.offset, reason });
            }
            self.watermark_at_record = self.watermark;
        }
        self.hand_on(&query, out);
    }

    fn counter(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Late => &mut self.stats.late,
            Reason::Future => &mut self.stats.future,
            Reason::Malformed => &mut self.stats.malformed,
            Reason::NoTime => &mut self.stats.no_time,
        }
    }

    /// Takes a record; an error says why it is in no window.
    fn take(&mut self, query: &Query, record: &InputRecord<'_>, closed: &mut Vec<WindowPartial>) -> Result<(), Reason> {
        if !query.fields.is_empty() {
            let value = record.value.ok_or(Reason::Malformed)?;
            query.fields.find(value, &mut self.found).map_err(|_| Reason::Malformed)?;
        }
        let mut scope = RecordScope { record, found: &self.found, partition: self.partition, time_ms: 0 };
        let time_ms = scope.time(&query.time).ok_or(Reason::NoTime)?;
        scope.time_ms = time_ms;
        if let (Some(max_future), Some(appended)) = (query.plan.time.max_future_ms, record.append_time_ms)
            && time_ms > appended.saturating_add(max_future)
        {
            return Err(Reason::Future);
        }
        let mut result = Ok(());
        if query.filter.as_ref().is_none_or(|filter| filter.holds(&scope)) {
            scope.group(&query.group, &mut self.group);
            let place = Place { time_ms, partition: self.partition, offset: record.offset };
            let taken = match &mut self.open {
                Open::Panes(panes) => panes.add(query, self.watermark, &self.group, place, &scope),
                Open::Sessions(sessions) => sessions.add(query, self.watermark, &self.group, place, &scope),
            };
            match taken {
                Taken::Accepted { late_pairs } => {
                    self.stats.accepted += 1;
                    self.stats.late_pairs += late_pairs;
                }
                Taken::Late { late_pairs } => {
                    self.stats.late_pairs += late_pairs;
                    result = Err(Reason::Late);
                }
            }
        } else {
            self.stats.filtered += 1;
        }
        self.move_time(query, time_ms - query.plan.time.max_out_of_order_ms, closed);
        result
    }

    fn move_time(&mut self, query: &Query, to: i64, closed: &mut Vec<WindowPartial>) {
        self.watermark = self.watermark.max(to);
        if let Open::Panes(panes) = &mut self.open
            && self.watermark >= panes.next_close()
        {
            panes.close(query, self.watermark, closed);
        }
    }

    /// Time that passed without records.
    pub(crate) fn advance(&mut self, to: i64, out: &mut Partials) {
        let query = Arc::clone(&self.query);
        self.move_time(&query, to, &mut out.windows);
        self.hand_on(&query, out);
    }

    fn hand_on(&mut self, query: &Query, out: &mut Partials) {
        if let Open::Sessions(sessions) = &mut self.open
            && self.watermark != NO_TIME
        {
            sessions.close(query, self.watermark, out);
        }
        out.watermark_ms = self.watermark();
    }

    /// The open windows as they are now; only what has changed since the last call if `changed`.
    pub(crate) fn open_windows(&mut self, changed: bool, out: &mut Partials) {
        match &mut self.open {
            Open::Panes(panes) => panes.open_windows(&self.query, changed, &mut out.windows),
            Open::Sessions(sessions) => {
                sessions.open_sessions(changed, &mut out.sessions);
            }
        }
        out.has_updates = true;
        out.watermark_ms = self.watermark();
    }

    /// How many panes or sessions are open.
    pub(crate) fn open_count(&self) -> usize {
        match &self.open {
            Open::Panes(panes) => panes.open_count(),
            Open::Sessions(sessions) => sessions.open_count(),
        }
    }

    pub(crate) fn group_count(&self) -> usize {
        match &self.open {
            Open::Panes(panes) => panes.group_count(),
            Open::Sessions(sessions) => sessions.group_count(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.open {
            Open::Panes(panes) => panes.memory_bytes(),
            Open::Sessions(sessions) => sessions.memory_bytes(),
        }
    }

    /// Gives `group` the bytes of groups (all, or what has changed since the last call).
    pub(crate) fn encode_groups(&mut self, all: bool, group: impl FnMut(&[u8])) {
        match &mut self.open {
            Open::Panes(panes) => panes.encode_groups(&self.query, all, group),
            Open::Sessions(sessions) => sessions.encode_groups(all, group),
        }
    }

    pub(crate) fn decode_group(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        match &mut self.open {
            Open::Panes(panes) => panes.decode_group(&self.query, reader),
            Open::Sessions(sessions) => sessions.decode_group(&self.query, reader),
        }
    }

    /// Everything but the groups. It comes after them: it says which panes are gone.
    pub(crate) fn encode_position(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        put_i64(self.watermark_at_record, out);
        put_u64(self.next_offset, out);
        let Stats { read, accepted, filtered, late, future, malformed, no_time, late_pairs, late_merges } = self.stats;
        for counter in [read, accepted, filtered, late, future, malformed, no_time, late_pairs, late_merges] {
            put_u64(counter, out);
        }
        if let Open::Panes(panes) = &self.open {
            panes.encode_position(out);
        }
    }

    pub(crate) fn decode_position(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.watermark = reader.i64()?;
        self.watermark_at_record = reader.i64()?;
        self.next_offset = reader.u64()?;
        self.stats = Stats {
            read: reader.u64()?,
            accepted: reader.u64()?,
            filtered: reader.u64()?,
            late: reader.u64()?,
            future: reader.u64()?,
            malformed: reader.u64()?,
            no_time: reader.u64()?,
            late_pairs: reader.u64()?,
            late_merges: reader.u64()?,
        };
        match &mut self.open {
            Open::Panes(panes) => panes.decode_position(&self.query, reader),
            Open::Sessions(_) => Ok(()),
        }
    }
}
