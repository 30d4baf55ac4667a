//! Which partition a record goes to: the one it names, the one the path names, the one its key
//! hashes to, or, for the rest of a request together, the next one in turn.

use pubg1_model::{PartitionId, TopicName, cluster::TopicImage, partitioner::partition_for_key};

use super::{envelope::IncomingRecord, options::needs_one_partition};
use crate::{
    error::{ApiError, Cause},
    state::{AppState, no_partition},
};

/// Chooses partitions for the records of one request, or of one group of lines.
pub(crate) struct Partitioner<'a> {
    state: &'a AppState,
    topic: &'a TopicName,
    partitions: u32,
    path: Option<PartitionId>,
    /// With an identity nothing may depend on whose turn it is: a retry must go the same way.
    idempotent: bool,
    /// The partition of this request's records that have no key.
    turn: Option<PartitionId>,
    first: Option<PartitionId>,
}

impl<'a> Partitioner<'a> {
    pub(crate) fn new(
        state: &'a AppState,
        topic: &'a TopicImage,
        path: Option<PartitionId>,
        idempotent: bool,
    ) -> Result<Self, ApiError> {
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        if let Some(path) = path.filter(|path| path.0 >= partitions) {
            return Err(no_partition(&topic.name, path));
        }
        Ok(Self { state, topic: &topic.name, partitions, path, idempotent, turn: None, first: None })
    }

    /// With an identity: the partition that an earlier group went to.
    pub(crate) fn bound_to(mut self, first: Option<PartitionId>) -> Self {
        self.first = first;
        self
    }

    /// The partition of this record.
    pub(crate) fn choose(&mut self, record: &IncomingRecord<'_>) -> Result<PartitionId, ApiError> {
        let chosen = match (record.partition.map(PartitionId), self.path, &record.key) {
            (Some(named), Some(path), _) if named != path => {
                let message = format!("the record names partition {named}, the path names {path}");
                return Err(ApiError::new(Cause::Unprocessable, message));
            }
            (Some(named), ..) if named.0 >= self.partitions => return Err(no_partition(self.topic, named)),
            (Some(named), ..) => named,
            (None, Some(path), _) => path,
            (None, None, Some(key)) => partition_for_key(key, self.partitions),
            (None, None, None) if self.idempotent => return Err(needs_one_partition()),
            (None, None, None) => *self.turn.get_or_insert_with(|| self.state.next_partition(self.partitions)),
        };
        if self.idempotent && *self.first.get_or_insert(chosen) != chosen {
            return Err(needs_one_partition());
        }
        Ok(chosen)
    }
}
