//! The open windows of a partition, as panes.
//!
//! A window that closes is the sum of its panes at that moment: a record that comes later and is
//! late for it, but not for the next window, still goes into the pane they share. So windows are
//! closed at the very record that brings the time past their end.

use std::collections::BTreeSet;

use super::{
    aggregate::{Aggregates, Place},
    codec::{Damaged, Reader, put_i64},
    expr::Scope,
    partial::WindowPartial,
    query::Query,
    table::GroupTable,
    window::PaneBounds,
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was taken; so many of its windows are closed already.
    Accepted { late_pairs: u64 },
    /// All its windows, so many, are closed.
    Late { late_pairs: u64 },
}

#[derive(Clone, Debug)]
struct Pane {
    bounds: PaneBounds,
    table: GroupTable,
}

#[derive(Clone, Debug)]
pub(crate) struct Panes {
    /// In order of time.
    panes: Vec<Pane>,
    /// Where the last record went.
    last: usize,
    /// The end of the first window that is not closed, of those with records.
    open_end: i64,
    /// The time at which the next window closes.
    next_close: i64,
    /// Whether what changes is remembered.
    save: bool,
}

impl Panes {
    pub(crate) const fn new() -> Self {
        Self { panes: Vec::new(), last: 0, open_end: i64::MIN, next_close: i64::MAX, save: false }
    }

    pub(crate) const fn next_close(&self) -> i64 {
        self.next_close
    }

    pub(crate) const fn track(&mut self) {
        self.save = true;
    }

    /// Takes a record; `watermark` is the partition's time before it.
    pub(crate) fn add(
        &mut self,
        query: &Query,
        watermark: i64,
        group: &[u8],
        place: Place,
        scope: &impl Scope,
    ) -> Taken {
        let closed = watermark.saturating_sub(query.lateness_ms);
        let at = place.time_ms;
        let hit = self.panes.get(self.last).is_some_and(|pane| pane.bounds.start <= at && at < pane.bounds.end);
        if !hit {
            let after = self.panes.partition_point(|pane| pane.bounds.end <= at);
            if self.panes.get(after).is_none_or(|pane| at < pane.bounds.start) {
                let bounds = query.windows.pane(at);
                if bounds.last_end <= closed {
                    return Taken::Late { late_pairs: query.windows.count(bounds.first_end, bounds.last_end) };
                }
                self.open(query, closed, after, bounds);
            }
            self.last = after;
        }
        let save = self.save;
        let pane = &mut self.panes[self.last];
        let bounds = pane.bounds;
        if bounds.last_end <= closed {
            return Taken::Late { late_pairs: query.windows.count(bounds.first_end, bounds.last_end) };
        }
        pane.table.add(group, &query.aggregates, place, scope, save);
        let late_pairs = if bounds.first_end <= closed { query.windows.count(bounds.first_end, closed) } else { 0 };
        Taken::Accepted { late_pairs }
    }

    /// A pane begins. Windows that ended by now count as closed, although nothing was in them.
    fn open(&mut self, query: &Query, closed: i64, at: usize, bounds: PaneBounds) {
        if closed > i64::MIN / 2 {
            self.open_end = self.open_end.max(query.windows.first_end_after(closed));
        }
        self.panes.insert(at, Pane { bounds, table: GroupTable::default() });
        let end = bounds.first_end.max(self.open_end);
        self.next_close = self.next_close.min(end.saturating_add(query.lateness_ms));
    }

    /// Closes the windows that end by now.
    pub(crate) fn close(&mut self, query: &Query, watermark: i64, out: &mut Vec<WindowPartial>) {
        let closed = watermark.saturating_sub(query.lateness_ms);
        while let Some(first) = self.panes.first() {
            let end = first.bounds.first_end.max(self.open_end);
            if end > closed {
                self.next_close = end.saturating_add(query.lateness_ms);
                return;
            }
            self.open_end = query.windows.next_end(end);
            out.push(self.take_window(query, end));
        }
        self.next_close = i64::MAX;
    }

    /// The window that ends then; panes that no later window needs go with it.
    fn take_window(&mut self, query: &Query, end: i64) -> WindowPartial {
        let start = query.windows.start_of(end);
        let done = self.panes.partition_point(|pane| pane.bounds.last_end <= end);
        let within = self.panes.partition_point(|pane| pane.bounds.end <= end);
        let mut table = GroupTable::default();
        for (index, pane) in self.panes.iter_mut().take(within).enumerate() {
            if index == 0 && done > 0 {
                table = std::mem::take(&mut pane.table);
            } else {
                table.merge(&pane.table, &query.aggregates);
            }
        }
        self.panes.drain(..done);
        self.last = 0;
        table.take_unsaved();
        WindowPartial { start_ms: start, end_ms: end, table, is_closed: true }
    }

    /// The open windows as they are now; only the groups that have changed since the last call if
    /// `changed`, which then count as given out.
    pub(crate) fn open_windows(&mut self, query: &Query, changed: bool, out: &mut Vec<WindowPartial>) {
        let mut after = i64::MIN;
        for first in 0..self.panes.len() {
            let bounds = self.panes[first].bounds;
            let mut end = bounds.first_end.max(self.open_end).max(after);
            while end <= bounds.last_end {
                let start = query.windows.start_of(end);
                let panes = self.panes[first..].iter().take_while(|pane| pane.bounds.end <= end);
                let table = sum(panes.map(|pane| &pane.table), changed, &query.aggregates);
                if table.len() > 0 {
                    out.push(WindowPartial { start_ms: start, end_ms: end, table, is_closed: false });
                }
                end = query.windows.next_end(end);
            }
            after = after.max(end);
        }
        if changed {
            for pane in &mut self.panes {
                pane.table.clear_updated(self.save);
            }
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.panes.len()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.panes.iter().map(|pane| pane.table.len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.panes.iter().map(|pane| size_of::<Pane>() + pane.table.memory_bytes()).sum()
    }

    /// What a restored state has to know besides the groups.
    pub(crate) fn encode_position(&self, out: &mut Vec<u8>) {
        put_i64(self.open_end, out);
        put_i64(self.panes.first().map_or(i64::MAX, |pane| pane.bounds.start), out);
    }

    /// The panes that had been dropped by then go.
    pub(crate) fn decode_position(&mut self, query: &Query, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.open_end = reader.i64()?;
        let first_pane = reader.i64()?;
        self.panes.retain(|pane| pane.bounds.start >= first_pane);
        self.last = 0;
        self.settle(query);
        Ok(())
    }

    fn settle(&mut self, query: &Query) {
        let end = self.panes.first().map(|pane| pane.bounds.first_end.max(self.open_end));
        self.next_close = end.map_or(i64::MAX, |end| end.saturating_add(query.lateness_ms));
    }

    /// Gives `entry` the bytes of each group: of all, or of those that have changed.
    pub(crate) fn encode_groups(&mut self, query: &Query, all: bool, mut entry: impl FnMut(&[u8])) {
        let mut bytes = Vec::new();
        for Pane { bounds, table } in &mut self.panes {
            let unsaved = table.take_unsaved();
            let slots = if all { table.sorted() } else { unsaved };
            for slot in slots {
                bytes.clear();
                put_i64(bounds.start, &mut bytes);
                table.encode_slot(slot, &query.aggregates, &mut bytes);
                entry(&bytes);
            }
        }
    }

    pub(crate) fn decode_group(&mut self, query: &Query, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let start = reader.i64()?;
        if start.unsigned_abs() > super::time::TIME_MAX_MS.unsigned_abs() * 2 {
            return Err(Damaged);
        }
        let at = self.panes.partition_point(|pane| pane.bounds.start < start);
        if self.panes.get(at).is_none_or(|pane| pane.bounds.start != start) {
            let bounds = query.windows.pane(start);
            if bounds.start != start {
                return Err(Damaged);
            }
            self.panes.insert(at, Pane { bounds, table: GroupTable::default() });
            self.settle(query);
        }
        self.panes[at].table.decode_slot(&query.aggregates, reader)
    }
}

/// The sum of tables, in their order; only of groups that have changed in one of them if `changed`.
fn sum<'a>(tables: impl Iterator<Item = &'a GroupTable> + Clone, changed: bool, aggregates: &Aggregates) -> GroupTable {
    let mut all = GroupTable::default();
    if !changed {
        for table in tables {
            all.merge(table, aggregates);
        }
        return all;
    }
    let updated = tables
        .clone()
        .flat_map(|table| (0..table.len()).filter(|slot| table.is_updated(*slot)).map(|slot| table.key(slot)));
    let updated: BTreeSet<&[u8]> = updated.collect();
    for table in tables {
        for group in &updated {
            if let Some(slot) = table.find(group) {
                all.merge_slot(table, slot, aggregates);
            }
        }
    }
    all
}
