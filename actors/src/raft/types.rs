//! What openraft is told about our log: its commands, their answers, and how nodes are named.

use std::io::Cursor;

use openraft::BasicNode;
use pubg1_model::{
    BrokerId,
    cluster::{MetadataCommand, MetadataError, MetadataReply},
};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of the metadata group.
    pub(crate) TypeConfig:
        D = MetadataCommand,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

/// What became of a command, once it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// The version of the image afterwards.
    pub(crate) version: u64,
    /// The answer, or why the command was refused.
    pub(crate) result: Result<MetadataReply, MetadataError>,
}

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<u64, BasicNode>;
pub(crate) type RaftStorageError = openraft::StorageError<u64>;

/// A broker as openraft names it.
pub(crate) fn node_id(broker: BrokerId) -> u64 {
    u64::from(broker.0)
}

/// The broker behind a node. Every node is made from a broker, so nothing is lost.
pub(crate) fn broker_id(node: u64) -> BrokerId {
    BrokerId(u32::try_from(node).unwrap_or(u32::MAX))
}
