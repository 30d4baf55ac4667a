//! A record that was acknowledged is at its offset ever after, in every read and on every replica at the end.

use std::collections::BTreeMap;

use pubg1_model::PartitionId;

use crate::history::{By, Record};

#[derive(Default)]
pub(crate) struct AckedIsKept(BTreeMap<PartitionId, BTreeMap<u64, String>>);

impl AckedIsKept {
    pub(crate) fn acknowledged(&mut self, partition: PartitionId, (offset, payload): Record) -> Result<(), String> {
        match self.0.entry(partition).or_default().insert(offset, payload.clone()) {
            Some(former) if former != payload => {
                Err(format!("{partition} at {offset}: {former} and {payload} were both acknowledged"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn read(&self, partition: PartitionId, by: By, records: &[Record]) -> Result<(), String> {
        let Some(acked) = self.0.get(&partition) else { return Ok(()) };
        for (offset, found) in records {
            if let Some(payload) = acked.get(offset).filter(|payload| *payload != found) {
                return Err(format!("{partition} at {offset}: {payload} was acknowledged, {by:?} answers {found}"));
            }
        }
        Ok(())
    }

    pub(crate) fn kept(&self, what: &str, partition: PartitionId, records: &[Record]) -> Result<(), String> {
        let records: BTreeMap<u64, &String> = records.iter().map(|(offset, payload)| (*offset, payload)).collect();
        for (offset, payload) in self.0.get(&partition).into_iter().flatten() {
            match records.get(offset) {
                Some(found) if *found == payload => {}
                found => return Err(format!("{what} at {offset}: {payload} was acknowledged, there is {found:?}")),
            }
        }
        Ok(())
    }
}
