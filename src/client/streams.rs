//! What is asked and told about streams.

use pubg1_model::{StreamName, streams::document::StreamDocument};
use reqwest::Method;

use super::{
    Client, ClientError,
    call::Call,
    stream_reply::{StreamLine, StreamReply, WindowsReply},
};

impl Client {
    /// All streams.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn streams(&self) -> Result<Vec<StreamLine>, ClientError> {
        self.get("/streams").await
    }

    /// One stream.
    ///
    /// # Errors
    /// As [`Client::get`]; 404 when there is none.
    pub async fn stream(&self, stream: &StreamName) -> Result<StreamReply, ClientError> {
        self.get(&format!("/streams/{stream}")).await
    }

    /// Declares a stream. Without `append`, there must be nothing in the topics that it writes to.
    ///
    /// # Errors
    /// As [`Client::get`]; 409 when there is one of this name.
    pub async fn create_stream(&self, document: &StreamDocument, append: bool) -> Result<StreamReply, ClientError> {
        let path = if append { "/streams?append=true" } else { "/streams" };
        self.json(&Call::new(Method::POST, path).object(document.canonical().into_bytes())).await
    }

    /// Declares a stream anew. The same declaration changes nothing, so it may be sent twice.
    ///
    /// # Errors
    /// As [`Client::get`]; 404 when there is none of this name.
    pub async fn replace_stream(&self, document: &StreamDocument) -> Result<StreamReply, ClientError> {
        let call = Call::new(Method::PUT, format!("/streams/{}", document.name));
        self.json(&call.object(document.canonical().into_bytes()).again()).await
    }

    /// Has a stream stand still.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn pause_stream(&self, stream: &StreamName) -> Result<StreamReply, ClientError> {
        self.json(&Call::new(Method::POST, format!("/streams/{stream}/pause")).again()).await
    }

    /// Has a paused stream go on. One that runs stays so.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn resume_stream(&self, stream: &StreamName) -> Result<StreamReply, ClientError> {
        self.json(&Call::new(Method::POST, format!("/streams/{stream}/resume")).again()).await
    }

    /// Deletes a stream; the topics that it has written to stay.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete_stream(&self, stream: &StreamName) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/streams/{stream}"))).await.map(drop)
    }

    /// Windows of a stream; `wanted` are the parameters of the query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn windows(
        &self,
        stream: &StreamName,
        wanted: &[(&'static str, String)],
    ) -> Result<WindowsReply, ClientError> {
        let path = format!("/streams/{stream}/windows");
        let url = reqwest::Url::parse_with_params("http://broker", wanted);
        let query = url.ok().and_then(|url| url.query().map(|query| format!("?{query}"))).unwrap_or_default();
        self.get(&format!("{path}{query}")).await
    }
}
