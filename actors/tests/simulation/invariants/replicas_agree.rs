//! When all is well again, the replicas of a partition hold the same records.

use pubg1_model::{BrokerId, PartitionId};

use crate::history::Record;

/// `logs`: the whole log of each replica.
pub(crate) fn replicas_agree(partition: PartitionId, logs: &[(BrokerId, Vec<Record>)]) -> Result<(), String> {
    let Some(((first, log), others)) = logs.split_first() else { return Ok(()) };
    for (other, other_log) in others {
        if let Some((one, two)) = log.iter().zip(other_log).find(|(one, two)| one != two) {
            return Err(format!("{partition}: broker {first} has {one:?}, broker {other} has {two:?}"));
        }
        if log.len() != other_log.len() {
            let (ours, theirs) = (log.len(), other_log.len());
            return Err(format!("{partition}: broker {first} has {ours} records, broker {other} has {theirs}"));
        }
    }
    Ok(())
}
