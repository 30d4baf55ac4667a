//! The commands about streams.

use std::sync::Arc;

use super::{ClusterImage, MetadataError, check_text};
use crate::{
    StreamId, StreamName, TopicId,
    cluster::{
        STREAM_NAME_BYTES_MAX, STREAMS_MAX, StreamDefinition, StreamImage, StreamState, StreamStateKind,
        TEXT_BYTES_MAX, streams::PauseReason,
    },
    streams::document::limits::DOCUMENT_BYTES,
};

impl ClusterImage {
    pub(super) fn create_stream(
        &mut self,
        id: StreamId,
        name: &StreamName,
        generation: u32,
        definition: &StreamDefinition,
        created_ms: i64,
    ) -> Result<(), MetadataError> {
        if self.streams.contains_key(name) {
            return Err(MetadataError::StreamExists(name.clone()));
        }
        if self.stream_by_id(id).is_some() {
            return Err(MetadataError::StreamIdExists(id));
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(MetadataError::TooManyStreams);
        }
        if name.as_str().len() > STREAM_NAME_BYTES_MAX {
            return Err(MetadataError::StreamName(name.clone()));
        }
        self.check_definition(name, definition)?;
        let stream = StreamImage::new(id, name.clone(), generation, definition, created_ms);
        self.streams.insert(name.clone(), Arc::new(stream));
        Ok(())
    }

    /// The topics must be there, and as many partitions as the tasks need.
    fn check_definition(&self, stream: &StreamName, definition: &StreamDefinition) -> Result<(), MetadataError> {
        let StreamDefinition { document, input_topic, changelog, partials, output, late, partitions, shards } =
            definition;
        if !(1..=DOCUMENT_BYTES).contains(&document.len()) {
            return Err(MetadataError::StreamDocument { stream: stream.clone(), bytes: document.len() });
        }
        self.check_stream_topic(*output, None)?;
        self.check_stream_topic(*late, None)?;
        self.check_stream_topic(*input_topic, Some(*partitions))?;
        self.check_stream_topic(*changelog, Some(partitions.saturating_add(*shards)))?;
        match partials {
            Some(partials) => self.check_stream_topic(*partials, Some(*shards)),
            None if *shards > 0 => Err(MetadataError::NoPartials(stream.clone())),
            None => Ok(()),
        }
    }

    fn check_stream_topic(&self, id: TopicId, expected: Option<u32>) -> Result<(), MetadataError> {
        let topic = self.topic_by_id(id).ok_or(MetadataError::UnknownTopic(id))?;
        match expected.filter(|expected| usize::try_from(*expected) != Ok(topic.partitions.len())) {
            None => Ok(()),
            Some(expected) => {
                let partitions = topic.partitions.len();
                Err(MetadataError::StreamPartitions { topic: topic.name.clone(), partitions, expected })
            }
        }
    }

    fn stream_mut(&mut self, id: StreamId) -> Result<&mut StreamImage, MetadataError> {
        let stream = self.streams.values_mut().find(|stream| stream.id == id);
        stream.map(Arc::make_mut).ok_or(MetadataError::UnknownStream(id))
    }

    pub(super) fn set_stream_state(
        &mut self,
        id: StreamId,
        generation: u32,
        from: StreamStateKind,
        to: &StreamState,
    ) -> Result<(), MetadataError> {
        if let StreamState::Paused { reason: PauseReason::Failed { problem, .. } } = to {
            check_text("problem", problem, problem.len() <= TEXT_BYTES_MAX, "")?;
        }
        // Looked at before it is copied: the image of others may be the same.
        let stream = self.stream_by_id(id).ok_or(MetadataError::UnknownStream(id))?;
        let known = stream.generations().find(|known| known.generation == generation);
        let current = known.ok_or(MetadataError::UnknownGeneration { id, generation })?.state.kind();
        if current != from || current == StreamStateKind::Finished {
            return Err(MetadataError::StreamState { stream: stream.name.clone(), current });
        }
        if let Some(known) = self.stream_mut(id)?.generation_mut(generation) {
            known.state = to.clone();
        }
        Ok(())
    }

    pub(super) fn delete_stream(&mut self, id: StreamId, generation: Option<u32>) -> Result<(), MetadataError> {
        let stream = self.stream_by_id(id).ok_or(MetadataError::UnknownStream(id))?;
        let Some(generation) = generation else {
            let name = stream.name.clone();
            self.streams.remove(&name);
            return Ok(());
        };
        self.next_generation(id, generation)?;
        self.stream_mut(id)?.next = None;
        Ok(())
    }

    /// The generation that is to replace a stream, if it is this one.
    fn next_generation(&self, id: StreamId, generation: u32) -> Result<&StreamImage, MetadataError> {
        let stream = self.stream_by_id(id).ok_or(MetadataError::UnknownStream(id))?;
        let next = stream.next.as_deref().filter(|next| next.generation == generation);
        next.ok_or(MetadataError::UnknownGeneration { id, generation })
    }

    pub(super) fn replace_stream(
        &mut self,
        id: StreamId,
        generation: u32,
        definition: &StreamDefinition,
        created_ms: i64,
    ) -> Result<(), MetadataError> {
        let stream = self.stream_by_id(id).ok_or(MetadataError::UnknownStream(id))?;
        let name = stream.name.clone();
        if let Some(current) = stream.generations().map(|known| known.generation).max().filter(|at| generation <= *at) {
            return Err(MetadataError::StaleGeneration { stream: name, current, generation });
        }
        self.check_definition(&name, definition)?;
        let next = StreamImage::new(id, name, generation, definition, created_ms);
        self.stream_mut(id)?.next = Some(Box::new(next));
        Ok(())
    }

    pub(super) fn switch_stream(&mut self, id: StreamId, generation: u32) -> Result<(), MetadataError> {
        let next = self.next_generation(id, generation)?.clone();
        self.streams.insert(next.name.clone(), Arc::new(next));
        Ok(())
    }

    /// Refuses to delete a topic that a stream needs.
    pub(super) fn check_topic_is_free(&self, id: TopicId) -> Result<(), MetadataError> {
        match (self.topic_by_id(id), self.stream_using(id)) {
            (Some(topic), Some(stream)) => {
                Err(MetadataError::TopicInUse { topic: topic.name.clone(), stream: stream.name.clone() })
            }
            _ => Ok(()),
        }
    }
}
