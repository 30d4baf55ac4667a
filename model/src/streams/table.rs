//! Groups and their cells: an open table with the groups' bytes in one buffer, so that a group costs
//! no allocation of its own.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    aggregate::{Aggregates, Cell, Place},
    codec::{Damaged, Reader, put_bytes, put_len, put_u64},
    expr::Scope,
};

/// A group of a window, or of a part of one.
#[derive(Clone, Copy, Debug)]
struct Slot {
    records: u64,
    start: usize,
    len: u32,
    marks: u8,
}

/// The group has changed since the last checkpoint.
const UNSAVED: u8 = 1;
/// The group has changed since the last update was given out.
const UPDATED: u8 = 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct GroupTable {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Slot>,
    keys: Vec<u8>,
    /// The cells of a slot follow one another; there are as many for each.
    cells: Vec<Cell>,
    /// What the cells hold elsewhere.
    heap_bytes: usize,
    /// The slots with the mark [`UNSAVED`].
    unsaved: Vec<u32>,
}

impl GroupTable {
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn key(&self, slot: usize) -> &[u8] {
        self.slots.get(slot).map_or(&[], |slot| &self.keys[slot.start..slot.start + slot.len as usize])
    }

    pub(crate) fn records(&self, slot: usize) -> u64 {
        self.slots.get(slot).map_or(0, |slot| slot.records)
    }

    fn stride(aggregates: &Aggregates) -> usize {
        aggregates.rules.len()
    }

    pub(crate) fn cells(&self, slot: usize, aggregates: &Aggregates) -> &[Cell] {
        let stride = Self::stride(aggregates);
        &self.cells[slot * stride..(slot + 1) * stride]
    }

    pub(crate) fn find(&self, group: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(group);
        self.index.find(hash, |slot| self.key(*slot as usize) == group).map(|slot| *slot as usize)
    }

    /// The slot of a group, which may be new.
    pub(crate) fn slot(&mut self, group: &[u8], aggregates: &Aggregates) -> usize {
        let Self { index, hasher, slots, keys, cells, heap_bytes, .. } = self;
        let hash = hasher.hash_one(group);
        let key = |slot: u32| {
            let Slot { start, len, .. } = slots[slot as usize];
            &keys[start..start + len as usize]
        };
        if let Some(slot) = index.find(hash, |slot| key(*slot) == group) {
            return *slot as usize;
        }
        // The memory limit of a query is reached long before.
        let (Ok(new), Ok(len)) = (u32::try_from(slots.len()), u32::try_from(group.len())) else {
            return slots.len().saturating_sub(1);
        };
        index.insert_unique(hash, new, |slot| hasher.hash_one(key(*slot)));
        slots.push(Slot { records: 0, start: keys.len(), len, marks: 0 });
        keys.extend_from_slice(group);
        let first = cells.len();
        cells.extend(aggregates.new_cells());
        *heap_bytes += Cell::all_heap_bytes(&cells[first..]);
        new as usize
    }

    fn grow(&mut self, bytes: isize) {
        self.heap_bytes = self.heap_bytes.saturating_add_signed(bytes);
    }

    /// Takes a record into its group.
    pub(crate) fn add(&mut self, group: &[u8], aggregates: &Aggregates, place: Place, scope: &impl Scope, save: bool) {
        let slot = self.slot(group, aggregates);
        let stride = Self::stride(aggregates);
        if stride > 0 {
            let grown = aggregates.add(&mut self.cells[slot * stride..(slot + 1) * stride], place, scope);
            self.grow(grown);
        }
        let known = &mut self.slots[slot];
        known.records += 1;
        known.marks |= UPDATED;
        if save {
            self.mark_unsaved(slot);
        }
    }

    pub(crate) fn mark_unsaved(&mut self, slot: usize) {
        let known = &mut self.slots[slot];
        if known.marks & UNSAVED == 0 {
            known.marks |= UNSAVED;
            // A slot's number fits: it was given out as one.
            self.unsaved.push(u32::try_from(slot).unwrap_or(u32::MAX));
        }
    }

    /// Adds what the group of another table holds.
    pub(crate) fn merge_slot(&mut self, other: &Self, slot: usize, aggregates: &Aggregates) {
        let own = self.slot(other.key(slot), aggregates);
        let stride = Self::stride(aggregates);
        let grown = aggregates.merge(&mut self.cells[own * stride..(own + 1) * stride], other.cells(slot, aggregates));
        self.grow(grown);
        self.slots[own].records += other.slots[slot].records;
        self.slots[own].marks |= other.slots[slot].marks & UPDATED;
    }

    pub(crate) fn merge(&mut self, other: &Self, aggregates: &Aggregates) {
        for slot in 0..other.len() {
            self.merge_slot(other, slot, aggregates);
        }
    }

    /// Puts the cells of another table's group in the place of the own ones.
    pub(crate) fn replace_slot(&mut self, other: &Self, slot: usize, aggregates: &Aggregates) {
        let own = self.slot(other.key(slot), aggregates);
        self.set(own, other.slots[slot].records, other.cells(slot, aggregates).to_vec(), aggregates);
        self.slots[own].marks |= other.slots[slot].marks & UPDATED;
    }

    fn set(&mut self, slot: usize, records: u64, cells: Vec<Cell>, aggregates: &Aggregates) {
        let stride = Self::stride(aggregates);
        let own = &mut self.cells[slot * stride..(slot + 1) * stride];
        let before = Cell::all_heap_bytes(own);
        for (own, new) in own.iter_mut().zip(cells) {
            *own = new;
        }
        let grown = Cell::all_heap_bytes(own).cast_signed() - before.cast_signed();
        self.grow(grown);
        self.slots[slot].records = records;
    }

    /// The slots in the order of their groups.
    pub(crate) fn sorted(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.len()).collect();
        slots.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        slots
    }

    pub(crate) fn is_updated(&self, slot: usize) -> bool {
        self.slots[slot].marks & UPDATED != 0
    }

    /// The groups that have changed since they were last given out count as given out.
    pub(crate) fn clear_updated(&mut self, save: bool) {
        for slot in 0..self.len() {
            if self.is_updated(slot) {
                self.slots[slot].marks &= !UPDATED;
                if save {
                    self.mark_unsaved(slot);
                }
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.index.capacity() * 5
            + self.slots.capacity() * size_of::<Slot>()
            + self.keys.capacity()
            + self.cells.capacity() * size_of::<Cell>()
            + self.unsaved.capacity() * 4
            + self.heap_bytes
    }

    pub(crate) fn encode_slot(&self, slot: usize, aggregates: &Aggregates, out: &mut Vec<u8>) {
        put_bytes(self.key(slot), out);
        put_u64(self.records(slot) << 1 | u64::from(self.is_updated(slot)), out);
        for cell in self.cells(slot, aggregates) {
            cell.encode(out);
        }
    }

    /// Reads a group; a known one is replaced.
    pub(crate) fn decode_slot(&mut self, aggregates: &Aggregates, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        let group = reader.bytes()?;
        let records = reader.u64()?;
        let cells = aggregates.decode(reader)?;
        let slot = self.slot(group, aggregates);
        self.set(slot, records >> 1, cells, aggregates);
        self.slots[slot].marks = if records & 1 == 1 { UPDATED } else { 0 };
        Ok(())
    }

    /// The slots that have changed since the last call; they count as saved.
    pub(crate) fn take_unsaved(&mut self) -> Vec<usize> {
        let unsaved: Vec<usize> = std::mem::take(&mut self.unsaved).into_iter().map(|slot| slot as usize).collect();
        for slot in &unsaved {
            self.slots[*slot].marks &= !UNSAVED;
        }
        unsaved
    }

    /// The groups that are wanted, in their order.
    pub(crate) fn encode(&self, aggregates: &Aggregates, wanted: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        let slots: Vec<usize> = self.sorted().into_iter().filter(|slot| wanted(self.key(*slot))).collect();
        put_len(slots.len(), out);
        for slot in slots {
            self.encode_slot(slot, aggregates, out);
        }
    }

    pub(crate) fn decode(aggregates: &Aggregates, reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut table = Self::default();
        for _ in 0..reader.len(2)? {
            table.decode_slot(aggregates, reader)?;
        }
        Ok(table)
    }
}
