//! The actors of a broker and the handles through which everything else talks to them.
//!
//! This is the only crate that names `actix`. No address leaves it: [`BrokerHandle`] and
//! [`PartitionHandle`] are cheap to clone, may be used from any thread, and stay valid while the actors
//! behind them die and are started again.
//!
//! # Who talks to whom
//!
//! Asks go down this list, facts come back by broadcast. No actor awaits one above it.
//!
//! ```text
//! web ── whatever is led elsewhere ──► forward, by RPC ──► the same at the broker that leads
//!  │
//!  ├── commit, fetch ──────────────► GroupCoordinatorActor      control arbiter
//!  │                                   │ Append (acks=all), one a partition at a time
//!  │                                   ▼
//!  │                                 StreamsActor               control arbiter: which tasks run here
//!  │                                   │ starts, ends
//!  ├── windows, status ────────────► StreamWindowActor × task   streams arbiters, low priority
//!  │                                   │ Append (acks=all) to its changelog, then to its output; reads
//!  │                                   ▼
//!  ├── Append, DeleteRecords ──────► PartitionActor × P        partition arbiters, by stable hash
//!  │                                   │  │ begin_flush ──► flusher threads ──► FlushCompleted{epoch}
//!  │                                   │  │ open, compact, close ──► worker threads ──► Recovered, …
//!  │                                   ▼ BeginEpochs + SetLeaders, when it was restarted
//!  └── create, alter, delete topic ► MetadataActor             metadata arbiter
//!                                        │ begin_flush ──► flusher threads ──► FlushCompleted
//!
//! published   PartitionView + reader   watch, one a partition   read by web: fetch, long poll, views
//!             Arc<ClusterImage>        watch                    read by web and by the placement, which
//!                                                               starts, reconfigures and ends partitions
//!             phase, fatal             watch                    read by readiness and by src
//! deaths      DeathGuard dropped ──► supervisor on the control arbiter ──► factory, or fatal
//! ```
//!
//! A produce is one message and one reply, whatever the acks. A fetch, a lookup and readiness send none.
//!
//! # Rules that the code keeps
//!
//! - **Permits, not mailboxes, are the limit** ([`AdmissionLimits`]): a permit rides inside the message and is
//!   given back when the answer is sent or the message dies.
//! - **State changes only in synchronous handlers.** Slow work runs on threads for it, and its completion is a
//!   message that carries the epoch in which it was begun.
//! - **Published before answered.** Who gets an acknowledgement finds the record below the high watermark.
//! - **A leadership is never resumed.** Each start of a broker, and each restart of a partition's actor, begins
//!   a new leader epoch in the metadata log before the partition leads.
//! - **A failed flush is final** ([`FatalError::Flush`]): acknowledgements stop where it is noticed, before
//!   the actor hears of it.
//! - **Nothing is global.** Several brokers live in one process.

mod admission;
mod arbiters;
mod broker;
mod clock;
mod config;
mod controller;
mod data_dir;
mod errors;
mod fatal;
#[cfg(test)]
mod fixture;
mod flusher;
mod forward;
mod group_coordinator;
mod handles;
mod metadata;
mod node;
mod page_cache;
mod partition;
mod raft;
mod replica_states;
mod replicator;
mod reserved_file;
mod rpc;
mod storage_errors;
mod streams;
mod supervision;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use admission::{AdmissionLimits, Budget};
pub use clock::Clock;
pub use config::{BrokerConfig, DefaultTopic, FlushPolicy, PAGE_CACHE_BYTES_DEFAULT};
pub use errors::{
    AlterTopicError, AppendError, ClusterChangeError, CommitOffsetError, CommittedOffsetError, CreateTopicError,
    DeleteRecordsError, DeleteTopicError, FetchError, GroupRequestError, LookupError, MetadataUnavailable,
    OfflineReason, ProducerIdError, StartError, StreamError,
};
pub use fatal::FatalError;
pub use handles::{
    Broker, BrokerHandle, BrokerState, Check, ClusterStatus, CommittedOffset, CreateStreamOptions, DeletedRecords,
    Delivered, DeliveredRange, DrainReport, GroupDescription, GroupList, GroupListing, GroupMember, GroupPartition,
    GroupProgress, GroupStatus, GroupsHandle, InstanceDescription, LagSample, MetadataGroup, NewInstance, NewTopic,
    OfflinePartition, OffsetToCommit, POLL_HELD_MAX, PartitionHandle, PlannedMove, PollGrant, PollRequest, Readiness,
    StreamDescription, StreamListing, StreamOutcomes, StreamPhase, StreamTask, StreamTaskKind, StreamTaskState,
    StreamTopics, StreamsHandle, WindowRow, WindowsAnswer, WindowsAsOf, WindowsQuery,
};
pub use partition::{
    Acks, AppendPhases, AppendReply, AppendRequest, Appended, Fetched, LeaderView, PartitionStatus, PartitionView,
    ReplicaBatches, ReplicaStatus,
};
pub use supervision::RestartPolicy;
