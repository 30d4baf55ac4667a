//! `GET /topics/{topic}/partitions/{partition}/records`: stateless reads, as a list, as lines, or
//! as server-sent events. `DELETE` on the same path cuts off the beginning.

pub(crate) mod events;
pub(crate) mod fetch;
pub(crate) mod query;
pub(crate) mod render;
pub(crate) mod walk;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
};
use pubg1_actors::{Fetched, ReplicaBatches};
use pubg1_model::{BrokerId, LeaderEpoch, Offset};
use serde::Deserialize;
use utoipa::IntoParams;

use self::{
    query::{Form, ReadQuery, Representation},
    render::Renderer,
    walk::{Item, Step, walk},
};
use crate::{
    call::Call,
    dto::{DeletedRecords, ErrorBody, RecordEntry},
    edge::ApiResult,
    error::{ApiError, Cause},
    reply,
    state::refuse_internal,
};

pub(crate) const NEXT_OFFSET: HeaderName = HeaderName::from_static("next-offset");
pub(crate) const HIGH_WATERMARK: HeaderName = HeaderName::from_static("high-watermark");
pub(crate) const LOG_START_OFFSET: HeaderName = HeaderName::from_static("log-start-offset");
const LEADER_EPOCH: HeaderName = HeaderName::from_static("leader-epoch");
const REPLICA: HeaderName = HeaderName::from_static("replica");
const LEADER: HeaderName = HeaderName::from_static("leader");

/// Reads records of a partition.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}/records",
    tag = "records",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition"),
        ReadQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "For event streams: the last offset that was seen")),
    responses(
        (status = 200, description = "The records; the header `Next-Offset` says where to go on",
            headers(("Next-Offset" = i64), ("High-Watermark" = i64), ("Log-Start-Offset" = i64), ("Leader" = i64), ("Leader-Epoch" = i64)),
            content((Vec<RecordEntry> = "application/vnd.kafka.binary.v2+json"),
                (Vec<RecordEntry> = "application/vnd.kafka.json.v2+json"),
                (Vec<RecordEntry> = "application/vnd.kafka.text.v2+json"),
                (Vec<RecordEntry> = "application/json"),
                (String = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let query: ReadQuery = call.query()?;
    let form = query::form(call.accept(), query.format)?;
    let start = query.start()?;
    let (wait, max_records) = (query.wait(call.limits())?, query.max_records(call.limits())?);
    let handle = call.state.partition(&topic, partition)?;
    if form.representation == Representation::Events {
        return events::stream(call, topic, partition, handle, form.format, start, &query).await;
    }
    let from = fetch::resolve(&handle, start).await?;
    let max_bytes = query.max_bytes(call.limits());
    let fetched = fetch::fetch(&call, &handle, from, max_bytes, wait).await?;
    let renderer = match form.representation {
        Representation::List => Renderer::list(&topic, partition, form.format),
        _ => Renderer::line(&topic, partition, form.format),
    };
    let page = Page { form, renderer, max_bytes, max_records, output_bytes_max: call.limits().decompressed_bytes_max };
    page.render(&fetched, from)
}

/// One reply of a bounded read.
struct Page<'t> {
    form: Form,
    renderer: Renderer<'t>,
    max_bytes: usize,
    max_records: usize,
    output_bytes_max: usize,
}

impl Page<'_> {
    fn render(&self, fetched: &Fetched, from: Offset) -> ApiResult {
        let lines = self.form.representation == Representation::Lines;
        let mut body = Vec::new();
        if !lines {
            body.push(b'[');
        }
        let mut records = 0_usize;
        let next = walk(&fetched.runs, from, self.output_bytes_max, |item| {
            if records == self.max_records || (records > 0 && body.len() >= self.max_bytes) {
                return Ok(Step::StopBefore);
            }
            if records > 0 && !lines {
                body.push(b',');
            }
            let written = match item {
                Item::Record(record) => self.renderer.write(&record, &mut body),
                Item::Undecodable { offset, next, error } => Err(undecodable(offset, next, &error)),
            };
            match written {
                Ok(()) => {}
                Err(error) if lines => {
                    body.extend_from_slice(serde_json::Value::Object(error.to_json()).to_string().as_bytes());
                }
                // The records before it are good; the next read meets it first and says so.
                Err(_) if records > 0 => {
                    body.pop();
                    return Ok(Step::StopBefore);
                }
                Err(error) => return Err(error),
            }
            if lines {
                body.push(b'\n');
            }
            records += 1;
            Ok(Step::On)
        })?;
        if !lines {
            body.push(b']');
        }
        let mut reply = HttpResponse::Ok();
        reply.insert_header((header::CONTENT_TYPE, self.form.media_type));
        for (name, value) in position_headers(fetched, next) {
            reply.insert_header((name, value));
        }
        Ok(reply.body(body))
    }
}

/// Where the log is, and where to go on.
pub(crate) fn position_headers(fetched: &Fetched, next: Offset) -> [(HeaderName, HeaderValue); 6] {
    let [leader, leader_epoch] = leadership_headers(fetched.leader, fetched.leader_epoch);
    [
        leader,
        leader_epoch,
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (NEXT_OFFSET, HeaderValue::from(next.get())),
        (HIGH_WATERMARK, HeaderValue::from(fetched.high_watermark.get())),
        (LOG_START_OFFSET, HeaderValue::from(fetched.log_start_offset.get())),
    ]
}

/// Who answered, and in which epoch.
fn leadership_headers(leader: BrokerId, epoch: LeaderEpoch) -> [(HeaderName, HeaderValue); 2] {
    [(LEADER, HeaderValue::from(leader.0)), (LEADER_EPOCH, HeaderValue::from(epoch.get()))]
}

/// Says who answered, and in which epoch.
pub(crate) fn state_leadership(reply: &mut HttpResponse, leader: BrokerId, epoch: LeaderEpoch) {
    for (name, value) in leadership_headers(leader, epoch) {
        reply.headers_mut().insert(name, value);
    }
}

/// Where the log of one replica is, and where to go on.
pub(crate) fn replica_headers(replica: BrokerId, read: &ReplicaBatches) -> [(HeaderName, HeaderValue); 6] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (NEXT_OFFSET, HeaderValue::from(read.next_offset.get())),
        (HIGH_WATERMARK, HeaderValue::from(read.high_watermark.get())),
        (LOG_START_OFFSET, HeaderValue::from(read.log_start_offset.get())),
        (REPLICA, HeaderValue::from(replica.0)),
        (LEADER_EPOCH, HeaderValue::from(read.leader_epoch.get())),
    ]
}

/// A batch whose producer wrote what cannot be read.
pub(crate) fn undecodable(offset: Offset, next: Offset, error: &dyn std::fmt::Display) -> ApiError {
    let message = format!("the batch with offset {offset} cannot be decoded: {error}; go on at offset {next}");
    ApiError::new(Cause::Undecodable, message).with("offset", offset.get()).with("next_offset", next.get())
}

/// The query of `DELETE …/records`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Records below this offset are deleted; at most the high watermark.
    before: u64,
}

/// Deletes the records of a partition below an offset.
#[utoipa::path(
    delete,
    path = "/topics/{topic}/partitions/{partition}/records",
    tag = "records",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition"), DeleteQuery),
    responses(
        (status = 200, description = "Where the partition begins now",
            headers(("Leader" = i64), ("Leader-Epoch" = i64)), body = DeletedRecords),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let query: DeleteQuery = call.query()?;
    refuse_internal(&topic)?;
    let handle = call.state.partition(&topic, partition)?;
    let deleted = handle.delete_records_before(Offset::new(query.before)).await?;
    let mut reply = reply::json(&DeletedRecords { beginning_offset: deleted.log_start_offset.get() })?;
    state_leadership(&mut reply, deleted.leader, deleted.leader_epoch);
    Ok(reply)
}
