//! One error enum per operation, with what a client needs to act on it.
//!
//! `is_retriable()` says whether the same request may succeed later without anything being changed;
//! `retry_after_ms()` how long to wait. An outcome that is *unknown* may have happened: only an
//! idempotent request should be sent again.

mod admin;
mod data;
mod groups;
mod reads;
mod streams;
pub(crate) mod wire;

pub use admin::{
    AlterTopicError, ClusterChangeError, CreateTopicError, DeleteTopicError, MetadataUnavailable, ProducerIdError,
    StartError,
};
pub use data::{AppendError, LookupError, OfflineReason};
pub use groups::{CommitOffsetError, CommittedOffsetError, GroupRequestError};
pub use reads::{DeleteRecordsError, FetchError};
pub use streams::StreamError;
