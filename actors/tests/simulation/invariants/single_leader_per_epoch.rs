//! An epoch of a partition has one leader, whoever says so: acknowledgements, reads, replicas.

use std::collections::BTreeMap;

use pubg1_model::{BrokerId, LeaderEpoch, PartitionId};

use crate::history::By;

#[derive(Default)]
pub(crate) struct SingleLeaderPerEpoch(BTreeMap<(PartitionId, LeaderEpoch), BrokerId>);

impl SingleLeaderPerEpoch {
    pub(crate) fn seen(&mut self, partition: PartitionId, by: By) -> Result<(), String> {
        let leader = *self.0.entry((partition, by.epoch)).or_insert(by.leader);
        if leader == by.leader {
            return Ok(());
        }
        Err(format!("{partition} in epoch {}: broker {leader} and broker {} lead it", by.epoch, by.leader))
    }

    pub(crate) fn epochs_led(&self) -> usize {
        self.0.len()
    }
}
