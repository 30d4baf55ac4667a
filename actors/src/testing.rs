//! Faults on purpose, for tests of this crate and of those above it.

use std::path::PathBuf;

use bytes::Bytes;
use pubg1_metrics::Metrics;
use pubg1_model::{PartitionId, TopicName};
use pubg1_transport::Network;

pub use crate::partition::Fault;
use crate::{AppendError, BrokerConfig, BrokerHandle, PartitionHandle, PartitionView, StartError, broker};

/// How much is read of a log at once.
const READ_BYTES: usize = 1024 * 1024;

/// Starts a broker as [`crate::Broker::start`] does, without threads of its own: every actor and every task runs on the
/// caller's thread, in the caller's `LocalSet`, by tokio's clock, and reaches other brokers through `network`. `boot_id`
/// names this boot of the machine. What ends the `LocalSet` and its runtime is a crash; drop the handle along with them.
///
/// # Errors
/// [`StartError`].
pub fn start_simulated(
    config: BrokerConfig,
    metrics: Metrics,
    network: impl Network,
    boot_id: String,
) -> Result<BrokerHandle, StartError> {
    broker::start_simulated(config, metrics, network, boot_id)
}

/// The replica of a partition on this broker as it was last published, and where its log is; `None` when it keeps none.
#[must_use]
pub fn replica(broker: &BrokerHandle, topic: &TopicName, partition: PartitionId) -> Option<(PartitionView, PathBuf)> {
    let slot = broker.services().node.table.get(topic, partition)?;
    Some((slot.view(), slot.identity.dir.clone()))
}

/// Every replica on this broker as it was last published, and where its log is.
#[must_use]
pub fn replicas(broker: &BrokerHandle) -> Vec<(PartitionView, PathBuf)> {
    let slots = broker.services().node.table.slots();
    slots.iter().map(|slot| (slot.view(), slot.identity.dir.clone())).collect()
}

/// The batches of the replica on this broker, as far as it knows them to be committed; `None` when they cannot be read.
#[must_use]
pub fn replica_batches(broker: &BrokerHandle, topic: &TopicName, partition: PartitionId) -> Option<Vec<Bytes>> {
    let slot = broker.services().node.table.get(topic, partition)?;
    let (mut runs, mut from) = (Vec::new(), None);
    loop {
        let read = slot.read_replica(from, READ_BYTES).ok()?;
        if read.runs.is_empty() {
            return Some(runs);
        }
        runs.extend(read.runs);
        from = Some(read.next_offset);
    }
}

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

/// Makes the actor panic that starts and ends the tasks of streams.
pub fn panic_streams(broker: &BrokerHandle) {
    broker.panic_streams();
}

/// Makes every task of a stream on this broker panic.
pub fn panic_stream_tasks(broker: &BrokerHandle) {
    broker.panic_stream_tasks();
}
