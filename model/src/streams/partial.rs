//! What a partition hands on: windows and sessions that are closed there, to be merged with those
//! of the other partitions.

use super::{
    aggregate::{Aggregates, Cell},
    codec::{Damaged, Reader, put_bytes, put_i64, put_len, put_u64},
    table::GroupTable,
};

/// The groups of a window, as far as one partition knows them.
#[derive(Clone, Debug)]
pub(crate) struct WindowPartial {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) table: GroupTable,
    /// Nothing will be added to it. Otherwise it holds what has changed, for early rows.
    pub(crate) is_closed: bool,
}

/// Records of a group that follow one another within the gap.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) records: u64,
    pub(crate) cells: Box<[Cell]>,
}

/// A session, as far as one partition knows it.
#[derive(Clone, Debug)]
pub(crate) struct SessionPartial {
    pub(crate) group: Box<[u8]>,
    pub(crate) session: Session,
}

/// What a partition hands on: it must be merged in the order in which it was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partials {
    pub(crate) windows: Vec<WindowPartial>,
    /// Sessions that are closed; with `has_updates` those that are open, instead.
    pub(crate) sessions: Vec<SessionPartial>,
    /// Groups with a session that is still open, and its first time: sessions of other partitions
    /// that reach it have to wait for it.
    pub(crate) opened: Vec<(Box<[u8]>, i64)>,
    /// Whether it holds all open sessions of its groups, for early rows.
    pub(crate) has_updates: bool,
    /// The partition's time.
    pub(crate) watermark_ms: Option<i64>,
}

impl Session {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_i64(self.first_ms, out);
        put_i64(self.last_ms, out);
        put_u64(self.records, out);
        for cell in &self.cells {
            cell.encode(out);
        }
    }

    pub(crate) fn decode(aggregates: &Aggregates, reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (first_ms, last_ms, records) = (reader.i64()?, reader.i64()?, reader.u64()?);
        if first_ms > last_ms {
            return Err(Damaged);
        }
        Ok(Self { first_ms, last_ms, records, cells: aggregates.decode(reader)?.into_boxed_slice() })
    }

    /// Adds a session that reaches this one and comes after it.
    pub(crate) fn merge(&mut self, other: &Self, aggregates: &Aggregates) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.records += other.records;
        aggregates.merge(&mut self.cells, &other.cells);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(self.cells.as_ref()) + Cell::all_heap_bytes(&self.cells)
    }
}

impl Partials {
    /// The bytes of what belongs to the groups that are wanted.
    pub(crate) fn encode(&self, aggregates: &Aggregates, wanted: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        self.encode_at(self.watermark_ms, aggregates, wanted, out);
    }

    /// The same, as if the partition's time were another one.
    pub(crate) fn encode_at(
        &self,
        watermark_ms: Option<i64>,
        aggregates: &Aggregates,
        wanted: impl Fn(&[u8]) -> bool,
        out: &mut Vec<u8>,
    ) {
        out.push(u8::from(self.has_updates));
        out.push(u8::from(watermark_ms.is_some()));
        put_i64(watermark_ms.unwrap_or_default(), out);
        put_len(self.windows.len(), out);
        for window in &self.windows {
            put_i64(window.start_ms, out);
            put_i64(window.end_ms, out);
            out.push(u8::from(window.is_closed));
            window.table.encode(aggregates, &wanted, out);
        }
        let sessions = || self.sessions.iter().filter(|partial| wanted(&partial.group));
        put_len(sessions().count(), out);
        for partial in sessions() {
            put_bytes(&partial.group, out);
            partial.session.encode(out);
        }
        let opened = || self.opened.iter().filter(|(group, _)| wanted(group));
        put_len(opened().count(), out);
        for (group, first) in opened() {
            put_bytes(group, out);
            put_i64(*first, out);
        }
    }

    pub(crate) fn decode(aggregates: &Aggregates, reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut all = Self { has_updates: reader.u8()? != 0, ..Self::default() };
        let has_watermark = reader.u8()? != 0;
        let watermark = reader.i64()?;
        all.watermark_ms = has_watermark.then_some(watermark);
        for _ in 0..reader.len(4)? {
            let (start_ms, end_ms, is_closed) = (reader.i64()?, reader.i64()?, reader.u8()? != 0);
            let table = GroupTable::decode(aggregates, reader)?;
            all.windows.push(WindowPartial { start_ms, end_ms, table, is_closed });
        }
        for _ in 0..reader.len(4)? {
            let group = reader.bytes()?.into();
            all.sessions.push(SessionPartial { group, session: Session::decode(aggregates, reader)? });
        }
        for _ in 0..reader.len(2)? {
            all.opened.push((reader.bytes()?.into(), reader.i64()?));
        }
        Ok(all)
    }
}
