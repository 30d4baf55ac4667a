//! NDJSON produce: lines come in, acknowledgements go out, in the same order, for as long as the
//! client sends.
//!
//! Each line is `{"key"?,"value","partition"?,"headers"?,"timestamp"?}`; a key that is a string is
//! stored as its text, other keys and all values as compact JSON. For each line that is not blank
//! one line comes back: `{"partition","offset","leader","leader_epoch"}`, or
//! `{"error_code","message","line"}`.
//!
//! What has arrived is appended together, one batch a partition, and nothing more is read before
//! that is answered: so batches grow with the latency of the log, the order of lines is the order
//! of offsets, and a fast client is held back by TCP and not by memory. A line that cannot be read
//! is answered and passed over. When an append fails, the lines after it are answered but not
//! written, because writing them would change the order.
//!
//! With `Producer-Id`, `Producer-Epoch` and `Producer-Seq` all lines go to one partition and have
//! consecutive sequences. A client that lost the connection sends again from the first line that
//! was not acknowledged, with that line's sequence. Lines that turn out to be in the log already
//! are acknowledged with `"duplicate":true`, and with their offset where it is still known, else
//! `"offset":null`. After any error the remaining lines are not written.

mod acks;
mod group;
mod known;
mod source;

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
};
use bytes::Bytes;
use futures_util::stream;
use pubg1_actors::Acks;
use pubg1_metrics::Api;
use pubg1_model::{PartitionId, cluster::TopicImage, record_batch::ProducerIdentity};

use self::{group::Group, source::Source};
use crate::{
    call::Call,
    edge::ApiResult,
    error::ApiError,
    media_type::NDJSON,
    produce::{
        options::{ProduceQuery, producer_identity},
        partitioning::Partitioner,
    },
    state::AppState,
};

/// One open produce stream.
pub(crate) struct Lines {
    state: Arc<AppState>,
    topic: Arc<TopicImage>,
    path: Option<PartitionId>,
    acks: Acks,
    /// Of the next line.
    identity: Option<ProducerIdentity>,
    /// With an identity: where all lines go.
    bound_to: Option<PartitionId>,
    /// Why lines are no longer written.
    broken: Option<ApiError>,
    source: Source,
    ended: bool,
}

/// Answers with a stream of acknowledgements. What can be refused as a whole is refused here.
pub(crate) fn produce(call: Call, topic: Arc<TopicImage>, path: Option<PartitionId>) -> ApiResult {
    let acks = call.query::<ProduceQuery>()?.acks()?;
    let identity = producer_identity(call.headers())?;
    Partitioner::new(&call.state, &topic, path, identity.is_some())?;
    let source = Source::new(call.payload, call.req.headers(), &call.state.limits)?;
    let lines =
        Lines { state: call.state, topic, path, acks, identity, bound_to: None, broken: None, source, ended: false };
    let body = stream::unfold(lines, |mut lines| async move {
        let acks = lines.next().await?;
        Some((Ok::<_, ApiError>(acks), lines))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, NDJSON))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .streaming(body))
}

impl Lines {
    const API: Api = Api::ProduceNdjson;

    /// The acknowledgements of the lines that arrive next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let mut output = Vec::new();
            match self.source.next_lines().await {
                Ok(lines) if lines.is_empty() => self.ended = true,
                Ok(lines) => Group::new(self, lines).append(&mut output).await,
                Err(error) => {
                    // The body itself is broken: there is no next line.
                    self.ended = true;
                    acks::refused(&mut output, &error, self.source.line_number());
                }
            }
            if !output.is_empty() {
                return Some(output.into());
            }
        }
        None
    }
}
