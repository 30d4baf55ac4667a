//! What brokers ask each other about streams, and the answers. Bytes of states travel as payload.

use std::time::Duration;

use bytes::Bytes;
use pubg1_model::{Offset, PartitionId, TopicId};
use pubg1_transport::{ControlError, Payload, Request, Response};
use serde::{Deserialize, Serialize};

use super::{
    describe::reports_here,
    times::times_here,
    windows::{OpenParts, OpenQuery, TaskRows, TaskWindowsQuery, open_here, windows_here},
};
use crate::{
    handles::WindowsAsOf,
    replica_states::PartitionKey,
    rpc::{self, Services, respond},
};

/// The kinds of these requests.
pub(super) mod kind {
    /// How far the tasks of a changelog are.
    pub(in crate::streams) const TIMES: u16 = 50;
    /// What the tasks of a changelog do.
    pub(in crate::streams) const STATUS: u16 = 51;
    /// The windows of a task.
    pub(in crate::streams) const WINDOWS: u16 = 52;
    /// What a task of a first stage has open.
    pub(in crate::streams) const OPEN: u16 = 53;
}

/// How long an answer may take: a task may have to commit before.
const WINDOWS_TIMEOUT: Duration = Duration::from_secs(8);

/// The windows of a task. What partitions have open is payload, one after the other, each with its length here. Answered
/// with an `Option<TaskRows>`.
#[derive(Debug, Serialize, Deserialize)]
struct AskWindows {
    changelog: TopicId,
    partition: PartitionId,
    query: TaskWindowsQuery,
    parts: Vec<(u32, u64)>,
    past: Offset,
}

/// What a task has open; answered with an `Option<OpenAnswer>`.
#[derive(Debug, Serialize, Deserialize)]
struct AskOpen {
    changelog: TopicId,
    partition: PartitionId,
    query: OpenQuery,
}

/// The lengths of the parts, which are payload.
#[derive(Debug, Serialize, Deserialize)]
struct OpenAnswer {
    lengths: Vec<u64>,
    as_of: Option<WindowsAsOf>,
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Cuts a payload; `None` when the lengths are not those of its parts.
fn cut(mut payload: Bytes, lengths: impl IntoIterator<Item = u64>) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    for length in lengths {
        let length = usize::try_from(length).ok().filter(|length| *length <= payload.len())?;
        parts.push(payload.split_to(length).to_vec());
    }
    payload.is_empty().then_some(parts)
}

/// Asks the task of a changelog's partition for windows, where it runs.
pub(super) async fn ask_windows(
    services: &Services,
    key: PartitionKey,
    query: &TaskWindowsQuery,
    open: &[(u32, Vec<u8>)],
    past: Offset,
) -> Option<TaskRows> {
    let leader = services.metadata.image().partition_by_id(key.0, key.1)?.leader?;
    if leader == services.node.config.broker_id {
        return windows_here(&services.streams, key, query.clone(), open.to_vec(), past).await;
    }
    let parts = open.iter().map(|(partition, part)| (*partition, length(part))).collect();
    let payload = Payload::from(Bytes::from(open.iter().flat_map(|(_, part)| part).copied().collect::<Vec<u8>>()));
    let ask = AskWindows { changelog: key.0, partition: key.1, query: query.clone(), parts, past };
    let asked = services.node.rpc.call(leader, kind::WINDOWS, &ask, payload, WINDOWS_TIMEOUT).await;
    asked.ok().and_then(|(rows, _)| rows)
}

/// Asks the task of a changelog's partition what it has open, where it runs.
pub(super) async fn ask_open(services: &Services, key: PartitionKey, query: OpenQuery) -> Option<OpenParts> {
    let leader = services.metadata.image().partition_by_id(key.0, key.1)?.leader?;
    if leader == services.node.config.broker_id {
        return open_here(&services.streams, key, query).await;
    }
    let ask = AskOpen { changelog: key.0, partition: key.1, query };
    let asked = services.node.rpc.call(leader, kind::OPEN, &ask, Payload::empty(), WINDOWS_TIMEOUT).await;
    let (answer, payload): (Option<OpenAnswer>, Bytes) = asked.ok()?;
    let OpenAnswer { lengths, as_of } = answer?;
    Some(OpenParts { parts: cut(payload, lengths)?, as_of })
}

/// Answers a request about streams that came from another broker.
pub(crate) async fn answer(services: &Services, request: Request) -> Response {
    answered(services, request).await.unwrap_or_else(|error| rpc::not_understood(&error))
}

async fn answered(services: &Services, request: Request) -> Result<Response, ControlError> {
    let (tasks, of) = (&services.streams, request.kind);
    Ok(match of {
        kind::TIMES => respond(of, &times_here(tasks, request.decode()?).await),
        kind::STATUS => respond(of, &reports_here(tasks, request.decode()?).await),
        kind::WINDOWS => {
            let AskWindows { changelog, partition, query, parts, past } = request.decode()?;
            let Some(bytes) = cut(request.payload.into_bytes(), parts.iter().map(|(_, length)| *length)) else {
                return Ok(rpc::unknown());
            };
            let open = parts.into_iter().map(|(partition, _)| partition).zip(bytes).collect();
            respond(of, &windows_here(tasks, (changelog, partition), query, open, past).await)
        }
        kind::OPEN => {
            let AskOpen { changelog, partition, query } = request.decode()?;
            match open_here(tasks, (changelog, partition), query).await {
                Some(OpenParts { parts, as_of }) => {
                    let lengths = parts.iter().map(|part| length(part)).collect();
                    let payload = Payload::from(Bytes::from(parts.concat()));
                    respond(of, &Some(OpenAnswer { lengths, as_of })).with_payload(payload)
                }
                None => respond(of, &None::<OpenAnswer>),
            }
        }
        _ => rpc::unknown(),
    })
}
