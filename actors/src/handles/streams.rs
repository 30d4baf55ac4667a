//! What can be asked about streams, on any broker.

mod types;

use std::sync::Arc;

use pubg1_model::{StreamName, streams::document::StreamDocument};

use crate::{errors::StreamError, rpc::Services, streams};

pub use types::{
    CreateStreamOptions, StreamDescription, StreamListing, StreamOutcomes, StreamPhase, StreamTask, StreamTaskKind,
    StreamTaskState, StreamTopics, WindowRow, WindowsAnswer, WindowsAsOf, WindowsQuery,
};

/// The streams of the cluster. Cheap to clone. Every method works on any broker.
#[derive(Clone)]
pub struct StreamsHandle {
    services: Arc<Services>,
}

impl StreamsHandle {
    pub(crate) const fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Declares a stream, creates its topics and starts it. Its output and late topics are used when they exist already
    /// and are empty, or shall be appended to.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn create(
        &self,
        document: StreamDocument,
        options: CreateStreamOptions,
    ) -> Result<StreamDescription, StreamError> {
        streams::create(&self.services, document, options).await
    }

    /// The streams of the cluster, by name. No other broker is asked.
    ///
    /// # Errors
    /// [`StreamError::NotReady`].
    pub fn list(&self) -> Result<Vec<StreamListing>, StreamError> {
        streams::list(&self.services)
    }

    /// A stream, and what its tasks say; of a task that does not answer in time, nothing is known.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn describe(&self, name: &StreamName) -> Result<StreamDescription, StreamError> {
        streams::describe(&self.services, name).await
    }

    /// Has a stream stand still. Nothing that it knows is lost. One that is paused already stays so.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn pause(&self, name: &StreamName) -> Result<StreamDescription, StreamError> {
        streams::pause(&self.services, name).await
    }

    /// Has a paused stream go on where it stopped, whyever it did.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn resume(&self, name: &StreamName) -> Result<StreamDescription, StreamError> {
        streams::resume(&self.services, name).await
    }

    /// Deletes a stream and what it knows. Its output and late topics stay.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn delete(&self, name: &StreamName) -> Result<(), StreamError> {
        streams::delete(&self.services, name).await
    }

    /// Replaces the declaration of a stream: the next generation is computed beside the present one, from its own
    /// start, into topics of its own, and takes the name when it has caught up. The same declaration changes nothing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn replace(&self, name: &StreamName, document: StreamDocument) -> Result<StreamDescription, StreamError> {
        streams::replace(&self.services, name, document).await
    }

    /// The windows of a stream: those that are open, as they are now, and those that are closed and still kept.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn windows(&self, name: &StreamName, query: WindowsQuery) -> Result<WindowsAnswer, StreamError> {
        streams::windows(&self.services, name, query).await
    }
}

impl std::fmt::Debug for StreamsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsHandle").finish_non_exhaustive()
    }
}
