//! The merge of sessions.
//!
//! The sessions of a group that the partitions hand on are intervals; those at most the gap apart
//! are one session. It is closed once its end is over in all partitions, and none of them has a
//! session open that reaches it: partitions tell of a session that stays open when their time
//! passes its beginning.

use std::collections::{BTreeMap, BTreeSet};

use super::{Clock, late_merge};
use crate::streams::{
    codec::{Damaged, Reader, put_bytes, put_i64, put_len, put_u64},
    engine::{Output, Row},
    partial::{Session, SessionPartial},
    plan::Emit,
    query::Query,
    rows::RowState,
};

/// Kinds of entries of the state: a group, a session that is closed and kept.
pub(super) const GROUP: u8 = 32;
pub(super) const KEPT: u8 = 33;

/// What a fragment takes beside its session and its group, about.
const FRAGMENT_BYTES: usize = 96;

#[derive(Clone, Debug)]
struct Fragment {
    partition: u32,
    session: Session,
    is_closed: bool,
}

/// A row that came out early.
#[derive(Clone, Copy, Debug)]
struct Given {
    first_ms: i64,
    last_ms: i64,
    records: u64,
    rev: u32,
}

#[derive(Clone, Debug, Default)]
struct Group {
    fragments: Vec<Fragment>,
    /// Sessions that are open: their partition and their first time.
    notes: Vec<(u32, i64)>,
    given: Vec<Given>,
    is_changed: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    session: Session,
    rev: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SessionMerge {
    groups: BTreeMap<Box<[u8]>, Group>,
    /// When a group may have a session to close.
    queue: BTreeSet<(i64, Box<[u8]>)>,
    /// By last time, first time and group: the order in which they came out.
    kept: BTreeMap<(i64, i64, Box<[u8]>), Kept>,
    bytes: usize,
    pub(super) save: bool,
    unsaved: BTreeSet<Box<[u8]>>,
    unsaved_kept: BTreeSet<(i64, i64, Box<[u8]>)>,
}

/// Fragments at most the gap apart.
struct Interval {
    last_ms: i64,
    fragments: Vec<Fragment>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.fragments.is_empty() && self.notes.is_empty()
    }

    /// The sessions that the fragments make.
    fn intervals(fragments: Vec<Fragment>, gap: i64) -> Vec<Interval> {
        let mut fragments = fragments;
        fragments.sort_by_key(|fragment| (fragment.session.first_ms, fragment.partition));
        let mut intervals: Vec<Interval> = Vec::new();
        for fragment in fragments {
            let Session { first_ms, last_ms, .. } = fragment.session;
            match intervals.last_mut() {
                Some(last) if first_ms <= last.last_ms.saturating_add(gap) => {
                    last.last_ms = last.last_ms.max(last_ms);
                    last.fragments.push(fragment);
                }
                _ => intervals.push(Interval { last_ms, fragments: vec![fragment] }),
            }
        }
        intervals
    }

    /// How often a session, or what it was before, came out; and whether just like that.
    fn given(&self, session: &Session) -> (u32, bool) {
        let within = |given: &&Given| session.first_ms <= given.first_ms && given.last_ms <= session.last_ms;
        let given = self.given.iter().filter(within);
        let same = |given: &Given| {
            (given.first_ms, given.last_ms, given.records) == (session.first_ms, session.last_ms, session.records)
        };
        (given.clone().map(|given| given.rev + 1).max().unwrap_or(0), given.clone().any(same))
    }

    fn forget_given(&mut self, session: &Session) {
        self.given.retain(|given| given.first_ms < session.first_ms || session.last_ms < given.last_ms);
    }
}

impl Interval {
    /// The session: the fragments' sum, in the order of their partitions.
    fn sum(mut self, query: &Query) -> Option<Session> {
        self.fragments.sort_by_key(|fragment| (fragment.partition, fragment.session.first_ms));
        let mut fragments = self.fragments.into_iter();
        let mut session = fragments.next()?.session;
        for fragment in fragments {
            session.merge(&fragment.session, &query.aggregates);
        }
        Some(session)
    }
}

impl SessionMerge {
    fn changed(&mut self, group: &[u8]) {
        if self.save {
            self.unsaved.insert(group.into());
        }
    }

    fn push(&mut self, group: &[u8], fragment: Fragment) {
        self.bytes += fragment.session.memory_bytes() + group.len() + FRAGMENT_BYTES;
        if fragment.is_closed {
            self.queue.insert((fragment.session.last_ms, group.into()));
        }
        self.groups.entry(group.into()).or_default().fragments.push(fragment);
        self.changed(group);
    }

    fn drop_fragments(&mut self, group: &[u8], drop: impl Fn(&Fragment) -> bool) {
        let Some(known) = self.groups.get_mut(group) else { return };
        let bytes = &mut self.bytes;
        known.fragments.retain(|fragment| {
            let dropped = drop(fragment);
            if dropped {
                *bytes -= fragment.session.memory_bytes() + group.len() + FRAGMENT_BYTES;
            }
            !dropped
        });
    }

    /// Takes a session that is closed in its partition.
    pub(super) fn accept(
        &mut self,
        query: &Query,
        clock: Clock,
        partition: u32,
        partial: SessionPartial,
        out: &mut Output,
    ) {
        let SessionPartial { group, session, .. } = partial;
        let (first, last) = (session.first_ms, session.last_ms);
        let gap = query.gap_ms();
        if let Some(known) = self.groups.get_mut(&group) {
            known.notes.retain(|(from, at)| *from != partition || *at < first || last < *at);
        }
        self.drop_fragments(&group, |fragment| {
            let within = first <= fragment.session.first_ms && fragment.session.last_ms <= last;
            fragment.partition == partition && !fragment.is_closed && within
        });
        let reaches =
            |other: &Session| first <= other.last_ms.saturating_add(gap) && other.first_ms <= last.saturating_add(gap);
        let is_over = clock.is_closed(last.saturating_add(gap).saturating_add(1));
        let joins = self
            .groups
            .get(&group)
            .is_some_and(|known| known.fragments.iter().any(|fragment| reaches(&fragment.session)));
        if is_over && !joins {
            self.correct(query, partition, &group, &session, out);
            self.clean(&group);
            return;
        }
        self.push(&group, Fragment { partition, session, is_closed: true });
        if let Some(known) = self.groups.get_mut(&group) {
            known.is_changed = query.plan.emit.has_updates();
        }
    }

    /// A session that comes after the close of what it belongs to: a correction if it lies within a
    /// session that is kept. A session that was given out cannot become longer.
    fn correct(&mut self, query: &Query, partition: u32, group: &[u8], session: &Session, out: &mut Output) {
        let within = self.kept.iter_mut().find(|((last, first, of), _)| {
            of.as_ref() == group && *first <= session.first_ms && session.last_ms <= *last
        });
        let Some((key, kept)) = within else {
            let bounds = (session.first_ms, session.last_ms);
            out.late_merges.push(late_merge(query, partition, bounds, group, session.records));
            return;
        };
        kept.session.merge(session, &query.aggregates);
        kept.rev += 1;
        let state = RowState { rev: kept.rev, is_final: true };
        let row = session_row(query, group, &kept.session, state);
        out.corrections += u64::from(row.is_some());
        out.rows.extend(row);
        if self.save {
            self.unsaved_kept.insert(key.clone());
        }
    }

    /// Takes the open sessions of groups, in the place of those that the partition had for them.
    pub(super) fn accept_open(&mut self, partition: u32, partials: Vec<SessionPartial>) {
        let groups: BTreeSet<Box<[u8]>> = partials.iter().map(|partial| partial.group.clone()).collect();
        for group in groups {
            self.drop_fragments(&group, |fragment| fragment.partition == partition && !fragment.is_closed);
        }
        for SessionPartial { group, session, .. } in partials {
            self.push(&group, Fragment { partition, session, is_closed: false });
            if let Some(known) = self.groups.get_mut(&group) {
                known.is_changed = true;
            }
        }
    }

    /// Whether a session that a partition had open at some time is part of one that is closed by now, there or here.
    pub(super) fn has_closed(&self, partition: u32, open: &SessionPartial) -> bool {
        let Session { first_ms, last_ms, .. } = open.session;
        let is_closed = |fragment: &Fragment| {
            let Session { first_ms: first, last_ms: last, .. } = fragment.session;
            fragment.partition == partition && fragment.is_closed && first <= last_ms && first_ms <= last
        };
        let known = self.groups.get(&open.group);
        let mut kept = self.kept.range((last_ms, i64::MIN, Box::default())..);
        known.is_some_and(|known| known.fragments.iter().any(is_closed))
            || kept.any(|((_, first, group), _)| *group == open.group && *first <= first_ms)
    }

    /// Sessions that stay open in a partition.
    pub(super) fn note(&mut self, partition: u32, opened: Vec<(Box<[u8]>, i64)>) {
        for (group, first) in opened {
            self.changed(&group);
            self.groups.entry(group).or_default().notes.push((partition, first));
        }
    }

    /// A partition is not waited for: neither are its open sessions.
    pub(super) fn leave(&mut self, partition: u32) {
        let groups: Vec<Box<[u8]>> = self.groups.keys().cloned().collect();
        for group in groups {
            self.drop_fragments(&group, |fragment| fragment.partition == partition && !fragment.is_closed);
            if let Some(known) = self.groups.get_mut(&group) {
                known.notes.retain(|(from, _)| *from != partition);
                let lasts = known.fragments.iter().map(|fragment| fragment.session.last_ms);
                self.queue.extend(lasts.map(|last| (last, group.clone())));
            }
            self.changed(&group);
            self.clean(&group);
        }
    }

    fn clean(&mut self, group: &[u8]) {
        if self.groups.get(group).is_some_and(Group::is_empty) {
            self.groups.remove(group);
        }
        self.changed(group);
    }

    /// Closes the sessions that are over.
    pub(super) fn close(&mut self, query: &Query, clock: Clock, out: &mut Output) {
        let gap = query.gap_ms();
        let is_over = |last: i64| clock.is_closed(last.saturating_add(gap).saturating_add(1));
        let mut due = BTreeSet::new();
        while self.queue.first().is_some_and(|(last, _)| is_over(*last)) {
            due.extend(self.queue.pop_first().map(|(_, group)| group));
        }
        let mut closed = Vec::new();
        for group in due {
            let Some(known) = self.groups.get_mut(&group) else { continue };
            for interval in Group::intervals(std::mem::take(&mut known.fragments), gap) {
                let reached = known.notes.iter().any(|(_, first)| *first <= interval.last_ms.saturating_add(gap));
                let is_open = interval.fragments.iter().any(|fragment| !fragment.is_closed);
                if is_over(interval.last_ms) && !reached && !is_open {
                    self.bytes -= interval
                        .fragments
                        .iter()
                        .map(|fragment| fragment.session.memory_bytes() + group.len() + FRAGMENT_BYTES)
                        .sum::<usize>();
                    if let Some(session) = interval.sum(query) {
                        let (rev, is_given) = known.given(&session);
                        known.forget_given(&session);
                        closed.push((session, group.clone(), rev, is_given));
                    }
                } else {
                    known.fragments.extend(interval.fragments);
                }
            }
            self.clean(&group);
        }
        closed.sort_by(|a, b| (a.0.last_ms, a.0.first_ms, &a.1).cmp(&(b.0.last_ms, b.0.first_ms, &b.1)));
        let only_changes = matches!(query.plan.emit, Emit::Updates { .. });
        for (session, group, rev, is_given) in closed {
            let skipped = only_changes && is_given;
            if !skipped {
                out.rows.extend(session_row(query, &group, &session, RowState { rev, is_final: true }));
            }
            if query.plan.retain_ms > 0 {
                let key = (session.last_ms, session.first_ms, group);
                if self.save {
                    self.unsaved_kept.insert(key.clone());
                }
                self.bytes += session.memory_bytes() + key.2.len() + FRAGMENT_BYTES;
                self.kept.insert(key, Kept { session, rev: if skipped { rev.saturating_sub(1) } else { rev } });
            }
        }
        self.forget(query, clock);
    }

    pub(super) fn emit_updates(&mut self, query: &Query, out: &mut Output) {
        let mut rows = Vec::new();
        for (group, known) in self.groups.iter_mut().filter(|(_, known)| known.is_changed) {
            known.is_changed = false;
            if self.save {
                self.unsaved.insert(group.clone());
            }
            for interval in Group::intervals(known.fragments.clone(), query.gap_ms()) {
                let Some(session) = interval.sum(query) else { continue };
                let (rev, is_given) = known.given(&session);
                if is_given {
                    continue;
                }
                known.forget_given(&session);
                let Session { first_ms, last_ms, records, .. } = session;
                known.given.push(Given { first_ms, last_ms, records, rev });
                rows.push((session, group.clone(), rev));
            }
        }
        rows.sort_by(|a, b| (a.0.last_ms, a.0.first_ms, &a.1).cmp(&(b.0.last_ms, b.0.first_ms, &b.1)));
        for (session, group, rev) in rows {
            out.rows.extend(session_row(query, &group, &session, RowState { rev, is_final: false }));
        }
    }

    /// What is open.
    pub(super) fn view(&self) -> Self {
        Self { groups: self.groups.clone(), ..Self::default() }
    }

    pub(super) fn read_kept(&self, query: &Query, out: &mut Vec<Row>) {
        for ((_, _, group), kept) in &self.kept {
            out.extend(session_row(query, group, &kept.session, RowState { rev: kept.rev, is_final: true }));
        }
    }

    pub(super) fn read_open(&self, query: &Query, out: &mut Vec<Row>) {
        for (group, known) in &self.groups {
            for interval in Group::intervals(known.fragments.clone(), query.gap_ms()) {
                let Some(session) = interval.sum(query) else { continue };
                let state = RowState { rev: known.given(&session).0, is_final: false };
                out.extend(session_row(query, group, &session, state));
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, query: &Query, clock: Clock) {
        let gap = query.gap_ms();
        while let Some((key, kept)) = self.kept.pop_first() {
            if !clock.is_over(key.0.saturating_add(gap).saturating_add(1)) {
                self.kept.insert(key, kept);
                break;
            }
            self.bytes -= kept.session.memory_bytes() + key.2.len() + FRAGMENT_BYTES;
        }
    }

    pub(super) fn open_count(&self) -> usize {
        self.groups.values().map(|group| group.fragments.len()).sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.queue.len() * 48 + self.groups.len() * size_of::<Group>()
    }

    pub(super) fn encode(&mut self, all: bool, entry: &mut impl FnMut(u8, &[u8])) {
        let mut groups = std::mem::take(&mut self.unsaved);
        let mut kept = std::mem::take(&mut self.unsaved_kept);
        if all {
            groups = self.groups.keys().cloned().collect();
            kept = self.kept.keys().cloned().collect();
        }
        let nobody = Group::default();
        let mut bytes = Vec::new();
        for group in groups {
            bytes.clear();
            put_bytes(&group, &mut bytes);
            self.groups.get(&group).unwrap_or(&nobody).encode(&mut bytes);
            entry(GROUP, &bytes);
        }
        for key in kept {
            let Some(kept) = self.kept.get(&key) else { continue };
            bytes.clear();
            put_bytes(&key.2, &mut bytes);
            put_u64(u64::from(kept.rev), &mut bytes);
            kept.session.encode(&mut bytes);
            entry(KEPT, &bytes);
        }
    }

    pub(super) fn decode(&mut self, query: &Query, kind: u8, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let group: Box<[u8]> = reader.bytes()?.into();
        if kind == KEPT {
            let rev = reader.u32()?;
            let session = Session::decode(&query.aggregates, reader)?;
            let key = (session.last_ms, session.first_ms, group);
            let bytes = |session: &Session| session.memory_bytes() + key.2.len() + FRAGMENT_BYTES;
            self.bytes += bytes(&session);
            if let Some(before) = self.kept.insert(key.clone(), Kept { session, rev }) {
                self.bytes -= bytes(&before.session);
            }
            return Ok(());
        }
        self.drop_fragments(&group, |_| true);
        self.groups.remove(&group);
        let known = Group::decode(query, reader)?;
        if known.is_empty() {
            return Ok(());
        }
        for fragment in &known.fragments {
            self.bytes += fragment.session.memory_bytes() + group.len() + FRAGMENT_BYTES;
            if fragment.is_closed {
                self.queue.insert((fragment.session.last_ms, group.clone()));
            }
        }
        self.groups.insert(group, known);
        Ok(())
    }
}

impl Group {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_changed));
        put_len(self.fragments.len(), out);
        for fragment in &self.fragments {
            put_u64(u64::from(fragment.partition), out);
            out.push(u8::from(fragment.is_closed));
            fragment.session.encode(out);
        }
        put_len(self.notes.len(), out);
        for (partition, first) in &self.notes {
            put_u64(u64::from(*partition), out);
            put_i64(*first, out);
        }
        put_len(self.given.len(), out);
        for given in &self.given {
            put_i64(given.first_ms, out);
            put_i64(given.last_ms, out);
            put_u64(given.records, out);
            put_u64(u64::from(given.rev), out);
        }
    }

    fn decode(query: &Query, reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut group = Self { is_changed: reader.u8()? != 0, ..Self::default() };
        for _ in 0..reader.len(5)? {
            let (partition, is_closed) = (reader.u32()?, reader.u8()? != 0);
            let session = Session::decode(&query.aggregates, reader)?;
            group.fragments.push(Fragment { partition, session, is_closed });
        }
        for _ in 0..reader.len(2)? {
            group.notes.push((reader.u32()?, reader.i64()?));
        }
        for _ in 0..reader.len(4)? {
            let (first_ms, last_ms, records, rev) = (reader.i64()?, reader.i64()?, reader.u64()?, reader.u32()?);
            group.given.push(Given { first_ms, last_ms, records, rev });
        }
        Ok(group)
    }
}

fn session_row(query: &Query, group: &[u8], session: &Session, state: RowState) -> Option<Row> {
    query.row((session.first_ms, session.last_ms), group, session.records, &session.cells, state)
}
