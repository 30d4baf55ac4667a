//! Requests that travel between brokers, here from a broker to itself, and what is done about leaders that are away.

mod cluster;

use std::{cell::Cell, time::Duration};

use pubg1_model::{BrokerId, LeaderEpoch, Offset, PartitionId, ProducerId, TopicId, TopicName};
use pubg1_transport::message::{decode_control, encode_control};
use tokio::time::Instant;

use super::{messages::kind, *};
use crate::{
    Acks, AppendError, AppendRequest, BrokerHandle, CommitOffsetError, CommittedOffsetError, DeleteRecordsError,
    FatalError, FetchError, LookupError, OfflineReason, PartitionHandle, PartitionStatus,
    admission::Budget,
    fixture::*,
    partition::{Appended, PartitionSlot},
    testing::{Fault, inject},
};

fn place(broker: &BrokerHandle, partition: u32) -> (TopicName, Place, LeaderEpoch) {
    let (name, image) = (topic("pubg1"), broker.image());
    let found = image.topic(&name).unwrap();
    let epoch = found.partition(PartitionId(partition)).unwrap().leader_epoch;
    (name, Place { topic_id: found.id, partition: PartitionId(partition) }, epoch)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn request(values: &[&str], acks: Acks) -> AppendRequest {
    AppendRequest { batches: values.iter().map(|value| batch(&[value])).collect(), acks }
}

#[actix_rt::test]
async fn another_broker_gets_what_a_client_here_would() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let (topic, place, epoch) = place(&broker, 1);
    let services = broker.services();
    let (route, this) = (
        Route { node: &services.node, metadata: &services.metadata, topic: &topic, place },
        (broker.broker_id(), epoch),
    );

    let reply = within(route.append_there(this, &request(&["a", "b"], Acks::All), soon())).await.unwrap();
    assert_eq!(reply.appended.iter().map(|batch| batch.base_offset.get()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((reply.leader, reply.leader_epoch), this);
    let sent = within(route.append_there(this, &request(&["c"], Acks::None), soon())).await.unwrap();
    assert_eq!((sent.appended.len(), sent.leader_epoch), (0, epoch));
    let view = within(route.wait_there(this, offset(2), soon())).await.unwrap();
    assert_eq!((view.high_watermark, view.leader, &*view.in_sync), (offset(3), this.0, &[this.0][..]));
    let quiet = within(route.wait_there(this, offset(3), Instant::now())).await.unwrap();
    assert_eq!(quiet.high_watermark, offset(3), "the time was over at once");

    let fetched = within(route.read_there(this, offset(1), 1024)).await.unwrap();
    let local = partition(&broker, 1).slot().read(offset(1), 1024).unwrap();
    assert_eq!(fetched.runs.concat(), local.runs.concat());
    assert_eq!((fetched.next_offset, fetched.high_watermark, fetched.leader), (offset(3), offset(3), this.0));
    let nothing = within(route.read_there(this, offset(3), 1024)).await.unwrap();
    assert!(nothing.is_empty() && nothing.next_offset == offset(3));
    let beyond = within(route.read_there(this, offset(9), 1024)).await.unwrap_err();
    assert!(matches!(beyond, FetchError::OffsetOutOfRange { .. }), "{beyond}");
    assert_eq!(within(route.find_timestamp_there(this, 1000)).await.unwrap(), Some((offset(0), 1000)));

    assert_eq!(within(route.delete_records_there(this, offset(1))).await.unwrap(), (offset(1), epoch));
    let refused = within(route.delete_records_there(this, offset(9))).await.unwrap_err();
    assert!(matches!(refused, DeleteRecordsError::OffsetOutOfRange { .. }), "{refused}");
    let status = within(ask_replica_status(services, this.0, place, Duration::from_secs(60))).await.unwrap().unwrap();
    assert_eq!(
        (status.role.as_str(), status.log_start_offset, status.log_end_offset),
        ("leader", offset(1), offset(3))
    );
    let own = within(ask_replica_batches(&services.node, this.0, place, None, 1024)).await.unwrap();
    assert_eq!((own.next_offset, own.log_start_offset), (offset(3), offset(1)));
    let elsewhere = Place { topic_id: TopicId::from_bytes([9; 16]), ..place };
    let in_sync = ask_in_sync(services, this.0, vec![place, elsewhere], Duration::from_secs(60));
    assert_eq!(within(in_sync).await.unwrap(), [vec![this.0], vec![]]);
    assert_eq!(broker.node().admission.in_use(), (0, 0));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_wait_of_any_length_is_answered() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let (_, place, _) = place(&broker, 1);
    let services = broker.services();
    append(&partition(&broker, 1), batch(&["a"])).await.unwrap();
    let wait = Some(messages::WaitAbove { offset: offset(0), at_most: Duration::MAX });
    let call = messages::View { place, wait };
    let payload = pubg1_transport::Payload::empty();
    let asked = services.node.rpc.call(broker.broker_id(), kind::VIEW, &call, payload, Duration::from_secs(60));
    let (answer, _): (messages::ViewAnswer, _) = within(asked).await.unwrap();
    assert_eq!(answer.unwrap().high_watermark, offset(1));
    broker.abort().await;
}

#[actix_rt::test]
async fn a_broker_that_does_not_lead_says_so_and_sends_nothing_on() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let (topic, place, epoch) = place(&broker, 1);
    let (services, this) = (broker.services(), broker.broker_id());
    let unknown = Place { topic_id: TopicId::from_bytes([9; 16]), ..place };
    let route = Route { node: &services.node, metadata: &services.metadata, topic: &topic, place: unknown };
    // Its image may be older than the one of the broker that asks.
    let error = within(route.append_there((this, epoch), &request(&["x"], Acks::All), soon())).await.unwrap_err();
    assert!(matches!(error, AppendError::NotLeader { leader: None, .. }), "{error}");
    assert_eq!(within(route.append_to_leader_of_nothing()).await, AppendError::Deleted);

    let slot = partition(&broker, 1).slot();
    slot.publish_status(PartitionStatus::Recovering);
    let route = Route { node: &services.node, metadata: &services.metadata, topic: &topic, place };
    let error = within(route.append_there((this, epoch), &request(&["x"], Acks::All), soon())).await.unwrap_err();
    assert!(matches!(error, AppendError::NotLeader { leader, .. } if leader == Some(this)), "{error}");
    let error = within(route.read_there((this, epoch), offset(0), 1)).await.unwrap_err();
    assert!(matches!(error, FetchError::NotLeader { leader, .. } if leader == Some(this)), "{error}");
    // One whose address nobody knows: the request was certainly not sent.
    let away = (BrokerId(9), epoch);
    let error = within(route.append_there(away, &request(&["x"], Acks::All), soon())).await.unwrap_err();
    assert!(matches!(error, AppendError::NotLeader { leader, .. } if leader == Some(away.0)), "{error}");
    assert_eq!(slot.view().log_end_offset, offset(0));
    broker.abort().await;
}

impl Route<'_> {
    async fn append_to_leader_of_nothing(&self) -> AppendError {
        let here = async |_: &PartitionSlot| Ok::<(), _>(());
        let there = async |_, _| Ok::<(), AppendError>(());
        self.run(Patience::new(self.metadata), here, there, |_| true).await.unwrap_err()
    }
}

#[actix_rt::test]
async fn what_was_not_done_is_tried_again_until_patience_ends() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let (topic, place, _) = place(&broker, 1);
    let services = broker.services();
    let route = Route { node: &services.node, metadata: &services.metadata, topic: &topic, place };
    let tries = Cell::new(0);
    let run = async |failures: u32, error: AppendError, again: bool| {
        tries.set(0);
        let here = async |_: &PartitionSlot| {
            tries.set(tries.get() + 1);
            if tries.get() <= failures { Err(error.clone()) } else { Ok(tries.get()) }
        };
        let there = async |_, _| Err(AppendError::Deleted);
        within(route.run(Patience::new(&services.metadata), here, there, |_| again)).await
    };
    let not_ready = AppendError::NotReady { retry_after_ms: 1 };
    let not_leader = AppendError::NotLeader { leader: None, retry_after_ms: 1 };
    let unknown = AppendError::OutcomeUnknown { retry_after_ms: 1 };
    assert_eq!(run(2, not_ready, false).await, Ok(3));
    assert_eq!(run(1, not_leader.clone(), false).await, Ok(2));
    assert_eq!(run(1, unknown.clone(), true).await, Ok(2), "it will be recognised");
    assert_eq!(run(1, unknown.clone(), false).await, Err(unknown), "it might be written twice");
    assert_eq!(tries.get(), 1);
    // From here on the time of this test is its own.
    tokio::time::pause();
    let began = Instant::now();
    assert_eq!(run(u32::MAX, not_leader.clone(), false).await, Err(not_leader));
    assert!((PATIENCE..PATIENCE * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!((20..60).contains(&tries.get()), "{}", tries.get());
    broker.abort().await;
}

#[actix_rt::test]
async fn a_handle_waits_for_a_replica_that_begins_to_lead() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let handle = partition(&broker, 1);
    let slot = handle.slot();
    append(&handle, batch(&["a"])).await.unwrap();
    // The actor lives and leads; only what is published says otherwise for a while.
    slot.published.send_modify(|published| published.view.status = PartitionStatus::Closed);
    assert!(matches!(append(&handle, batch(&["b"])).await, Err(AppendError::Draining)), "nobody else keeps it");
    slot.published.send_modify(|published| published.view.status = PartitionStatus::Deleted);
    let again = async {
        tokio::task::yield_now().await;
        slot.published.send_modify(|published| published.view.status = PartitionStatus::Leader);
    };
    let (reply, ()) = tokio::join!(append(&handle, batch(&["b"])), again);
    assert_eq!(reply.unwrap().appended[0].base_offset, offset(1));
    assert_eq!(within(handle.leader_view()).await.unwrap().high_watermark, offset(2));
    broker.abort().await;
}

/// A handle that takes the partition for one of several replicas.
fn one_of_several(broker: &BrokerHandle) -> PartitionHandle {
    let (name, place, _) = place(broker, 1);
    PartitionHandle::new(std::sync::Arc::new(broker.services().clone()), name, place, false)
}

/// An append that waits for its flush when its partition dies.
async fn interrupted(
    handle: &PartitionHandle,
    batch: pubg1_model::record_batch::ValidBatch,
    meanwhile: impl FnOnce(),
) -> Result<crate::AppendReply, AppendError> {
    let end = handle.slot().view().log_end_offset;
    inject(handle, Fault::HoldFlushes).unwrap();
    let death = async {
        seen(handle, |view| view.log_end_offset > end).await;
        meanwhile();
        inject(handle, Fault::Panic).unwrap();
    };
    tokio::join!(append(handle, batch), death).0
}

#[actix_rt::test]
async fn what_may_have_been_written_is_not_called_refused_because_the_next_attempt_was() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let handle = one_of_several(&broker);
    for (number, batch) in [batch(&["plain"]), idempotent(&["named"], ProducerId(7), 0)].into_iter().enumerate() {
        let epoch = handle.slot().view().leader_epoch;
        // The next attempt of the second finds a partition that is being read.
        let unknown = interrupted(&handle, batch, || ()).await.unwrap_err();
        assert!(matches!(unknown, AppendError::OutcomeUnknown { .. }), "{number}: {unknown}");
        leads_after(&handle, epoch).await;
    }
    let drained = interrupted(&handle, idempotent(&["named"], ProducerId(7), 1), || broker.begin_drain()).await;
    assert!(matches!(drained, Err(AppendError::OutcomeUnknown { .. })), "{drained:?}");
    broker.abort().await;
}

#[test]
fn only_what_is_recognised_or_was_not_done_is_sent_again() {
    let plain = request(&["a"], Acks::All);
    let producer = ProducerId(7);
    let named = AppendRequest { batches: vec![idempotent(&["a"], producer, 0)], acks: Acks::All };
    let many = AppendRequest { batches: (0..6).map(|n| idempotent(&["a"], producer, n)).collect(), acks: Acks::All };
    let mixed = AppendRequest { batches: [named.batches.clone(), plain.batches.clone()].concat(), acks: Acks::All };
    let retry_after_ms = 1;
    for (request, on_unknown) in [(&plain, false), (&named, true), (&many, false), (&mixed, false)] {
        let may = |error: &AppendError| crate::handles::may_send_again(request, error);
        assert_eq!(may(&AppendError::OutcomeUnknown { retry_after_ms }), on_unknown);
        assert!(may(&AppendError::NotLeader { leader: None, retry_after_ms }));
        assert!(!may(&AppendError::TimedOut { waited_ms: 1 }) && !may(&AppendError::DiskFull { retry_after_ms }));
    }
}

/// Every variant, with something in each field.
#[test]
fn errors_travel_without_loss() {
    let retry_after_ms = 7;
    let reasons = [
        OfflineReason::Damaged { file: "/a/b".into(), position: 1, offset: offset(2), detail: "d".into() },
        OfflineReason::Unavailable { reason: "u".into() },
        OfflineReason::FlushFailed { reason: "f".into() },
        OfflineReason::NoLeader { reason: "n".into() },
    ];
    let fatal = FatalError::Flush { what: "w".into(), reason: "r".into() };
    let appended = vec![Appended { base_offset: offset(3), last_offset: offset(5), duplicate: true }];
    let producer_id = ProducerId(1);
    let mut appends = vec![
        AppendError::NotReady { retry_after_ms },
        AppendError::NotLeader { leader: Some(BrokerId(2)), retry_after_ms },
        AppendError::Overloaded { budget: Budget::Bytes, retry_after_ms },
        AppendError::RequestTooLarge { bytes: 2, bytes_max: 1 },
        AppendError::BatchTooLarge { bytes: 2, bytes_max: 1 },
        AppendError::OutOfOrderSequence { producer_id, expected: 3, received: 5 },
        AppendError::StaleProducerEpoch { producer_id, current: 2, received: 1 },
        AppendError::Invalid { reason: "i".into() },
        AppendError::DiskFull { retry_after_ms },
        AppendError::Storage { reason: "s".into(), retry_after_ms },
        AppendError::Draining,
        AppendError::Deleted,
        AppendError::OutcomeUnknown { retry_after_ms },
        AppendError::TimedOut { waited_ms: 9 },
        AppendError::Failed(fatal.into()),
    ];
    appends.extend(reasons.iter().cloned().map(|reason| AppendError::Offline(reason.into())));
    let (leader, leader_epoch) = (BrokerId(1), LeaderEpoch::new(4));
    let cause = Box::new(appends[5].clone());
    appends.push(AppendError::Partial { appended, leader, leader_epoch, cause });
    for error in &appends {
        assert_eq!(travelled(error), *error);
        assert_eq!(travelled(&DeleteRecordsError::from(error.clone())), error.clone().into());
        assert_eq!(travelled(&CommitOffsetError::from(error.clone())), error.clone().into());
    }
    let [requested, log_start_offset, high_watermark] = [1, 2, 3].map(Offset::new);
    let mut fetches = vec![
        FetchError::NotReady { retry_after_ms },
        FetchError::NotLeader { leader: None, retry_after_ms },
        FetchError::OffsetOutOfRange { requested, log_start_offset, high_watermark },
        FetchError::Unreachable { broker: BrokerId(3), retry_after_ms },
        FetchError::Overloaded { retry_after_ms },
        FetchError::Storage { reason: "s".into() },
        FetchError::Draining,
        FetchError::Deleted,
    ];
    fetches.extend(reasons.iter().cloned().map(|reason| FetchError::Offline(reason.into())));
    fetches.iter().for_each(|error| assert_eq!(travelled(error), *error));
    let group: pubg1_model::GroupId = "g".parse().unwrap();
    let [_, _, _, reason] = reasons;
    for error in [
        CommittedOffsetError::Loading { group: group.clone(), retry_after_ms },
        CommittedOffsetError::Offline { group: group.clone(), reason: reason.into() },
        CommittedOffsetError::NotLeader { group: group.clone(), retry_after_ms },
        CommittedOffsetError::Draining,
    ] {
        assert_eq!(travelled(&error), error);
    }
    for error in [
        CommitOffsetError::Loading { group, retry_after_ms },
        CommitOffsetError::UnknownPartition(LookupError::UnknownTopic(topic("t"))),
        CommitOffsetError::Invalid("i".into()),
    ] {
        assert_eq!(travelled(&error), error);
    }
}

fn travelled<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    decode_control(1, &encode_control(value).unwrap()).unwrap()
}
