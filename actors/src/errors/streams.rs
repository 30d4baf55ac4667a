//! Errors of streams.

use std::sync::Arc;

use pubg1_model::{StreamName, TopicName, cluster::MetadataError, streams::document::DocumentError};

use super::{CreateTopicError, MetadataUnavailable};

/// Why a request for a stream was not carried out. Unless it is retriable, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No such stream.
    #[error("there is no stream {0}")]
    UnknownStream(StreamName),
    /// The name is in use.
    #[error("stream {0} exists already")]
    StreamExists(StreamName),
    /// There are records already in a topic that it would write to.
    #[error(
        "topic {0} is not empty: rows of this stream would be among what is there; name another topic, or say that it \
         shall append"
    )]
    OutputNotEmpty(TopicName),
    /// Whether a topic that it would write to is empty cannot be found out at present.
    #[error("topic {topic} does not tell whether it is empty; try again")]
    OutputUnavailable {
        /// The topic.
        topic: TopicName,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The declaration cannot be understood, or cannot be executed.
    #[error("the declaration of the stream is refused: {0}")]
    Document(#[from] DocumentError),
    /// The declaration is of another stream than the one that it shall replace.
    #[error("the declaration is of stream {declared}, not of {asked}")]
    OtherName {
        /// The stream that was asked for.
        asked: StreamName,
        /// The stream that is declared.
        declared: StreamName,
    },
    /// The topic that it reads does not exist.
    #[error("there is no topic {0} to read")]
    UnknownInput(TopicName),
    /// The topic belongs to the broker: it is neither read by streams nor written to by them.
    #[error("{0} is not allowed: topics whose names begin with __ belong to the broker")]
    Internal(TopicName),
    /// The time of a record shall be when the log took it, and the topic does not keep that.
    #[error(
        "topic {0} does not store when its records were appended: set its timestamp_type to log_append_time, or use \
         the record's own time"
    )]
    NoAppendTime(TopicName),
    /// The name is too long for the stream's own topics.
    #[error("the name of stream {name} has {bytes} bytes, at most {bytes_max} are possible")]
    NameTooLong {
        /// The name.
        name: StreamName,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The stream is not in a state in which this can be done.
    #[error("{0}")]
    State(String),
    /// The cluster does not accept it.
    #[error("{0}")]
    Refused(MetadataError),
    /// A topic of the stream could not be created.
    #[error("topic {topic} could not be created: {error}")]
    Topic {
        /// The topic.
        topic: TopicName,
        /// Why.
        error: Arc<CreateTopicError>,
    },
    /// The broker does not know its streams yet.
    #[error("the broker is starting; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The cluster cannot be changed at present.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

impl StreamError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NotReady { .. } | Self::OutputUnavailable { .. } | Self::Unavailable(_) => true,
            Self::Topic { error, .. } => error.is_retriable(),
            _ => false,
        }
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotReady { retry_after_ms } | Self::OutputUnavailable { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::Unavailable(error) => error.retry_after_ms(),
            Self::Topic { error, .. } => error.retry_after_ms(),
            _ => None,
        }
    }
}
