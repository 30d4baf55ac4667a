//! What can be asked about streams, on any broker.

mod types;

use std::sync::Arc;

use pubg1_model::{StreamName, streams::document::StreamDocument};

use crate::{errors::StreamError, rpc::Services};

pub use types::{
    StreamDescription, StreamListing, StreamOutcomes, StreamPhase, StreamTask, StreamTaskKind, StreamTaskState,
    StreamTopics, WindowRow, WindowsAnswer, WindowsAsOf, WindowsQuery,
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

    fn not_ready<T>(&self) -> Result<T, StreamError> {
        Err(StreamError::NotReady { retry_after_ms: self.services.node.retry_after_ms() })
    }

    /// Declares a stream, creates its topics and starts it. Its output and late topics are used as they are when they
    /// exist already.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn create(&self, _document: StreamDocument) -> Result<StreamDescription, StreamError> {
        self.not_ready()
    }

    /// The streams of the cluster, by name. No other broker is asked.
    ///
    /// # Errors
    /// [`StreamError::NotReady`].
    pub fn list(&self) -> Result<Vec<StreamListing>, StreamError> {
        self.not_ready()
    }

    /// A stream, and what its tasks say; of a task that does not answer in time, nothing is known.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn describe(&self, _name: &StreamName) -> Result<StreamDescription, StreamError> {
        self.not_ready()
    }

    /// Has a stream stand still. Nothing that it knows is lost. One that is paused already stays so.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn pause(&self, _name: &StreamName) -> Result<StreamDescription, StreamError> {
        self.not_ready()
    }

    /// Has a paused stream go on where it stopped, whyever it did.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn resume(&self, _name: &StreamName) -> Result<StreamDescription, StreamError> {
        self.not_ready()
    }

    /// Deletes a stream and what it knows. Its output and late topics stay.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn delete(&self, _name: &StreamName) -> Result<(), StreamError> {
        self.not_ready()
    }

    /// Replaces the declaration of a stream: the next generation is computed beside the present one, from its own
    /// start, into topics of its own, and takes the name when it has caught up. The same declaration changes nothing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn replace(
        &self,
        _name: &StreamName,
        _document: StreamDocument,
    ) -> Result<StreamDescription, StreamError> {
        self.not_ready()
    }

    /// The windows of a stream: those that are open, as they are now, and those that are closed and still kept.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn windows(&self, _name: &StreamName, _query: WindowsQuery) -> Result<WindowsAnswer, StreamError> {
        self.not_ready()
    }
}

impl std::fmt::Debug for StreamsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsHandle").finish_non_exhaustive()
    }
}
