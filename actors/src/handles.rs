//! The only public way in: a broker and its partitions, without any address of an actor.

mod broker;
mod cluster;
mod groups;
mod partition;
mod readiness;
mod streams;

pub use broker::{Broker, BrokerHandle, DrainReport, NewTopic};
pub use cluster::{ClusterStatus, MetadataGroup, OfflinePartition, PlannedMove};
pub use groups::{
    CommittedOffset, Delivered, DeliveredRange, GroupDescription, GroupList, GroupListing, GroupMember, GroupPartition,
    GroupProgress, GroupStatus, GroupsHandle, InstanceDescription, LagSample, NewInstance, OffsetToCommit,
    POLL_HELD_MAX, PollGrant, PollRequest,
};
#[cfg(test)]
pub(crate) use partition::may_send_again;
pub use partition::{DeletedRecords, PartitionHandle};
pub use readiness::{BrokerState, Check, Readiness};
pub use streams::{
    CreateStreamOptions, StreamDescription, StreamListing, StreamOutcomes, StreamPhase, StreamTask, StreamTaskKind,
    StreamTaskState, StreamTopics, StreamsHandle, WindowRow, WindowsAnswer, WindowsAsOf, WindowsQuery,
};
