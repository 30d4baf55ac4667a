//! The high watermark of a leader never moves back. What clients see of it is the matter of `reads_never_contradict`.

use std::collections::BTreeMap;

use pubg1_model::PartitionId;

use crate::history::By;

#[derive(Default)]
pub(crate) struct HighWatermarkIsMonotonic(BTreeMap<(PartitionId, By), u64>);

impl HighWatermarkIsMonotonic {
    pub(crate) fn published(&mut self, partition: PartitionId, by: By, high_watermark: u64) -> Result<(), String> {
        let former = self.0.insert((partition, by), high_watermark).unwrap_or(0);
        if former <= high_watermark {
            return Ok(());
        }
        Err(format!("{partition}: the high watermark of {by:?} went from {former} back to {high_watermark}"))
    }
}
