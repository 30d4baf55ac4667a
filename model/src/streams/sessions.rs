//! The open sessions of a partition.
//!
//! A session closes once no record can come that reaches it: when the time has passed its last
//! record by more than gap and lateness. A record that is not late cannot reach a session that may
//! close, so closing needs no hurry.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    hash::BuildHasher,
};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    aggregate::Place,
    codec::{Damaged, Reader, put_bytes, put_len},
    expr::Scope,
    panes::Taken,
    partial::{Partials, Session, SessionPartial},
    query::Query,
};

#[derive(Clone, Debug)]
struct Open {
    session: Session,
    /// Its place in the queue of those that close.
    queued: i64,
    /// The other partitions know that it is open.
    is_noted: bool,
}

#[derive(Clone, Debug, Default)]
struct Group {
    key: Box<[u8]>,
    /// In order of time, further apart than the gap.
    sessions: Vec<Open>,
    is_updated: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    groups: Vec<Group>,
    free: Vec<u32>,
    /// When a session may close, at the earliest: its last time, and its group.
    closing: BinaryHeap<Reverse<(i64, u32)>>,
    /// The first times of sessions that the other partitions do not know of.
    noting: BinaryHeap<Reverse<(i64, u32)>>,
    /// Whether there are other partitions.
    notes: bool,
    bytes: usize,
    save: bool,
    /// The groups that have changed since the last checkpoint.
    unsaved: BTreeSet<Box<[u8]>>,
}

impl Sessions {
    pub(crate) fn new(notes: bool) -> Self {
        Self { notes, ..Self::default() }
    }

    pub(crate) const fn track(&mut self) {
        self.save = true;
    }

    /// The time at which a session may close; it may have become longer meanwhile.
    pub(crate) fn next_close(&self, query: &Query) -> i64 {
        self.closing.peek().map_or(i64::MAX, |Reverse((queued, _))| {
            queued.saturating_add(query.gap_ms()).saturating_add(query.lateness_ms).saturating_add(1)
        })
    }

    fn find(&self, group: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(group);
        self.index.find(hash, |at| self.groups[*at as usize].key.as_ref() == group).copied()
    }

    fn group(&mut self, group: &[u8]) -> u32 {
        if let Some(known) = self.find(group) {
            return known;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            // The memory limit of a query is reached long before 2³² groups.
            u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
        });
        self.groups[at as usize].key = group.into();
        let Self { index, hasher, groups, .. } = self;
        index.insert_unique(hasher.hash_one(group), at, |at| hasher.hash_one(&groups[*at as usize].key));
        self.bytes += size_of::<Group>() + group.len() + 5;
        at
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
        let at = place.time_ms;
        if at.saturating_add(query.lateness_ms) < watermark {
            return Taken::Late { late_pairs: 1 };
        }
        let index = self.group(group);
        let known = &mut self.groups[index as usize];
        known.is_updated = true;
        let gap = query.gap_ms();
        let first = known.sessions.partition_point(|open| open.session.last_ms.saturating_add(gap) < at);
        let reached = |open: &Open| open.session.first_ms.saturating_sub(gap) <= at;
        if known.sessions.get(first).is_some_and(reached) {
            let before = known.sessions[first].session.memory_bytes();
            if known.sessions.get(first + 1).is_some_and(reached) {
                // The record closes the gap between two sessions.
                let next = known.sessions.remove(first + 1);
                self.bytes -= next.session.memory_bytes();
                known.sessions[first].is_noted |= next.is_noted;
                known.sessions[first].session.merge(&next.session, &query.aggregates);
            }
            let open = &mut known.sessions[first];
            if at < open.session.first_ms {
                open.session.first_ms = at;
                if self.notes && !open.is_noted {
                    self.noting.push(Reverse((at, index)));
                }
            }
            open.session.last_ms = open.session.last_ms.max(at);
            open.session.records += 1;
            query.aggregates.add(&mut open.session.cells, place, scope);
            self.bytes += open.session.memory_bytes();
            self.bytes -= before;
        } else {
            let mut cells: Box<[_]> = query.aggregates.new_cells().collect();
            query.aggregates.add(&mut cells, place, scope);
            let session = Session { first_ms: at, last_ms: at, records: 1, cells };
            self.bytes += session.memory_bytes() + size_of::<Open>();
            known.sessions.insert(first, Open { session, queued: at, is_noted: false });
            self.closing.push(Reverse((at, index)));
            if self.notes {
                self.noting.push(Reverse((at, index)));
            }
        }
        if self.save && !self.unsaved.contains(group) {
            self.unsaved.insert(group.into());
        }
        Taken::Accepted { late_pairs: 0 }
    }

    /// Closes the sessions that no record can reach any more, and notes those that others may.
    pub(crate) fn close(&mut self, query: &Query, watermark: i64, out: &mut Partials) {
        let accepted_from = watermark.saturating_sub(query.lateness_ms);
        let gap = query.gap_ms();
        while let Some(Reverse((queued, index))) = self.closing.peek().copied() {
            if queued.saturating_add(gap) >= accepted_from {
                break;
            }
            self.closing.pop();
            let known = &mut self.groups[index as usize];
            let Some(at) = known.sessions.iter().position(|open| open.queued == queued) else { continue };
            let last = known.sessions[at].session.last_ms;
            if last.saturating_add(gap) >= accepted_from {
                known.sessions[at].queued = last;
                self.closing.push(Reverse((last, index)));
                continue;
            }
            let open = known.sessions.remove(at);
            self.bytes -= open.session.memory_bytes() + size_of::<Open>();
            let group = known.key.clone();
            if self.save {
                self.unsaved.insert(group.clone());
            }
            out.sessions.push(SessionPartial { group, session: open.session });
            if self.groups[index as usize].sessions.is_empty() {
                self.forget(index);
            }
        }
        while let Some(Reverse((first, index))) = self.noting.peek().copied() {
            if first >= accepted_from {
                break;
            }
            self.noting.pop();
            let known = &mut self.groups[index as usize];
            for open in &mut known.sessions {
                if !open.is_noted && open.session.first_ms < accepted_from {
                    open.is_noted = true;
                    out.opened.push((known.key.clone(), open.session.first_ms));
                    if self.save {
                        self.unsaved.insert(known.key.clone());
                    }
                }
            }
        }
    }

    /// A group without sessions goes.
    fn forget(&mut self, index: u32) {
        let key = std::mem::take(&mut self.groups[index as usize]).key;
        self.bytes -= size_of::<Group>() + key.len() + 5;
        let hash = self.hasher.hash_one(&key);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == index) {
            entry.remove();
        }
        self.free.push(index);
    }

    /// The open sessions as they are now; only of the groups that have changed since the last call
    /// if `changed`, which then count as given out.
    pub(crate) fn open_sessions(&mut self, changed: bool, out: &mut Vec<SessionPartial>) {
        for group in self.groups.iter_mut().filter(|group| group.is_updated || !changed) {
            for open in &group.sessions {
                out.push(SessionPartial { group: group.key.clone(), session: open.session.clone() });
            }
            if changed {
                group.is_updated = false;
                if self.save && !group.sessions.is_empty() {
                    self.unsaved.insert(group.key.clone());
                }
            }
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.groups.iter().map(|group| group.sessions.len()).sum()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + (self.closing.capacity() + self.noting.capacity()) * size_of::<(i64, u32)>()
    }

    /// Gives `entry` the bytes of each group: of all, or of those that have changed, also if they
    /// are gone.
    pub(crate) fn encode_groups(&mut self, all: bool, mut entry: impl FnMut(&[u8])) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut keys: Vec<&[u8]> = if all {
            self.groups.iter().filter(|group| !group.sessions.is_empty()).map(|group| group.key.as_ref()).collect()
        } else {
            unsaved.iter().map(AsRef::as_ref).collect()
        };
        keys.sort_unstable();
        let nobody = Group::default();
        let mut bytes = Vec::new();
        for key in keys {
            let known = self.find(key).map_or(&nobody, |at| &self.groups[at as usize]);
            bytes.clear();
            put_bytes(key, &mut bytes);
            bytes.push(u8::from(known.is_updated));
            put_len(known.sessions.len(), &mut bytes);
            for open in &known.sessions {
                bytes.push(u8::from(open.is_noted));
                open.session.encode(&mut bytes);
            }
            entry(&bytes);
        }
    }

    pub(crate) fn decode_group(&mut self, query: &Query, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let key = reader.bytes()?;
        let is_updated = reader.u8()? != 0;
        let mut sessions = Vec::new();
        for _ in 0..reader.len(4)? {
            let is_noted = reader.u8()? != 0;
            let session = Session::decode(&query.aggregates, reader)?;
            sessions.push(Open { queued: session.last_ms, session, is_noted });
        }
        let index = self.group(key);
        let known = &mut self.groups[index as usize];
        let bytes_of = |sessions: &[Open]| -> usize {
            sessions.iter().map(|open| open.session.memory_bytes() + size_of::<Open>()).sum()
        };
        self.bytes = self.bytes + bytes_of(&sessions) - bytes_of(&known.sessions);
        for open in &sessions {
            self.closing.push(Reverse((open.queued, index)));
            if self.notes && !open.is_noted {
                self.noting.push(Reverse((open.session.first_ms, index)));
            }
        }
        known.sessions = sessions;
        known.is_updated = is_updated;
        if known.sessions.is_empty() {
            self.forget(index);
        }
        Ok(())
    }
}
