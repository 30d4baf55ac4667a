//! Errors of starting and of changing the cluster.

use std::{io, path::PathBuf, sync::Arc};

use pubg1_model::{BrokerId, StreamName, TopicName, cluster::MetadataError};

use super::LookupError;
use crate::fatal::FatalError;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that cannot be honoured.
    #[error("{setting}: {reason}")]
    Config {
        /// The setting.
        setting: &'static str,
        /// Why it is refused.
        reason: String,
    },
    /// Another process runs on the directory.
    #[error("{} is in use by another broker process; stop it, or choose another data directory", .path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory belongs to another broker.
    #[error("{} belongs to broker {found}, this is broker {configured}; use its own data directory or its id",
        .path.display())]
    OtherBroker {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who wants it.
        configured: BrokerId,
    },
    /// The directory belongs to another cluster.
    #[error("{} belongs to cluster {found}, configured is {configured}", .path.display())]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What was configured.
        configured: String,
    },
    /// The identity file cannot be believed.
    #[error("{}: {reason}", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The directory cannot be used.
    #[error("{}: {source}; the data directory must be writable", .path.display())]
    DataDir {
        /// Where.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// What replicas keep beside their logs cannot be read.
    #[error("{}/replicas.redb: {reason}; restore the data directory, or remove it to copy everything again",
        .path.display())]
    ReplicaStates {
        /// The data directory.
        path: PathBuf,
        /// What the store says.
        reason: String,
    },
    /// There is no actix system on this thread.
    #[error("a broker must be started inside an actix system")]
    NoSystem,
    /// A thread could not be started.
    #[error("a thread of the broker could not be started: {0}")]
    Threads(#[source] io::Error),
}

/// Why the cluster's metadata cannot be changed at present. Nothing was changed, unless the outcome is
/// unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataUnavailable {
    /// The metadata log is being read.
    #[error("the broker is starting; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Nobody leads the metadata at present.
    #[error("the brokers that decide about the cluster have no leader at present; try again")]
    NoLeader {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Too many changes at once.
    #[error("too many changes of the cluster are under way; try again")]
    Overloaded {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The disk has no space.
    #[error("the disk is full; the change was not stored, free space first")]
    DiskFull {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The metadata log could not be written.
    #[error("the metadata log cannot be written: {reason}")]
    Storage {
        /// The error.
        reason: String,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The change may or may not have been made.
    #[error("the metadata log was interrupted; whether the change was made is not known")]
    OutcomeUnknown {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Draining,
    /// The broker has failed and is about to end.
    #[error("the broker has failed: {0}")]
    Failed(Arc<FatalError>),
}

impl MetadataUnavailable {
    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotReady { retry_after_ms }
            | Self::NoLeader { retry_after_ms }
            | Self::Overloaded { retry_after_ms }
            | Self::DiskFull { retry_after_ms }
            | Self::Storage { retry_after_ms, .. }
            | Self::OutcomeUnknown { retry_after_ms } => Some(*retry_after_ms),
            Self::Draining | Self::Failed(_) => None,
        }
    }
}

/// `is_retriable` and `retry_after_ms` of errors that are retriable when the metadata is unavailable.
macro_rules! retriable_when_unavailable {
    ($($error:ty),+) => {$(
        impl $error {
            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_retriable(&self) -> bool {
                matches!(self, Self::Unavailable(_))
            }

            /// When to try again, in milliseconds, where that is known.
            #[must_use]
            pub const fn retry_after_ms(&self) -> Option<u64> {
                match self {
                    Self::Unavailable(error) => error.retry_after_ms(),
                    _ => None,
                }
            }
        }
    )+};
}

retriable_when_unavailable!(AlterTopicError, DeleteTopicError, ProducerIdError, ClusterChangeError);

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// Names that begin with `__` are the broker's own.
    #[error("{0} is not allowed: names that begin with __ belong to the broker")]
    Internal(TopicName),
    /// The name is in use.
    #[error("topic {0} exists already")]
    Exists(TopicName),
    /// A number or a setting that cannot be honoured.
    #[error("{0}")]
    Refused(MetadataError),
    /// Too few brokers live at present.
    #[error("{reason}; try again")]
    NoPlace {
        /// How many there must be.
        reason: String,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

impl CreateTopicError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::NoPlace { .. } | Self::Unavailable(_))
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NoPlace { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::Unavailable(error) => error.retry_after_ms(),
            _ => None,
        }
    }
}

/// Why the settings of a topic were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterTopicError {
    /// Names that begin with `__` are the broker's own.
    #[error("{0} is not allowed: names that begin with __ belong to the broker")]
    Internal(TopicName),
    /// No such topic.
    #[error("there is no topic {0}")]
    UnknownTopic(TopicName),
    /// A setting that cannot be honoured.
    #[error("{0}")]
    Refused(MetadataError),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// Names that begin with `__` are the broker's own.
    #[error("{0} is not allowed: names that begin with __ belong to the broker")]
    Internal(TopicName),
    /// No such topic.
    #[error("there is no topic {0}")]
    UnknownTopic(TopicName),
    /// A stream needs it.
    #[error("stream {stream} needs topic {topic}; delete the stream first")]
    InUse {
        /// The topic.
        topic: TopicName,
        /// The stream.
        stream: StreamName,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

/// Why no producer id was handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerIdError {
    /// There are none left.
    #[error("{0}")]
    Refused(MetadataError),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

/// Why brokers or partitions were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterChangeError {
    /// No such topic or partition.
    #[error(transparent)]
    Unknown(#[from] LookupError),
    /// No such broker.
    #[error("there is no broker {0}")]
    UnknownBroker(BrokerId),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The cluster is not in a state in which it can be done.
    #[error("{0}")]
    Refused(String),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

impl ClusterChangeError {
    pub(crate) fn unknown_topic(topic: &TopicName) -> Self {
        Self::Unknown(LookupError::UnknownTopic(topic.clone()))
    }
}
