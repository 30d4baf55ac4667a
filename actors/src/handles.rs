//! The only public way in: a broker and its partitions, without any address of an actor.

mod broker;
mod cluster;
mod partition;
mod readiness;

pub use broker::{Broker, BrokerHandle, DrainReport, NewTopic};
pub use cluster::{ClusterStatus, MetadataGroup, OfflinePartition, PlannedMove};
#[cfg(test)]
pub(crate) use partition::may_send_again;
pub use partition::{DeletedRecords, PartitionHandle};
pub use readiness::{BrokerState, Check, Readiness};
