//! What was acknowledged or read is not denied by a read that begins later, whichever broker answers it: no leader that
//! was replaced, and does not know it, answers from what it had.

use std::collections::BTreeMap;

use pubg1_model::PartitionId;

use crate::history::{By, Record};

#[derive(Default)]
pub(crate) struct ReadsNeverContradict {
    /// Below it everything is known to be committed, by somebody.
    floors: BTreeMap<PartitionId, u64>,
    seen: BTreeMap<(PartitionId, u64), String>,
}

impl ReadsNeverContradict {
    pub(crate) fn floor(&self, partition: PartitionId) -> u64 {
        self.floors.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn note_committed(&mut self, partition: PartitionId, below: u64) {
        let floor = self.floors.entry(partition).or_default();
        *floor = below.max(*floor);
    }

    pub(crate) fn ended(&mut self, partition: PartitionId, by: By, floor: u64, found: u64) -> Result<(), String> {
        if found < floor {
            return Err(format!(
                "{partition}: the read began when everything below {floor} was committed, {by:?} answers {found}"
            ));
        }
        self.note_committed(partition, found);
        Ok(())
    }

    pub(crate) fn records(&mut self, partition: PartitionId, by: By, records: &[Record]) -> Result<(), String> {
        for (offset, found) in records {
            let seen = self.seen.entry((partition, *offset)).or_insert_with(|| found.clone());
            if seen != found {
                return Err(format!("{partition} at {offset}: {seen} was read before, {by:?} answers {found}"));
            }
        }
        Ok(())
    }
}
