//! The second stage: where the partitions' results meet, and rows are made.
//!
//! The query's time is the earliest of its partitions' times. A window is closed once that has
//! passed its end and the lateness: by then every partition has handed on what it had for it.
//! Windows come out in the order of end, start and group, which does not depend on how the time
//! moved.

mod sessions;
mod windows;

use std::{collections::BTreeMap, sync::Arc};

use self::{sessions::SessionMerge, windows::WindowMerge};
use super::{
    codec::{Damaged, Reader, put_i64, put_len, put_u64},
    engine::{LateMerge, Output, Row},
    partial::Partials,
    partition::FINISHED,
    query::Query,
};

/// A partition, as the merge knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Input {
    watermark: Option<i64>,
    /// It is not waited for.
    has_left: bool,
}

/// The time of a query, and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The query's time; the smallest number before there is one.
    watermark: i64,
    lateness: i64,
    retain: i64,
}

impl Clock {
    /// Whether a window that ends then is closed.
    const fn is_closed(self, end: i64) -> bool {
        end.saturating_add(self.lateness) <= self.watermark
    }

    /// Whether a closed window is not kept any more.
    const fn is_over(self, end: i64) -> bool {
        end.saturating_add(self.lateness).saturating_add(self.retain) <= self.watermark
    }
}

/// The merged windows of a query.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    query: Arc<Query>,
    inputs: BTreeMap<u32, Input>,
    watermark: i64,
    windows: WindowMerge,
    sessions: SessionMerge,
    late_merges: u64,
}

impl Merge {
    pub(crate) fn new(query: Arc<Query>, partitions: impl IntoIterator<Item = u32>) -> Self {
        let inputs = partitions.into_iter().map(|partition| (partition, Input::default())).collect();
        let windows = WindowMerge::new(query.plan.fill.is_some());
        Self { query, inputs, watermark: i64::MIN, windows, sessions: SessionMerge::default(), late_merges: 0 }
    }

    pub(crate) const fn track(&mut self) {
        self.windows.save = true;
        self.sessions.save = true;
    }

    pub(crate) fn watermark(&self) -> Option<i64> {
        (self.watermark != i64::MIN).then_some(self.watermark)
    }

    pub(crate) const fn late_merges(&self) -> u64 {
        self.late_merges
    }

    fn clock(&self) -> Clock {
        Clock { watermark: self.watermark, lateness: self.query.lateness_ms, retain: self.query.plan.retain_ms }
    }

    /// Takes what a partition hands on, in the order in which it was made.
    pub(crate) fn accept(&mut self, partition: u32, partials: Partials, out: &mut Output) {
        let query = Arc::clone(&self.query);
        let clock = self.clock();
        let late_before = out.late_merges.len();
        for window in partials.windows {
            self.windows.accept(&query, clock, partition, window, out);
        }
        if partials.has_updates {
            self.sessions.accept_open(partition, partials.sessions);
        } else {
            for session in partials.sessions {
                self.sessions.accept(&query, clock, partition, session, out);
            }
        }
        self.sessions.note(partition, partials.opened);
        self.late_merges += (out.late_merges.len() - late_before) as u64;
        let input = self.inputs.entry(partition).or_default();
        input.watermark = input.watermark.max(partials.watermark_ms);
        input.has_left = false;
    }

    /// A partition is not waited for until it hands on something.
    pub(crate) fn leave(&mut self, partition: u32) {
        self.inputs.entry(partition).or_default().has_left = true;
        self.sessions.leave(partition);
    }

    pub(crate) fn has_left(&self, partition: u32) -> bool {
        self.inputs.get(&partition).is_some_and(|input| input.has_left)
    }

    /// Moves the query's time to where the partitions have it, and closes what is over.
    pub(crate) fn settle(&mut self, out: &mut Output) {
        let present = self.inputs.values().filter(|input| !input.has_left);
        // A partition without a time holds back all.
        let Some(Some(earliest)) = present.map(|input| input.watermark).min() else { return };
        if earliest <= self.watermark {
            return;
        }
        self.watermark = earliest;
        let query = Arc::clone(&self.query);
        let clock = self.clock();
        let is_end = earliest >= FINISHED;
        self.windows.close(&query, clock, is_end, out);
        self.sessions.close(&query, clock, out);
    }

    /// The rows of what has changed since the last call.
    pub(crate) fn emit_updates(&mut self, out: &mut Output) {
        self.windows.emit_updates(&self.query, out);
        self.sessions.emit_updates(&self.query, out);
    }

    /// The rows of windows that are closed and kept.
    pub(crate) fn read_kept(&self, out: &mut Vec<Row>) {
        self.windows.read_kept(&self.query, out);
        self.sessions.read_kept(&self.query, out);
    }

    /// What is open here, to which the partitions' open windows can be added.
    pub(crate) fn view(&self) -> Self {
        let (windows, sessions) = (self.windows.view(), self.sessions.view());
        Self { query: Arc::clone(&self.query), inputs: BTreeMap::new(), windows, sessions, ..*self }
    }

    /// Adds what a partition has open to a view of this. It may have been asked before it handed on what is here: what
    /// it had open then may be closed by now, and be here already.
    pub(crate) fn add_open(&self, partition: u32, partials: Partials, view: &mut Self) {
        let clock = self.clock();
        for window in &partials.windows {
            view.windows.add_open(&self.query, clock, partition, window);
        }
        let mut sessions = partials.sessions;
        sessions.retain(|session| !self.sessions.has_closed(partition, session));
        view.sessions.accept_open(partition, sessions);
    }

    /// The rows of windows that are open, as they are now.
    pub(crate) fn read_open(&self, out: &mut Vec<Row>) {
        self.windows.read_open(&self.query, out);
        self.sessions.read_open(&self.query, out);
    }

    /// How many windows or sessions wait for other partitions.
    pub(crate) fn open_count(&self) -> usize {
        self.windows.open_count() + self.sessions.open_count()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.windows.memory_bytes() + self.sessions.memory_bytes()
    }

    /// Gives `entry` the kind and the bytes of each part of the state: of all, or of what has
    /// changed since the last call.
    pub(crate) fn encode_entries(&mut self, all: bool, mut entry: impl FnMut(u8, &[u8])) {
        self.windows.encode(&self.query, all, &mut entry);
        self.sessions.encode(all, &mut entry);
    }

    /// Reads a part of the state.
    pub(crate) fn decode_entry(&mut self, kind: u8, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        match kind {
            windows::PART | windows::GIVEN | windows::KEPT | windows::KNOWN => {
                self.windows.decode(&self.query, kind, reader)
            }
            sessions::GROUP | sessions::KEPT => self.sessions.decode(&self.query, kind, reader),
            _ => Err(Damaged),
        }
    }

    /// What comes after all other entries: it says what is over.
    pub(crate) fn encode_position(&self, out: &mut Vec<u8>) {
        put_i64(self.watermark, out);
        put_u64(self.late_merges, out);
        put_i64(self.windows.next_fill_end(), out);
        put_len(self.inputs.len(), out);
        for (partition, input) in &self.inputs {
            put_u64(u64::from(*partition), out);
            out.push(u8::from(input.has_left) | u8::from(input.watermark.is_some()) << 1);
            put_i64(input.watermark.unwrap_or_default(), out);
        }
    }

    pub(crate) fn decode_position(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.watermark = reader.i64()?;
        self.late_merges = reader.u64()?;
        self.windows.set_next_fill_end(reader.i64()?);
        for _ in 0..reader.len(3)? {
            let (partition, marks, watermark) = (reader.u32()?, reader.u8()?, reader.i64()?);
            let input = Input { watermark: (marks & 2 != 0).then_some(watermark), has_left: marks & 1 != 0 };
            self.inputs.insert(partition, input);
        }
        let clock = self.clock();
        self.windows.forget(clock);
        self.sessions.forget(&self.query, clock);
        Ok(())
    }
}

/// A partial result that no window takes any more.
fn late_merge(query: &Query, partition: u32, bounds: (i64, i64), group: &[u8], records: u64) -> LateMerge {
    LateMerge {
        partition,
        window_start_ms: bounds.0,
        window_end_ms: bounds.1,
        group: query.group_values(group),
        records,
    }
}
