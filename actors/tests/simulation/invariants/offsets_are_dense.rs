//! Offsets have no gaps and none comes twice: after N records the next offset is N.

use crate::history::Record;

#[derive(Default)]
pub(crate) struct OffsetsAreDense;

impl OffsetsAreDense {
    /// `records` were found in `what`, looked for from `from` on.
    #[expect(clippy::unused_self, reason = "an invariant like the others, that needs to remember nothing")]
    pub(crate) fn check(&self, what: &str, from: u64, records: &[Record]) -> Result<(), String> {
        for ((offset, payload), expected) in records.iter().zip(from..) {
            if *offset != expected {
                return Err(format!("{what}: {payload} is at {offset} where {expected} was to come"));
            }
        }
        Ok(())
    }
}
