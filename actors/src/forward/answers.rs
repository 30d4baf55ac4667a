//! The receiving end: answers from the replica here, and never sends anything on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pubg1_model::{BrokerId, record_batch::ValidBatch};
use pubg1_transport::{ControlError, Payload, Peer, Request, Response};
use tokio::time::Instant;

use super::{
    messages::{
        Append, DeleteRecords, FindTimestamp, Place, Read, ReadReply, ReplicaRead, ReplicaReadReply, View, WaitAbove,
        kind,
    },
    refusal::Refusal,
};
use crate::{
    errors::{AppendError, FetchError},
    partition::{AppendReply, AppendRequest, LeaderView, PartitionSlot},
    rpc::{self, Services, respond},
};

/// How long a broker may have another one wait for records: more than any client may, and no clock overflows.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// A page of memory, or of a file.
const PAGE_BYTES: usize = 4096;

/// Answers one operation of a client that came to another broker.
pub(crate) async fn answer(services: &Services, _: Peer, request: Request) -> Response {
    let answered = match request.kind {
        kind::APPEND => append(services, &request).await,
        kind::READ => read(services, &request).await,
        kind::FIND_TIMESTAMP => find_timestamp(services, &request).await,
        kind::DELETE_RECORDS => delete_records(services, &request).await,
        kind::VIEW => view(services, &request).await,
        kind::REPLICA_STATUS => replica_status(services, &request),
        kind::REPLICA_READ => replica_read(services, &request).await,
        kind::IN_SYNC => in_sync(services, &request),
        kind::VIEWS => views(services, &request),
        _ => Ok(rpc::unknown()),
    };
    answered.unwrap_or_else(|error| rpc::not_understood(&error))
}

/// The replica here; `None` when there is none, or the topic is not known here yet.
fn replica(services: &Services, place: Place) -> Option<Arc<PartitionSlot>> {
    let image = services.metadata.image();
    let name = &image.topic_by_id(place.topic_id)?.name;
    let slot = services.node.table.get(name, place.partition)?;
    (slot.identity.topic_id == place.topic_id).then_some(slot)
}

/// The replica here if it leads.
fn leader<E: Refusal>(services: &Services, place: Place) -> Result<Arc<PartitionSlot>, E> {
    if let Some(slot) = replica(services, place).filter(|slot| slot.leads()) {
        return Ok(slot);
    }
    let image = services.metadata.image();
    if services.metadata.was_deleted(place.topic_id) && image.topic_by_id(place.topic_id).is_none() {
        return Err(E::deleted());
    }
    let leader = image.topic_by_id(place.topic_id).and_then(|topic| topic.partition(place.partition)?.leader);
    Err(E::not_leader(leader, services.node.retry_after_ms()))
}

async fn append(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let Append { place, acks } = request.decode()?;
    let payload = request.payload.clone().into_bytes();
    let appended: Result<AppendReply, AppendError> = async {
        let slot = leader::<AppendError>(services, place)?;
        let batches = ValidBatch::split(&payload);
        let batches = batches.map_err(|error| AppendError::Invalid { reason: error.to_string() })?;
        slot.append(AppendRequest { batches, acks }).await
    }
    .await;
    Ok(respond(kind::APPEND, &appended))
}

async fn read(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let Read { place, from, max_bytes } = request.decode()?;
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let read = async {
        let slot = leader::<FetchError>(services, place)?;
        on_worker(slot, move |slot| slot.read(from, max_bytes).inspect(|fetched| fault_in(&fetched.runs))).await
    };
    let (reply, runs) = match read.await {
        Ok(fetched) => (Ok(ReadReply::of(&fetched)), fetched.runs),
        Err(error) => (Err(error), Vec::new()),
    };
    Ok(respond(kind::READ, &reply).with_payload(Payload::from(runs)))
}

async fn replica_read(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let ReplicaRead { place, from, max_bytes } = request.decode()?;
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let read = async {
        let retry_after_ms = services.node.retry_after_ms();
        let slot = replica(services, place).ok_or(FetchError::NotReady { retry_after_ms })?;
        on_worker(slot, move |slot| slot.read_replica(from, max_bytes).inspect(|read| fault_in(&read.runs))).await
    };
    let (reply, runs) = match read.await {
        Ok(read) => (Ok(ReplicaReadReply::of(&read)), read.runs),
        Err(error) => (Err(error), Vec::new()),
    };
    Ok(respond(kind::REPLICA_READ, &reply).with_payload(Payload::from(runs)))
}

/// Reads on a thread that may wait for the disk: this one serves every other broker.
async fn on_worker<T: Send + 'static>(
    slot: Arc<PartitionSlot>,
    read: impl FnOnce(&PartitionSlot) -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let permit = slot.admit_read()?;
    let workers = slot.node.workers.clone();
    let work = move || {
        let result = read(&slot);
        drop(permit);
        result
    };
    workers.run(work).await.unwrap_or(Err(FetchError::Draining))
}

/// Has the system bring the mapped bytes into memory, so that whoever sends them does not wait for the disk.
fn fault_in(runs: &[Bytes]) {
    for run in runs {
        std::hint::black_box(run.iter().step_by(PAGE_BYTES).fold(0_u8, |sum, byte| sum ^ byte));
    }
}

async fn find_timestamp(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let FindTimestamp { place, timestamp_ms } = request.decode()?;
    let found = match leader::<FetchError>(services, place) {
        Ok(slot) => slot.find_timestamp(timestamp_ms).await,
        Err(error) => Err(error),
    };
    Ok(respond(kind::FIND_TIMESTAMP, &found))
}

async fn delete_records(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let DeleteRecords { place, before } = request.decode()?;
    let deleted = match leader::<AppendError>(services, place) {
        Ok(slot) => slot.delete_records_before(before).await,
        Err(error) => Err(error.into()),
    };
    Ok(respond(kind::DELETE_RECORDS, &deleted))
}

async fn view(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let View { place, wait } = request.decode()?;
    let view = match (leader::<FetchError>(services, place), wait) {
        (Ok(slot), None) => slot.leader_view(),
        (Ok(slot), Some(WaitAbove { offset, at_most })) => {
            slot.wait_above(offset, Instant::now() + at_most.min(WAIT_MAX)).await
        }
        (Err(error), _) => Err(error),
    };
    Ok(respond(kind::VIEW, &view))
}

fn replica_status(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let place: Place = request.decode()?;
    let status = replica(services, place).map(|slot| slot.replica_status());
    Ok(respond(kind::REPLICA_STATUS, &status))
}

/// Of each partition the replicas that are in sync, or none where it is not led here.
fn in_sync(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let places: Vec<Place> = request.decode()?;
    let in_sync = |place: &Place| replica(services, *place).map_or_else(Vec::new, |slot| slot.replica_status().in_sync);
    let answer: Vec<Vec<BrokerId>> = places.iter().map(in_sync).collect();
    Ok(respond(kind::IN_SYNC, &answer))
}

/// Of each partition the view, or nothing where it is not led here.
fn views(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let places: Vec<Place> = request.decode()?;
    Ok(respond(kind::VIEWS, &views_here(services, &places)))
}

/// What the replicas here that lead say of these partitions.
pub(crate) fn views_here(services: &Services, places: &[Place]) -> Vec<Option<LeaderView>> {
    places.iter().map(|place| replica(services, *place)?.leader_view().ok()).collect()
}
