//! The vocabulary of PubG1 and its pure state machines.
//!
//! Nothing here reads a clock, opens a file or awaits: every function takes values and returns
//! values or effects, so that each rule of the log can be tested without the machinery around it.
//!
//! Reading order: [`ids`], [`offset`] and [`epoch`] are the words; [`record_batch`] is the unit of
//! append, checksum and storage; [`producer_state`] and [`leader_epochs`] are the two small state
//! machines every partition carries; [`topic`] and [`cluster`] describe what the cluster agrees on;
//! [`replication`] is how the replicas of a partition keep one log; [`controller`] decides who leads,
//! [`placement`] where replicas are put; [`consumer_group`] shares partitions among consumers,
//! [`offset_commit`] says how far they are and [`consumer_instance`] is a consumer over HTTP;
//! [`streams`] computes windows over what the log holds.

pub mod cluster;
pub mod compression;
pub mod consumer_group;
pub mod consumer_instance;
pub mod controller;
pub mod epoch;
pub mod ids;
pub mod leader_epochs;
pub mod offset;
pub mod offset_commit;
pub mod partitioner;
pub mod placement;
pub mod producer_state;
pub mod record_batch;
pub mod replication;
pub mod streams;
pub mod topic;

pub use epoch::LeaderEpoch;
pub use ids::{
    BrokerId, GroupId, InstanceName, InvalidName, PartitionId, ProducerId, StreamId, StreamName, TopicId, TopicName,
    TopicPartition,
};
pub use offset::Offset;
