//! Streams: queries over topics that the brokers run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ClusterImage;
use crate::{InvalidName, Offset, PartitionId, StreamId, StreamName, TopicId, TopicName};

/// The most bytes of the name of a stream that is registered: the names of its topics contain it.
pub const STREAM_NAME_BYTES_MAX: usize = 160;
/// The most streams of a cluster.
pub const STREAMS_MAX: usize = 1_000;

/// What a stream is made of: its declaration and its topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDefinition {
    /// The declaration, in its canonical form.
    pub document: String,
    /// The topic that it reads.
    pub input_topic: TopicId,
    /// The topic that holds the state of its tasks: a partition for each of them.
    pub changelog: TopicId,
    /// The topic by which its tasks hand on partial results, if there is a second stage.
    pub partials: Option<TopicId>,
    /// The topic of its rows.
    pub output: TopicId,
    /// The topic of the records that are in no window.
    pub late: TopicId,
    /// How many partitions the input has.
    pub partitions: u32,
    /// How many tasks the second stage has; 0 when there is none.
    pub shards: u32,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamImage {
    /// Its identity: a stream that was deleted and made again is another one.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// Which of its declarations this is. Later ones have greater numbers.
    pub generation: u32,
    /// The declaration, in its canonical form.
    #[serde(with = "shared_text")]
    pub document: Arc<str>,
    /// The topic that it reads.
    pub input_topic: TopicId,
    /// The topic that holds the state of its tasks: a partition for each of them.
    pub changelog: TopicId,
    /// The topic by which its tasks hand on partial results, if there is a second stage.
    pub partials: Option<TopicId>,
    /// The topic of its rows.
    pub output: TopicId,
    /// The topic of the records that are in no window.
    pub late: TopicId,
    /// How many partitions the input has.
    pub partitions: u32,
    /// How many tasks the second stage has; 0 when there is none.
    pub shards: u32,
    /// What it does.
    pub state: StreamState,
    /// When this generation was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// The generation that is to replace this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<StreamImage>>,
}

/// What a stream does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum StreamState {
    /// It reads and computes.
    Running,
    /// It does nothing until it is told to go on.
    Paused {
        /// Why.
        reason: PauseReason,
    },
    /// It has read what it was to read, and closed all windows.
    Finished,
}

/// Why a stream is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case", deny_unknown_fields)]
pub enum PauseReason {
    /// Somebody wanted it.
    Asked,
    /// Its tasks of one broker held more than they may.
    Memory {
        /// The task that held most: its partition of the changelog.
        task: PartitionId,
        /// How many bytes they held together.
        bytes: u64,
        /// How many they may hold.
        limit: u64,
    },
    /// Records were deleted before they were read.
    Gap {
        /// The partition of the input.
        partition: PartitionId,
        /// The record that it would have gone on with.
        expected: Offset,
        /// The oldest record that is there.
        log_start: Offset,
    },
    /// A task cannot go on.
    Failed {
        /// The task: its partition of the changelog.
        task: PartitionId,
        /// What is wrong, in words.
        problem: String,
    },
}

/// A stream's state without what belongs to it, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStateKind {
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// It has finished.
    Finished,
}

impl StreamStateKind {
    /// The state as a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }
}

impl StreamState {
    /// The state without what belongs to it.
    #[must_use]
    pub const fn kind(&self) -> StreamStateKind {
        match self {
            Self::Running => StreamStateKind::Running,
            Self::Paused { .. } => StreamStateKind::Paused,
            Self::Finished => StreamStateKind::Finished,
        }
    }
}

impl StreamImage {
    /// A generation of a stream, which runs from the beginning.
    #[must_use]
    pub fn new(
        id: StreamId,
        name: StreamName,
        generation: u32,
        definition: &StreamDefinition,
        created_ms: i64,
    ) -> Self {
        let StreamDefinition { document, input_topic, changelog, partials, output, late, partitions, shards } =
            definition;
        Self {
            id,
            name,
            generation,
            document: Arc::from(document.as_str()),
            input_topic: *input_topic,
            changelog: *changelog,
            partials: *partials,
            output: *output,
            late: *late,
            partitions: *partitions,
            shards: *shards,
            state: StreamState::Running,
            created_ms,
            next: None,
        }
    }

    /// This generation and the one that is to replace it.
    pub fn generations(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.next.as_deref())
    }

    /// The topics of this generation; the next one's are not among them.
    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        [self.input_topic, self.changelog, self.output, self.late].into_iter().chain(self.partials)
    }

    /// Whether this generation or the next one needs a topic.
    #[must_use]
    pub fn uses(&self, topic: TopicId) -> bool {
        self.generations().any(|generation| generation.topics().any(|used| used == topic))
    }

    /// How many tasks this generation has: as many as its changelog has partitions.
    #[must_use]
    pub const fn tasks(&self) -> u32 {
        self.partitions.saturating_add(self.shards)
    }

    pub(super) fn generation_mut(&mut self, generation: u32) -> Option<&mut Self> {
        if self.generation == generation {
            return Some(self);
        }
        self.next.as_deref_mut().filter(|next| next.generation == generation)
    }
}

/// The name of the changelog of a stream's generation.
///
/// # Errors
/// [`InvalidName`] when the stream's name is longer than [`STREAM_NAME_BYTES_MAX`], about.
pub fn changelog_topic(stream: &StreamName, generation: u32) -> Result<TopicName, InvalidName> {
    format!("__stream-{stream}-{generation}-changelog").parse()
}

/// The name of the topic of partial results of a stream's generation.
///
/// # Errors
/// [`InvalidName`] when the stream's name is longer than [`STREAM_NAME_BYTES_MAX`], about.
pub fn partials_topic(stream: &StreamName, generation: u32) -> Result<TopicName, InvalidName> {
    format!("__stream-{stream}-{generation}-partials").parse()
}

impl ClusterImage {
    /// The stream with this name.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<&Arc<StreamImage>> {
        self.streams.get(name)
    }

    /// The stream with this id.
    #[must_use]
    pub fn stream_by_id(&self, id: StreamId) -> Option<&Arc<StreamImage>> {
        self.streams.values().find(|stream| stream.id == id)
    }

    /// A stream that needs a topic.
    #[must_use]
    pub fn stream_using(&self, topic: TopicId) -> Option<&Arc<StreamImage>> {
        self.streams.values().find(|stream| stream.uses(topic))
    }
}

/// A text that images share.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}
