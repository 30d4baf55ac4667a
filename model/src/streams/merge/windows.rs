//! The merge of windows, with updates, corrections and rows for windows without records.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Clock, late_merge};
use crate::streams::{
    codec::{Damaged, Reader, put_bytes, put_i64, put_len, put_u64},
    engine::{Output, Row},
    partial::WindowPartial,
    plan::Emit,
    query::Query,
    rows::RowState,
    table::GroupTable,
};

/// Kinds of entries of the state: a partition's part of a window, what was given out early, a
/// window that is closed and kept, a group that is known.
pub(super) const PART: u8 = 16;
pub(super) const GIVEN: u8 = 17;
pub(super) const KEPT: u8 = 18;
pub(super) const KNOWN: u8 = 19;

/// The order in which windows come out.
type Key = (i64, i64);

/// A window that is not closed.
#[derive(Clone, Debug, Default)]
struct Gathering {
    parts: BTreeMap<u32, GroupTable>,
    /// How many rows of a group came out early.
    given: HashMap<Box<[u8]>, u32>,
    /// Groups that have changed since.
    changed: BTreeSet<Box<[u8]>>,
}

/// A window that is closed.
#[derive(Clone, Debug)]
struct Kept {
    table: GroupTable,
    /// How many rows of a group came out.
    given: Vec<u32>,
}

/// The groups for which rows without records come out.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The end of the last window in which a group had records.
    groups: BTreeMap<Box<[u8]>, i64>,
    /// The end of the next window to come out.
    next_end: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct WindowMerge {
    open: BTreeMap<Key, Gathering>,
    kept: BTreeMap<Key, Kept>,
    known: Option<Known>,
    pub(super) save: bool,
    /// What has changed since the last checkpoint: parts (of a partition, or what was given out),
    /// kept windows, known groups.
    unsaved_parts: BTreeSet<(Key, Option<u32>)>,
    unsaved_kept: BTreeSet<Key>,
    unsaved_known: BTreeSet<Box<[u8]>>,
}

impl WindowMerge {
    pub(super) fn new(fill: bool) -> Self {
        Self {
            open: BTreeMap::new(),
            kept: BTreeMap::new(),
            known: fill.then(Known::default),
            save: false,
            unsaved_parts: BTreeSet::new(),
            unsaved_kept: BTreeSet::new(),
            unsaved_known: BTreeSet::new(),
        }
    }

    pub(super) fn accept(
        &mut self,
        query: &Query,
        clock: Clock,
        partition: u32,
        window: WindowPartial,
        out: &mut Output,
    ) {
        let key = (window.end_ms, window.start_ms);
        if clock.is_closed(window.end_ms) {
            if window.is_closed {
                self.correct(query, partition, &window, out);
            }
            return;
        }
        let gathering = self.open.entry(key).or_default();
        if query.plan.emit.has_updates() {
            for slot in 0..window.table.len() {
                if window.table.is_updated(slot) || !window.is_closed {
                    gathering.changed.insert(window.table.key(slot).into());
                }
            }
        }
        let part = gathering.parts.entry(partition).or_default();
        if window.is_closed && part.len() == 0 {
            *part = window.table;
        } else {
            // Other groups of a window that comes in parts stay, and so does nothing else: what was given out early
            // is in what is closed.
            for slot in 0..window.table.len() {
                part.replace_slot(&window.table, slot, &query.aggregates);
            }
        }
        if self.save {
            self.unsaved_parts.insert((key, Some(partition)));
            self.unsaved_parts.insert((key, None));
        }
    }

    /// Takes what a partition had open at some time, unless it has handed on more of it.
    pub(super) fn add_open(&mut self, query: &Query, clock: Clock, partition: u32, window: &WindowPartial) {
        if clock.is_closed(window.end_ms) {
            return;
        }
        let gathering = self.open.entry((window.end_ms, window.start_ms)).or_default();
        let part = gathering.parts.entry(partition).or_default();
        for slot in 0..window.table.len() {
            // The records of a group only become more.
            let known = part.find(window.table.key(slot)).map_or(0, |known| part.records(known));
            if known <= window.table.records(slot) {
                part.replace_slot(&window.table, slot, &query.aggregates);
            }
        }
    }

    /// A part of a window that is closed: a correction while the window is kept.
    fn correct(&mut self, query: &Query, partition: u32, window: &WindowPartial, out: &mut Output) {
        let key = (window.end_ms, window.start_ms);
        let bounds = (window.start_ms, window.end_ms);
        let Some(kept) = self.kept.get_mut(&key) else {
            for slot in window.table.sorted() {
                let (group, records) = (window.table.key(slot), window.table.records(slot));
                out.late_merges.push(late_merge(query, partition, bounds, group, records));
            }
            return;
        };
        let mut changed = BTreeSet::new();
        for slot in 0..window.table.len() {
            kept.table.merge_slot(&window.table, slot, &query.aggregates);
            changed.extend(kept.table.find(window.table.key(slot)));
        }
        kept.given.resize(kept.table.len(), 0);
        // Of a Top-N all rows come out again: others may have moved.
        let all = query.plan.top.is_some();
        let given = &mut kept.given;
        let state = |slot: usize| {
            (all || changed.contains(&slot)).then(|| {
                let rev = given[slot];
                given[slot] += 1;
                RowState { rev, is_final: true }
            })
        };
        let before = out.rows.len();
        query.rows(bounds, &kept.table, state, &mut out.rows);
        out.corrections += out.rows[before..].iter().map(|row| u64::from(row.rev > 0)).sum::<u64>();
        if self.save {
            self.unsaved_kept.insert(key);
        }
    }

    /// Closes the windows that are over, and those without records before them.
    pub(super) fn close(&mut self, query: &Query, clock: Clock, is_end: bool, out: &mut Output) {
        loop {
            let real = self.open.keys().next().copied().filter(|(end, _)| clock.is_closed(*end));
            let filled = self.known.as_ref().filter(|known| !known.groups.is_empty());
            // At the end of a bounded run time goes to infinity; rows do not.
            let filled = filled.and_then(|known| known.next_end).filter(|end| clock.is_closed(*end) && !is_end);
            let last = self.open.keys().next_back().map(|(end, _)| *end).filter(|_| is_end);
            let filled = filled.or_else(|| {
                let known = self.known.as_ref().filter(|known| !known.groups.is_empty())?;
                known.next_end.filter(|end| last.is_some_and(|last| *end <= last))
            });
            let key = match (real, filled) {
                (Some((end, _)), Some(filled)) if filled < end => (filled, query.windows.start_of(filled)),
                (None, Some(filled)) => (filled, query.windows.start_of(filled)),
                (Some(real), _) => real,
                (None, None) => break,
            };
            let gathering = self.open.remove(&key).unwrap_or_default();
            self.close_window(query, key, gathering, out);
        }
        self.forget(clock);
    }

    fn close_window(&mut self, query: &Query, key: Key, gathering: Gathering, out: &mut Output) {
        let (end, start) = key;
        let Gathering { parts, given, changed } = gathering;
        let mut parts = parts.into_values();
        let mut table = parts.next().unwrap_or_default();
        for part in parts {
            table.merge(&part, &query.aggregates);
        }
        self.fill(query, end, &mut table);
        let only_changes = matches!(query.plan.emit, Emit::Updates { .. });
        let all = !only_changes || query.plan.top.is_some() && !changed.is_empty();
        let keep = query.plan.retain_ms > 0;
        let mut counts = vec![0; if keep { table.len() } else { 0 }];
        let state = |slot: usize| {
            let group = table.key(slot);
            let rev = if given.is_empty() { 0 } else { given.get(group).copied().unwrap_or(0) };
            if keep {
                counts[slot] = rev;
            }
            (all || changed.contains(group) || table.records(slot) == 0).then(|| {
                if keep {
                    counts[slot] = rev + 1;
                }
                RowState { rev, is_final: true }
            })
        };
        query.rows((start, end), &table, state, &mut out.rows);
        if keep {
            self.kept.insert(key, Kept { table, given: counts });
            if self.save {
                self.unsaved_kept.insert(key);
            }
        }
    }

    /// Adds the known groups to a window that closes, and makes its groups known.
    fn fill(&mut self, query: &Query, end: i64, table: &mut GroupTable) {
        let (Some(known), Some(fill)) = (&mut self.known, query.plan.fill) else { return };
        for slot in 0..table.len() {
            let group: Box<[u8]> = table.key(slot).into();
            if self.save {
                self.unsaved_known.insert(group.clone());
            }
            known.groups.insert(group, end);
        }
        for group in known.groups.keys() {
            table.slot(group, &query.aggregates);
        }
        let next_end = query.windows.next_end(end);
        known.next_end = Some(next_end);
        let (save, unsaved) = (self.save, &mut self.unsaved_known);
        known.groups.retain(|group, last_end| {
            let stays = next_end.saturating_sub(*last_end) <= fill.forget_after_ms;
            if !stays && save {
                unsaved.insert(group.clone());
            }
            stays
        });
    }

    pub(super) fn emit_updates(&mut self, query: &Query, out: &mut Output) {
        for ((end, start), gathering) in &mut self.open {
            if gathering.changed.is_empty() {
                continue;
            }
            let Gathering { parts, given, changed } = gathering;
            let all = query.plan.top.is_some();
            let mut table = GroupTable::default();
            for part in parts.values() {
                for slot in 0..part.len() {
                    if all || changed.contains(part.key(slot)) {
                        table.merge_slot(part, slot, &query.aggregates);
                    }
                }
            }
            let state = |slot: usize| {
                let count = given.entry(table.key(slot).into()).or_default();
                *count += 1;
                Some(RowState { rev: *count - 1, is_final: false })
            };
            query.rows((*start, *end), &table, state, &mut out.rows);
            changed.clear();
            if self.save {
                self.unsaved_parts.insert(((*end, *start), None));
            }
        }
    }

    /// What is open.
    pub(super) fn view(&self) -> Self {
        Self { open: self.open.clone(), ..Self::new(false) }
    }

    pub(super) fn read_kept(&self, query: &Query, out: &mut Vec<Row>) {
        for ((end, start), kept) in &self.kept {
            let last = |slot: usize| Some(RowState { rev: kept.given[slot].saturating_sub(1), is_final: true });
            query.rows((*start, *end), &kept.table, last, out);
        }
    }

    pub(super) fn read_open(&self, query: &Query, out: &mut Vec<Row>) {
        for ((end, start), gathering) in &self.open {
            let mut table = GroupTable::default();
            for part in gathering.parts.values() {
                table.merge(part, &query.aggregates);
            }
            let next = |slot: usize| {
                let rev = gathering.given.get(table.key(slot)).copied().unwrap_or(0);
                Some(RowState { rev, is_final: false })
            };
            query.rows((*start, *end), &table, next, out);
        }
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, clock: Clock) {
        while self.open.first_key_value().is_some_and(|((end, _), _)| clock.is_closed(*end)) {
            self.open.pop_first();
        }
        while self.kept.first_key_value().is_some_and(|((end, _), _)| clock.is_over(*end)) {
            self.kept.pop_first();
        }
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let open = self.open.values().map(|gathering| {
            let parts: usize = gathering.parts.values().map(GroupTable::memory_bytes).sum();
            parts + (gathering.given.len() + gathering.changed.len()) * 64
        });
        let kept = self.kept.values().map(|kept| kept.table.memory_bytes() + kept.given.capacity() * 4);
        let known = self.known.as_ref().map_or(0, |known| known.groups.len() * 64);
        open.sum::<usize>() + kept.sum::<usize>() + known
    }

    pub(super) fn next_fill_end(&self) -> i64 {
        self.known.as_ref().and_then(|known| known.next_end).unwrap_or(i64::MIN)
    }

    pub(super) fn set_next_fill_end(&mut self, end: i64) {
        if let Some(known) = &mut self.known {
            known.next_end = (end != i64::MIN).then_some(end);
        }
    }

    pub(super) fn encode(&mut self, query: &Query, all: bool, entry: &mut impl FnMut(u8, &[u8])) {
        let mut parts = std::mem::take(&mut self.unsaved_parts);
        let mut kept = std::mem::take(&mut self.unsaved_kept);
        let mut known = std::mem::take(&mut self.unsaved_known);
        if all {
            kept = self.kept.keys().copied().collect();
            known = self.known.iter().flat_map(|known| known.groups.keys().cloned()).collect();
            parts = BTreeSet::new();
            for (key, gathering) in &self.open {
                parts.insert((*key, None));
                parts.extend(gathering.parts.keys().map(|partition| (*key, Some(*partition))));
            }
        }
        let mut bytes = Vec::new();
        for (key, part) in parts {
            let Some(gathering) = self.open.get(&key) else { continue };
            start_entry(key, &mut bytes);
            if let Some(partition) = part {
                let Some(table) = gathering.parts.get(&partition) else { continue };
                put_u64(u64::from(partition), &mut bytes);
                table.encode(&query.aggregates, |_| true, &mut bytes);
                entry(PART, &bytes);
            } else if query.plan.emit.has_updates() {
                gathering.encode_given(&mut bytes);
                entry(GIVEN, &bytes);
            }
        }
        for key in kept {
            let Some(kept) = self.kept.get(&key) else { continue };
            start_entry(key, &mut bytes);
            kept.table.encode(&query.aggregates, |_| true, &mut bytes);
            for slot in kept.table.sorted() {
                put_u64(u64::from(kept.given[slot]), &mut bytes);
            }
            entry(KEPT, &bytes);
        }
        let Some(all_known) = &self.known else { return };
        for group in known {
            let last_end = all_known.groups.get(&group);
            bytes.clear();
            put_bytes(&group, &mut bytes);
            bytes.push(u8::from(last_end.is_some()));
            put_i64(last_end.copied().unwrap_or_default(), &mut bytes);
            entry(KNOWN, &bytes);
        }
    }

    pub(super) fn decode(&mut self, query: &Query, kind: u8, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        if kind == KNOWN {
            let known = self.known.as_mut().ok_or(Damaged)?;
            let (group, is_known, last_end) = (reader.bytes()?, reader.u8()? != 0, reader.i64()?);
            if is_known {
                known.groups.insert(group.into(), last_end);
            } else {
                known.groups.remove(group);
            }
            return Ok(());
        }
        let key = (reader.i64()?, reader.i64()?);
        match kind {
            PART => {
                let partition = reader.u32()?;
                let table = GroupTable::decode(&query.aggregates, reader)?;
                self.open.entry(key).or_default().parts.insert(partition, table);
            }
            GIVEN => self.open.entry(key).or_default().decode_given(reader)?,
            _ => {
                let table = GroupTable::decode(&query.aggregates, reader)?;
                let given: Result<Vec<u32>, Damaged> = (0..table.len()).map(|_| reader.u32()).collect();
                self.kept.insert(key, Kept { table, given: given? });
            }
        }
        Ok(())
    }
}

fn start_entry(key: Key, bytes: &mut Vec<u8>) {
    bytes.clear();
    put_i64(key.0, bytes);
    put_i64(key.1, bytes);
}

impl Gathering {
    fn encode_given(&self, out: &mut Vec<u8>) {
        let mut given: Vec<_> = self.given.iter().collect();
        given.sort_unstable();
        put_len(given.len(), out);
        for (group, count) in given {
            put_bytes(group, out);
            put_u64(u64::from(*count), out);
        }
        put_len(self.changed.len(), out);
        for group in &self.changed {
            put_bytes(group, out);
        }
    }

    fn decode_given(&mut self, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        self.given.clear();
        self.changed.clear();
        for _ in 0..reader.len(2)? {
            self.given.insert(reader.bytes()?.into(), reader.u32()?);
        }
        for _ in 0..reader.len(1)? {
            self.changed.insert(reader.bytes()?.into());
        }
        Ok(())
    }
}
