//! Faults on purpose, for tests of this crate and of those above it.

pub use crate::partition::Fault;
use crate::{AppendError, BrokerHandle, PartitionHandle};

/// Sends a fault to the actor of a partition.
///
/// # Errors
/// [`AppendError::NotReady`] when there is no actor at present.
pub fn inject(partition: &PartitionHandle, fault: Fault) -> Result<(), AppendError> {
    let slot = partition.slot();
    slot.post(fault).map_err(|_| AppendError::NotReady { retry_after_ms: slot.node.retry_after_ms() })
}

/// Makes the actor of the metadata log panic.
pub fn panic_metadata(broker: &BrokerHandle) {
    broker.panic_metadata();
}

/// Makes the coordinator of the groups panic.
pub fn panic_group_coordinator(broker: &BrokerHandle) {
    broker.panic_group_coordinator();
}
