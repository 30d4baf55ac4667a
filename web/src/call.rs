//! A request in hand: path, query, headers and body, each read with errors in the API's own form.

use std::{future::Future, sync::Arc, time::Instant};

use actix_web::{
    HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap, HeaderName},
    web::Query,
};
use pubg1_metrics::{Api, Phase, RequestMetrics, ThrottleReason};
use pubg1_model::{BrokerId, GroupId, InstanceName, PartitionId, StreamName, TopicName};
use serde::de::DeserializeOwned;

use crate::{
    body::{self, Body},
    error::{ApiError, Cause},
    json_text,
    limits::Limits,
    media_type,
    routes::{Route, path_of},
    state::AppState,
};

/// One request on its way through a handler.
pub(crate) struct Call {
    pub(crate) state: Arc<AppState>,
    pub(crate) req: HttpRequest,
    pub(crate) payload: Payload,
    pub(crate) api: Api,
    /// The route that took the path, if one did.
    pub(crate) route: Option<&'static Route>,
}

impl Call {
    pub(crate) fn limits(&self) -> &Limits {
        &self.state.limits
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.req.headers()
    }

    pub(crate) fn metrics(&self) -> &RequestMetrics {
        self.state.metrics.requests(self.api)
    }

    /// A header's text; `None` when it is absent.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        // What is no visible ASCII means nothing to any header of this API.
        self.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
    }

    pub(crate) fn accept(&self) -> Option<&str> {
        self.header(&header::ACCEPT)
    }

    /// The media type for a v2 management reply, negotiated.
    pub(crate) fn management_type(&self) -> Result<&'static str, ApiError> {
        media_type::management(self.accept())
    }

    fn segment(&self, name: &str) -> &str {
        self.route.map_or("", |route| route.segment(path_of(&self.req), name))
    }

    /// The topic that the path names.
    pub(crate) fn topic(&self) -> Result<TopicName, ApiError> {
        topic_name(self.segment("topic"))
    }

    /// The partition that the path names. What is no number names nothing: 404.
    pub(crate) fn partition(&self) -> Result<PartitionId, ApiError> {
        let text = self.segment("partition");
        text.parse()
            .map(PartitionId)
            .map_err(|_| ApiError::new(Cause::NoRoute, format!("{text:?} is not the number of a partition")))
    }

    /// The broker that the path names. What is no number names nothing: 404.
    pub(crate) fn broker(&self) -> Result<BrokerId, ApiError> {
        let text = self.segment("broker");
        text.parse()
            .map(BrokerId)
            .map_err(|_| ApiError::new(Cause::NoBroker, format!("{text:?} is not the number of a broker")))
    }

    /// The consumer group that the path names.
    pub(crate) fn group(&self) -> Result<GroupId, ApiError> {
        group_id(self.segment("group"))
    }

    /// The consumer instance that the path names. A name that no instance can have is unknown.
    pub(crate) fn instance(&self) -> Result<InstanceName, ApiError> {
        let text = self.segment("instance");
        let unknown = |error| ApiError::new(Cause::NoConsumer, format!("there is no instance {text:?}: {error}"));
        text.parse().map_err(unknown)
    }

    /// The stream that the path names.
    pub(crate) fn stream(&self) -> Result<StreamName, ApiError> {
        stream_name(self.segment("stream"))
    }

    /// The member of a consumer group that the path names.
    pub(crate) fn member(&self) -> &str {
        self.segment("member")
    }

    /// The file below `/docs/`.
    pub(crate) fn tail(&self) -> &str {
        self.segment("file")
    }

    /// The query parameters; unknown ones are ignored, as HTTP APIs do.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        Query::<T>::from_query(self.req.query_string())
            .map(Query::into_inner)
            .map_err(|error| ApiError::malformed(format!("the query cannot be read: {error}")))
    }

    /// The whole body.
    pub(crate) async fn body(&mut self) -> Result<Body, ApiError> {
        let read = body::read(&mut self.payload, self.req.headers(), &self.state.limits, &self.state.bodies).await;
        read.inspect_err(|error| {
            if error.cause() == Cause::Overloaded {
                self.state.metrics.throttled(ThrottleReason::Bytes);
            }
        })
    }

    /// The whole body as one JSON object, whatever its content type says.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        json_text::parse_object(&self.body().await?)
    }

    /// Awaits `work` and counts its time as a phase of this request.
    pub(crate) async fn timed<F: Future>(&self, phase: Phase, work: F) -> F::Output {
        let started = Instant::now();
        let output = work.await;
        self.metrics().observe_phase(phase, started.elapsed());
        output
    }
}

/// Reads a group's name.
pub(crate) fn group_id(text: &str) -> Result<GroupId, ApiError> {
    text.parse().map_err(|error| ApiError::new(Cause::InvalidName, format!("group {text:?}: {error}")))
}

/// Reads a stream's name.
pub(crate) fn stream_name(text: &str) -> Result<StreamName, ApiError> {
    text.parse().map_err(|error| ApiError::new(Cause::InvalidName, format!("stream {text:?}: {error}")))
}

/// Reads a topic's name.
pub(crate) fn topic_name(text: &str) -> Result<TopicName, ApiError> {
    text.parse().map_err(|error| ApiError::new(Cause::InvalidName, format!("topic {text:?}: {error}")))
}
