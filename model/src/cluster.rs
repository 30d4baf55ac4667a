//! What the brokers of a cluster agree on, and the commands that change it.
//!
//! [`ClusterImage`] is a deterministic state machine: the same commands in the same order give the
//! same image everywhere. So nothing is chosen here; ids, names, replicas and times come in the
//! command. A command that changes what others may have changed meanwhile names the state that it
//! expects, and is refused when that is no longer so (compare-and-set). A refused command changes
//! nothing.

mod apply;
mod command;
mod error;
mod image;
mod streams;
mod tombstones;

pub use command::{EpochExpectation, LeaderChoice, MetadataCommand, MetadataReply, ReplicaMove};
pub use error::MetadataError;
pub use image::{BrokerRegistration, ClusterImage, Incarnation, PartitionImage, TopicImage};
pub use streams::{
    PauseReason, STREAM_NAME_BYTES_MAX, STREAMS_MAX, StreamDefinition, StreamImage, StreamState, StreamStateKind,
    changelog_topic, partials_topic,
};
use tombstones::Tombstones;

/// The most partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;
/// The most topics of a cluster.
pub const TOPICS_MAX: usize = 10_000;
/// The most bytes of an address, of a rack's name and of a cluster id.
pub const TEXT_BYTES_MAX: usize = 1024;
/// How many deleted topics are remembered.
pub const TOMBSTONES_MAX: usize = 100_000;

#[cfg(test)]
mod tests;
