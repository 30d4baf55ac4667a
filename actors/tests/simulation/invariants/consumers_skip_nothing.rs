//! What a group has committed was given to a member, every record of it; and what was committed before a poll began is
//! not given by it again.

use std::collections::{BTreeMap, BTreeSet};

use pubg1_model::PartitionId;

use crate::history::Record;

#[derive(Default)]
pub(crate) struct ConsumersSkipNothing {
    given: BTreeMap<PartitionId, BTreeSet<u64>>,
    /// Below it everything is known to be given.
    checked: BTreeMap<PartitionId, u64>,
}

impl ConsumersSkipNothing {
    pub(crate) fn delivered(&mut self, partition: PartitionId, records: &[Record]) {
        self.given.entry(partition).or_default().extend(records.iter().map(|(offset, _)| offset));
    }

    /// A poll that began when `floor` was committed begins to read at `start`; `None`: nothing was committed yet.
    pub(crate) fn begins(&self, partition: PartitionId, floor: Option<u64>, start: Option<u64>) -> Result<(), String> {
        if start < floor {
            return Err(format!("{partition}: {floor:?} was committed before a poll that begins at {start:?}"));
        }
        Ok(())
    }

    pub(crate) fn committed(&mut self, partition: PartitionId, offset: u64) -> Result<(), String> {
        let checked = self.checked.entry(partition).or_default();
        let given = self.given.entry(partition).or_default();
        if let Some(skipped) = (*checked..offset).find(|at| !given.contains(at)) {
            return Err(format!("{partition}: {offset} is committed, and nobody was given {skipped}"));
        }
        *checked = offset.max(*checked);
        Ok(())
    }
}
