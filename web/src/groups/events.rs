//! A group's topic as server-sent events: the stream is a member, and goes on as records come.
//!
//! | event | data | when |
//! |---|---|---|
//! | `record` | the record | for each record |
//! | `control` | `{"records"}` | at the start, and after the records of each delivery |
//! | `error` | `{"error_code","message",…}` | for a record that cannot be decoded, and as the last event when the stream cannot go on |
//!
//! `id:` stands at `control` events only and is a consumer token. A client that comes back with
//! `Last-Event-ID` goes on after the delivery that it has seen the end of: the token says where the
//! member was then, so that what was written to a broken connection is sent again. In partitions that
//! it does not name the member began later, and goes back to there.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, http::header};
use bytes::Bytes;
use futures_util::stream;
use pubg1_model::{GroupId, Offset, TopicName, TopicPartition, consumer_instance::PollId};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    member::{self, Member},
    records::Request,
    token::Token,
};
use crate::{
    call::Call,
    consumers::poll::Polled,
    edge::ApiResult,
    error::{ApiError, Cause},
    limits::Permit,
    media_type::EVENTS,
    records::fetch::waiting_permit,
};

/// A client that lost its connection comes back after this time.
const RETRY: &[u8] = b"retry: 1000\n\n";
/// When the group cannot be served, it is asked again after this time.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// One open event stream.
struct Tail {
    call: Call,
    request: Request,
    member: Member,
    /// Where the member is in the partitions that it has had, for the token.
    positions: BTreeMap<TopicPartition, Offset>,
    ends: Instant,
    phase: Phase,
    _permit: Permit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    On,
    Ended,
}

/// Answers with an event stream.
pub(super) async fn stream(call: Call, group: GroupId, topic: TopicName, mut request: Request) -> ApiResult {
    let permit = waiting_permit(&call)?;
    // A stream says that it lives at least this often.
    request.read.wait = Some(format!("{}ms", call.limits().event_ping.as_millis()));
    let (member, positions) = resume_or_join(&call, group, topic, &request).await?;
    let ends = Instant::now() + call.limits().event_stream_age_max;
    let tail = Tail { call, request, member, positions, ends, phase: Phase::Start, _permit: permit };
    let body = stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next().await?;
        Some((Ok::<_, ApiError>(chunk), tail))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, EVENTS))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

async fn resume_or_join(
    call: &Call,
    group: GroupId,
    topic: TopicName,
    request: &Request,
) -> Result<(Member, BTreeMap<TopicPartition, Offset>), ApiError> {
    if let Some(token) = member::token(call, &group)? {
        let member = Member::resume(call, &token, topic.clone(), request.terms)?;
        match rewind(&member, &token).await {
            Err(error) if error.cause() == Cause::NoConsumer => {}
            rewound => {
                rewound?;
                return Ok((member, token.positions.into_iter().collect()));
            }
        }
    }
    Ok((Member::join(call, group, topic, request.terms).await?, BTreeMap::new()))
}

/// Sends the member back to where it was when the client has seen the last event, in the partitions that it still has.
/// In one that the token does not name all that it was given came later: there it goes back to where it began.
async fn rewind(member: &Member, token: &Token) -> Result<(), ApiError> {
    if token.positions.is_empty() {
        // Not of a stream: who asks by single calls has had no more than the token says.
        return Ok(());
    }
    let instance = member.consumer.groups.instance(&member.consumer.group, &member.consumer.name).await?;
    let seen: BTreeMap<&TopicPartition, Offset> = token.positions.iter().map(|(place, at)| (place, *at)).collect();
    let back = |(place, at): &(TopicPartition, Offset)| {
        // Nobody is sent back below where it began.
        let seen = seen.get(place).copied().unwrap_or(Offset::ZERO);
        (seen < *at && instance.assignment.contains(place)).then(|| (place.clone(), seen))
    };
    let back: Vec<(TopicPartition, Offset)> = instance.positions.iter().filter_map(back).collect();
    if !back.is_empty() {
        member.consumer.groups.seek(&member.consumer.group, &member.consumer.name, back).await?;
    }
    Ok(())
}

impl Tail {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Ended => None,
            Phase::Start => {
                self.phase = Phase::On;
                let mut output = RETRY.to_vec();
                self.control(0, self.member.acknowledged, &mut output);
                Some(output.into())
            }
            Phase::On => Some(self.step().await.unwrap_or_else(|error| self.end(&error))),
        }
    }

    async fn step(&mut self) -> Result<Bytes, ApiError> {
        // The connection writes out what it has when a body has nothing to add. Only then the piece before this one
        // counts as received, and a stream whose connection is broken does not come so far.
        tokio::task::yield_now().await;
        if let Some(joined) = self.member.joined.take() {
            joined.settle(true);
        }
        if Instant::now() >= self.ends {
            return Ok(self.part());
        }
        let polled = match self.request.poll(&self.call, &self.member).await {
            Err(error) if error.cause() == Cause::Draining => return Ok(self.part()),
            Err(error) if error.cause().row().retry_after_s.is_some() => {
                tracing::debug!(group = %self.member.consumer.group, %error, "an event stream waits");
                sleep(PAUSE).await;
                return Ok(Bytes::from_static(b": waiting\n\n"));
            }
            polled => polled?,
        };
        Ok(self.show(polled))
    }

    /// Ends the stream without an error: a client that comes back goes on where it was.
    fn part(&mut self) -> Bytes {
        self.phase = Phase::Ended;
        Bytes::from_static(b": come back\n\n")
    }

    fn show(&mut self, polled: Polled) -> Bytes {
        let Polled { poll, body: mut output, records, is_delivered, positions, receipt, .. } = polled;
        if let Some(receipt) = receipt {
            // The next poll, or the client when it comes back, says what was received.
            receipt.settle(true);
        }
        // One that did not answer is where it was.
        self.positions.extend(positions);
        if is_delivered {
            self.member.acknowledged = Some(poll);
        }
        if records == 0 {
            return Bytes::from_static(b": ping\n\n");
        }
        self.control(records, Some(poll), &mut output);
        output.into()
    }

    /// Ends a delivery, or says that the stream begins.
    fn control(&self, records: usize, received: Option<PollId>, output: &mut Vec<u8>) {
        if let Some(received) = received {
            let positions = self.positions.iter().map(|(place, at)| (place.clone(), *at)).collect();
            let token = Token { positions, ..self.member.token(received) };
            output.extend_from_slice(format!("id: {}\n", token.encode()).as_bytes());
        }
        output.extend_from_slice(format!("event: control\ndata: {{\"records\":{records}}}\n\n").as_bytes());
    }

    /// The last event of a stream that cannot go on.
    fn end(&mut self, error: &ApiError) -> Bytes {
        self.phase = Phase::Ended;
        let data = Value::Object(error.to_json());
        Bytes::from(format!("event: error\ndata: {data}\n\n"))
    }
}
