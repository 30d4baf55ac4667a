//! The log as it is at the end: what the leaders serve.

use std::collections::{BTreeMap, HashMap};

use super::{History, RecordId};

/// A place in the topic.
pub(super) type Place = (u32, u64);

/// The records of every partition, by their place and by their name.
pub(super) struct FinalLog {
    partitions: BTreeMap<u32, Partition>,
    places: HashMap<RecordId, Place>,
    /// How many further places records have.
    repeated: BTreeMap<RecordId, u64>,
}

struct Partition {
    start: u64,
    records: Vec<RecordId>,
}

impl FinalLog {
    /// From the leaders' copies. Offsets that a copy leaves out end it: what follows is not counted
    /// on.
    pub(super) fn of(history: &History) -> Self {
        let mut log = Self { partitions: BTreeMap::new(), places: HashMap::new(), repeated: BTreeMap::new() };
        for copy in history.copies.iter().filter(|copy| copy.replica.is_none()) {
            let mut partition = Partition { start: copy.start, records: Vec::new() };
            for (offset, id) in copy.runs.iter().flat_map(|run| run.records()) {
                if offset != partition.end() {
                    break;
                }
                partition.records.push(id);
                let place = (copy.partition, offset);
                if let Some(first) = log.places.insert(id, place) {
                    log.places.insert(id, first);
                    *log.repeated.entry(id).or_default() += 1;
                }
            }
            log.partitions.insert(copy.partition, partition);
        }
        log
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.partitions.values().map(|partition| partition.records.len() as u64).sum()
    }

    /// Every record in the order of its partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, RecordId)> + '_ {
        self.partitions.iter().flat_map(|(number, partition)| {
            (partition.start..).zip(&partition.records).map(|(offset, id)| ((*number, offset), *id))
        })
    }

    /// Whether anything is known of a partition: of one that was not read nothing follows but that.
    pub(super) fn knows(&self, partition: u32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// What stands at this place.
    pub(super) fn at(&self, (partition, offset): Place) -> Option<RecordId> {
        let partition = self.partitions.get(&partition)?;
        let index = usize::try_from(offset.checked_sub(partition.start)?).ok()?;
        partition.records.get(index).copied()
    }

    /// The first place of a record.
    pub(super) fn place(&self, id: RecordId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// Records with more than one place, and how many more there are.
    pub(super) fn repeated(&self) -> impl Iterator<Item = (RecordId, u64)> + '_ {
        self.repeated.iter().map(|(id, more)| (*id, *more))
    }
}

impl Partition {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }
}
