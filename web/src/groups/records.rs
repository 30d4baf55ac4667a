//! `GET /groups/{group}/topics/{topic}/records`: consume as a member of a group with one call.
//!
//! The first request joins the group. Each answer has a token in the header `Consumer-Token`; the
//! next request shows it, and says by that which answer was received. A request that is repeated
//! with the same token gets the same records again. With `commit=auto` what was received is
//! committed before anything new is given.

use actix_web::http::header::{HeaderName, HeaderValue};
use pubg1_model::{GroupId, TopicName, consumer_instance::PollId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    events,
    member::{self, CONSUMER_TOKEN, CommitMode, Member, ResetMode, Terms},
};
use crate::{
    call::Call,
    consumers::{
        poll::{Ask, Polled, poll},
        receipt::Receipt,
        records::{refuse_head, reply},
    },
    dto::{ErrorBody, RecordEntry},
    edge::ApiResult,
    error::{ApiError, Cause},
    records::query::{Form, FormatName, ReadQuery, Representation, form},
};

/// The name by which the member can be taken out of its group.
const CONSUMER_MEMBER: HeaderName = HeaderName::from_static("consumer-member");
/// Sessions that are possible, in milliseconds.
const SESSION_MS: std::ops::RangeInclusive<u64> = 1_000..=1_800_000;

/// The query of `GET /groups/{group}/topics/{topic}/records`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupQuery {
    /// When there is nothing yet, wait this long: `5s`, `500ms`, or a number of seconds; 1 s when absent. At most 60 s.
    #[param(pattern = "^[0-9]{1,9}(ms|s)?$")]
    wait: Option<String>,
    /// Stop when about this much was read, but not before one record. At most 16 MiB.
    max_bytes: Option<usize>,
    /// Stop after this many records.
    #[param(minimum = 1)]
    max_records: Option<usize>,
    /// Whether the next request commits what the token says was received; `auto` when absent.
    #[param(inline)]
    commit: Option<CommitMode>,
    /// How keys and values are shown, if `Accept` shall not decide.
    #[param(inline)]
    format: Option<FormatName>,
    /// Where a group begins that has committed nothing; `earliest` when absent.
    #[param(inline)]
    auto_offset_reset: Option<ResetMode>,
    /// Without a request for this long the partitions of the member go to others. 45 s when absent, 10 s for an event
    /// stream.
    #[param(minimum = 1000, maximum = 1800000)]
    session_timeout_ms: Option<u64>,
}

/// A request, read.
pub(super) struct Request {
    pub(super) form: Form,
    pub(super) read: ReadQuery,
    pub(super) terms: Terms,
}

impl Request {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let query: GroupQuery = call.query()?;
        let form = form(call.accept(), query.format)?;
        let default = if form.representation == Representation::Events { 10_000 } else { 45_000 };
        let session_timeout_ms = query.session_timeout_ms.unwrap_or(default);
        if !SESSION_MS.contains(&session_timeout_ms) {
            return Err(ApiError::malformed("session_timeout_ms must be from 1000 to 1800000"));
        }
        let GroupQuery { wait, max_bytes, max_records, commit, auto_offset_reset, .. } = query;
        let read = ReadQuery { wait, max_bytes, max_records, ..ReadQuery::default() };
        read.wait(call.limits())?;
        read.max_records(call.limits())?;
        Ok(Self {
            form,
            read,
            terms: Terms { commit, reset: auto_offset_reset.unwrap_or_default(), session_timeout_ms },
        })
    }

    /// Reads for a member.
    pub(super) async fn poll(&self, call: &Call, member: &Member) -> Result<Polled, ApiError> {
        let form = |_: &_| Ok(self.form);
        let ask = Ask {
            acknowledged: member.acknowledged,
            wait: self.read.wait.as_ref().map(|_| self.read.wait(call.limits())).transpose()?,
            max_bytes: self.read.max_bytes(call.limits()),
            max_records: self.read.max_records(call.limits())?,
            form: &form,
        };
        poll(call, &member.consumer, &ask).await
    }
}

/// Reads records as a member of a consumer group, and joins it first if need be.
#[utoipa::path(
    get, path = "/groups/{group}/topics/{topic}/records", tag = "groups",
    params(("group" = String, Path, description = "The consumer group"), ("topic" = String, Path, description = "The topic"),
        GroupQuery,
        ("Consumer-Token" = Option<String>, Header, description = "The token of the last answer that was received; absent: join"),
        ("Last-Event-ID" = Option<String>, Header, description = "For event streams: the id of the last event that was seen")),
    responses(
        (status = 200, description = "The records; the header `Consumer-Token` is for the next request",
            headers(("Consumer-Token" = String), ("Consumer-Member" = String),
                ("Consumer-Generation" = u32, description = "The generation of the group in which the member was given this")),
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
    let (group, topic) = (call.group()?, call.topic()?);
    refuse_head(&call)?;
    let request = Request::of(&call)?;
    call.state.topic(&topic)?;
    if request.form.representation == Representation::Events {
        return events::stream(call, group, topic, request).await;
    }
    let (member, polled) = resume_or_join(&call, group, topic, &request).await?;
    answer(member, polled)
}

/// Polls as the member that the token names. One that has expired joins anew: what it had not committed comes again.
async fn resume_or_join(
    call: &Call,
    group: GroupId,
    topic: TopicName,
    request: &Request,
) -> Result<(Member, Polled), ApiError> {
    if let Some(token) = member::token(call, &group)? {
        let member = Member::resume(call, &token, topic.clone(), request.terms)?;
        match request.poll(call, &member).await {
            Err(error) if error.cause() == Cause::NoConsumer => {}
            polled => return Ok((member, polled?)),
        }
    }
    let member = Member::join(call, group, topic, request.terms).await?;
    let polled = request.poll(call, &member).await?;
    Ok((member, polled))
}

fn answer(mut member: Member, mut polled: Polled) -> ApiResult {
    // An empty answer is not worth a number of its own: the last one stays the last that was received.
    let received = if polled.is_delivered { polled.poll } else { member.acknowledged.unwrap_or(PollId::NONE) };
    let token = member.token(received).encode();
    let name = member.name().to_string();
    if let Some(joined) = member.joined.take() {
        let inner = polled.receipt.take();
        polled.receipt = Some(Receipt::new(move |received| {
            if let Some(inner) = inner {
                inner.settle(received);
            }
            joined.settle(received);
        }));
    }
    let mut reply = reply(polled);
    for (name, value) in [(CONSUMER_TOKEN, token), (CONSUMER_MEMBER, name)] {
        let value = HeaderValue::try_from(value)
            .map_err(|error| ApiError::new(Cause::Internal, format!("the header {name}: {error}")))?;
        reply.headers_mut().insert(name, value);
    }
    Ok(reply)
}
