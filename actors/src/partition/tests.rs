//! Partitions through their handles, with the real log underneath.

use std::time::Duration;

use futures_util::FutureExt;
use pubg1_model::{
    PartitionId, ProducerId,
    cluster::ClusterImage,
    topic::{CleanupPolicy, TopicConfig},
};

use crate::{
    Acks, AppendError, AppendRequest, Budget, FatalError, FetchError, FlushPolicy, NewTopic, OfflineReason,
    PartitionHandle, PartitionStatus,
    fixture::*,
    testing::{Fault, inject},
};

/// An append with `acks=all` that the actor has taken up, and that is not answered.
async fn waiting(
    partition: &PartitionHandle,
    value: &str,
) -> std::pin::Pin<Box<dyn Future<Output = Result<crate::AppendReply, AppendError>>>> {
    let (handle, request) = (partition.clone(), AppendRequest { batches: vec![batch(&[value])], acks: Acks::All });
    let mut append = Box::pin(async move { handle.append(request).await });
    assert!((&mut append).now_or_never().is_none());
    // Whatever is answered after it was taken up after it.
    append_with(partition, batch(&["behind"]), Acks::Leader).await.unwrap();
    assert!((&mut append).now_or_never().is_none());
    append
}

#[actix_rt::test]
async fn what_is_appended_is_read_back_at_dense_offsets() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    let reply = append(&partition, batch(&["a", "b"])).await.unwrap();
    assert_eq!((reply.appended[0].base_offset, reply.appended[0].last_offset), (offset(0), offset(1)));
    assert_eq!((reply.leader, reply.leader_epoch), (broker.broker_id(), partition.view().leader_epoch));
    let two = AppendRequest { batches: vec![batch(&["c"]), batch(&["d", "e"])], acks: Acks::Leader };
    let reply = within(partition.append(two)).await.unwrap();
    assert_eq!(reply.appended.iter().map(|place| place.base_offset.get()).collect::<Vec<_>>(), [2, 3]);
    let reply = append_with(&partition, batch(&["f"]), Acks::None).await.unwrap();
    assert!(reply.appended.is_empty());
    let view = seen(&partition, |view| view.high_watermark == offset(6)).await;
    assert_eq!((view.log_end_offset, view.flushed_offset), (offset(6), offset(6)));
    assert_eq!(values(&partition), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(partition.slot().read(offset(4), 1).unwrap().next_offset, offset(5));
    assert!(matches!(partition.slot().read(offset(7), 1), Err(FetchError::OffsetOutOfRange { .. })));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn all_waits_for_the_disk_and_so_do_consumers() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 1);
    inject(&partition, Fault::HoldFlushes).unwrap();
    let first = waiting(&partition, "first").await;
    let view = partition.view();
    assert_eq!((view.high_watermark, view.log_end_offset), (offset(0), offset(2)));
    assert!(partition.slot().read(offset(1), 1000).unwrap().is_empty());
    inject(&partition, Fault::ResumeFlushes).unwrap();
    assert_eq!(within(first).await.unwrap().appended[0].base_offset, offset(0));
    // The acknowledgement came after the view: the record can be read.
    assert_eq!(records(&partition)[0], (0, "first".to_owned()));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn under_interval_an_append_counts_at_once_and_is_flushed_later() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.flush = FlushPolicy::Interval { ms: 1 }).await;
    let partition = partition(&broker, 0);
    inject(&partition, Fault::HoldFlushes).unwrap();
    append(&partition, batch(&["a"])).await.unwrap();
    let view = partition.view();
    assert_eq!((view.high_watermark, view.flushed_offset), (offset(1), offset(0)));
    inject(&partition, Fault::ResumeFlushes).unwrap();
    append(&partition, batch(&["b"])).await.unwrap();
    seen(&partition, |view| view.flushed_offset == offset(2)).await;
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_duplicate_waits_for_its_original() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    let producer = within(broker.allocate_producer_id()).await.unwrap();
    inject(&partition, Fault::HoldFlushes).unwrap();
    let send = || {
        let handle = partition.clone();
        Box::pin(async move { append(&handle, idempotent(&["a"], producer, 0)).await })
    };
    let (mut original, mut duplicate) = (send(), send());
    assert!((&mut original).now_or_never().is_none() && (&mut duplicate).now_or_never().is_none());
    append_with(&partition, batch(&["behind"]), Acks::Leader).await.unwrap();
    assert!((&mut original).now_or_never().is_none() && (&mut duplicate).now_or_never().is_none());
    inject(&partition, Fault::ResumeFlushes).unwrap();
    let (original, duplicate) = (original.await.unwrap(), duplicate.await.unwrap());
    assert!(!original.appended[0].duplicate && duplicate.appended[0].duplicate);
    assert_eq!(original.appended[0].base_offset, duplicate.appended[0].base_offset);
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn idempotence_lasts_through_drains_and_kills() {
    let fixture = Fixture::new();
    let producer = ProducerId(7);
    for round in 0..4 {
        let broker = fixture.start().await;
        let partition = partition(&broker, 0);
        for sequence in 0..=round {
            let reply = append(&partition, idempotent(&["x"], producer, sequence)).await.unwrap();
            assert_eq!(reply.appended[0].duplicate, sequence < round);
            assert_eq!(reply.appended[0].base_offset.get(), u64::try_from(sequence).unwrap());
        }
        let gap = append(&partition, idempotent(&["x"], producer, round + 5)).await.unwrap_err();
        assert_eq!(
            gap,
            AppendError::OutOfOrderSequence { producer_id: producer, expected: round + 1, received: round + 5 }
        );
        assert!(!gap.is_retriable());
        if round % 2 == 0 { broker.abort().await } else { drop(broker.drain(Duration::from_secs(60)).await) }
    }
}

#[actix_rt::test]
async fn a_panicking_partition_is_recovered_from_disk_in_a_new_epoch() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 2);
    append(&partition, batch(&["kept"])).await.unwrap();
    let before = partition.view().leader_epoch;
    inject(&partition, Fault::HoldFlushes).unwrap();
    let interrupted = waiting(&partition, "perhaps").await;
    inject(&partition, Fault::Panic).unwrap();
    let error = within(interrupted).await.unwrap_err();
    assert!(matches!(error, AppendError::OutcomeUnknown { .. }), "{error}");
    assert!(error.is_retriable() && error.is_outcome_unknown());

    let view = leads_after(&partition, before).await;
    assert!(view.high_watermark >= offset(1));
    let reply = append(&partition, batch(&["after"])).await.unwrap();
    assert_eq!(reply.leader_epoch, view.leader_epoch);
    let values = values(&partition);
    assert_eq!((values.first().unwrap().as_str(), values.last().unwrap().as_str()), ("kept", "after"));
    assert_eq!(broker.metrics().actor(pubg1_metrics::ActorKind::Partition).restarts.get(), 1);
    assert_eq!(broker.node().admission.in_use(), (0, 0));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn too_many_panics_are_fatal() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.restart.restarts_max = 2).await;
    let partition = partition(&broker, 0);
    for _ in 0..2 {
        let epoch = partition.view().leader_epoch;
        inject(&partition, Fault::Panic).unwrap();
        leads_after(&partition, epoch).await;
    }
    inject(&partition, Fault::Panic).unwrap();
    assert!(matches!(&*within(broker.fatal()).await, FatalError::RestartIntensity { restarts: 2, .. }));
    let error = append(&partition, batch(&["x"])).await.unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)), "{error}");
    assert_eq!(broker.readiness().state, crate::BrokerState::Failed);
    broker.abort().await;
}

#[actix_rt::test]
async fn a_failed_flush_stops_acknowledgements_everywhere() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let (broken, other) = (partition(&broker, 0), partition(&broker, 1));
    inject(&broken, Fault::FailFlush).unwrap();
    let error = append(&broken, batch(&["never acknowledged"])).await.unwrap_err();
    assert!(matches!(&error, AppendError::Failed(fatal) if matches!(**fatal, FatalError::Flush { .. })), "{error}");
    assert!(matches!(&*within(broker.fatal()).await, FatalError::Flush { what, .. } if what == "partition pubg1-0"));
    let error = append(&other, batch(&["x"])).await.unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)), "{error}");
    let view = seen(&broken, |view| view.status != PartitionStatus::Leader).await;
    assert!(
        matches!(view.status, PartitionStatus::Offline(reason) if matches!(*reason, OfflineReason::FlushFailed { .. }))
    );
    assert_eq!(view.high_watermark, offset(0));
    broker.abort().await;
}

#[actix_rt::test]
async fn overload_is_answered_at_once_and_permits_return() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.admission.requests_max = 2).await;
    let partition = partition(&broker, 0);
    inject(&partition, Fault::HoldFlushes).unwrap();
    let first = waiting(&partition, "first").await;
    let mut second = Box::pin(append(&partition, batch(&["second"])));
    assert!((&mut second).now_or_never().is_none());
    let refused = append(&partition, batch(&["third"])).now_or_never().expect("a refusal does not wait");
    let error = refused.unwrap_err();
    assert!(matches!(error, AppendError::Overloaded { budget: Budget::Requests, .. }), "{error}");
    assert!(error.is_retriable() && error.retry_after_ms().is_some());
    inject(&partition, Fault::ResumeFlushes).unwrap();
    within(first).await.unwrap();
    second.await.unwrap();
    assert_eq!(broker.node().admission.in_use(), (0, 0));
    append(&partition, batch(&["third"])).await.unwrap();
    let huge = "x".repeat(1_048_577);
    let error = append(&partition, batch(&[&huge])).await.unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLarge { .. }), "{error}");
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn bytes_are_a_budget_too() {
    let fixture = Fixture::new();
    let one = u64::try_from(batch(&["first"]).bytes().len()).unwrap();
    let broker = fixture.start_with(|config| config.admission.bytes_max = one).await;
    let partition = partition(&broker, 0);
    let error = append(&partition, batch(&["much too large"])).await.unwrap_err();
    assert!(matches!(error, AppendError::RequestTooLarge { .. }) && !error.is_retriable(), "{error}");
    inject(&partition, Fault::HoldFlushes).unwrap();
    let mut first = Box::pin(append(&partition, batch(&["first"])));
    assert!((&mut first).now_or_never().is_none());
    let error = append(&partition, batch(&["f"])).await.unwrap_err();
    assert!(matches!(error, AppendError::Overloaded { budget: Budget::Bytes, .. }), "{error}");
    inject(&partition, Fault::ResumeFlushes).unwrap();
    first.await.unwrap();
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn an_acknowledgement_that_does_not_come_is_an_unknown_outcome() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.append_timeout_ms = 1).await;
    let partition = partition(&broker, 0);
    inject(&partition, Fault::HoldFlushes).unwrap();
    let error = append(&partition, batch(&["slow"])).await.unwrap_err();
    assert_eq!(error, AppendError::TimedOut { waited_ms: 1 });
    assert_eq!(broker.node().admission.in_use(), (0, 0));
    inject(&partition, Fault::ResumeFlushes).unwrap();
    seen(&partition, |view| view.high_watermark == offset(1)).await;
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn long_polls_wake_for_records_deadlines_and_drains() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 3);
    let far = tokio::time::Instant::now() + Duration::from_secs(600);
    let view = within(partition.wait_above(offset(0), tokio::time::Instant::now())).await.unwrap();
    assert_eq!(view.high_watermark, offset(0));
    let (woken, _) = tokio::join!(within(partition.wait_above(offset(0), far)), append(&partition, batch(&["a"])));
    assert_eq!(woken.unwrap().high_watermark, offset(1));
    let (woken, report) =
        tokio::join!(within(partition.wait_above(offset(1), far)), broker.drain(Duration::from_secs(60)));
    assert_eq!(woken.unwrap_err(), FetchError::Draining);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(partition.view().status, PartitionStatus::Closed);
}

#[actix_rt::test]
async fn records_are_found_by_time_and_deleted_by_offset() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    append(&partition, batch(&["a", "b", "c"])).await.unwrap();
    assert_eq!(within(partition.find_timestamp(1001)).await.unwrap(), Some((offset(1), 1001)));
    assert_eq!(within(partition.find_timestamp(9999)).await.unwrap(), None);
    assert_eq!(within(partition.delete_records_before(offset(2))).await.unwrap().log_start_offset, offset(2));
    assert_eq!(partition.view().log_start_offset, offset(2));
    assert_eq!(records(&partition), [(2, "c".to_owned())]);
    assert!(within(partition.delete_records_before(offset(4))).await.is_err());
    assert!(matches!(partition.slot().read(offset(1), 1), Err(FetchError::OffsetOutOfRange { .. })));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn what_was_written_of_a_refused_request_is_told() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    let producer = ProducerId(3);
    let send = |sequences: [i32; 2]| {
        let batches = sequences.map(|sequence| idempotent(&["x"], producer, sequence)).to_vec();
        within(partition.append(AppendRequest { batches, acks: Acks::All }))
    };
    let error = send([0, 5]).await.unwrap_err();
    let AppendError::Partial { appended, cause, .. } = &error else { panic!("{error}") };
    assert_eq!(appended.iter().map(|place| place.base_offset).collect::<Vec<_>>(), [offset(0)]);
    assert!(matches!(**cause, AppendError::OutOfOrderSequence { expected: 1, received: 5, .. }));
    assert!(error.is_outcome_unknown() && !error.is_retriable());
    // It is told when what was written is committed, not before.
    assert_eq!(partition.view().high_watermark, offset(1));
    let reply = send([0, 1]).await.unwrap();
    assert_eq!(reply.appended.iter().map(|place| place.duplicate).collect::<Vec<_>>(), [true, false]);
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn compaction_keeps_the_newest_record_of_each_key() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.retention_check_interval_ms = 5).await;
    let config = TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes: 16 * 1024,
        max_message_bytes: 8 * 1024,
        ..TopicConfig::default()
    };
    let new =
        NewTopic { name: topic("compacted"), partitions: Some(1), replication_factor: None, config: Some(config) };
    within(broker.create_topic(new)).await.unwrap();
    let partition = broker.partition(&topic("compacted"), PartitionId(0)).unwrap();
    let filler = "x".repeat(1000);
    for n in 0..100_u64 {
        let (key, value) = (format!("k{}", n % 3), format!("{n} {filler}"));
        append(&partition, keyed(&key, &value)).await.unwrap();
    }
    let before = 100 * 1000;
    seen(&partition, |view| view.size_bytes < before / 2).await;
    let left = records(&partition);
    assert!(left.len() < 100);
    for n in 97..100 {
        let (_, value) = left.iter().find(|(offset, _)| *offset == n).expect("the newest of each key is kept");
        assert!(value.starts_with(&format!("{n} ")));
    }
    assert_eq!(partition.view().log_end_offset, offset(100));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn settings_that_change_during_a_recovery_count() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.worker_threads = 1).await;
    let partition = partition(&broker, 0);
    let epoch = partition.view().leader_epoch;
    let (resume, paused) = std::sync::mpsc::channel::<()>();
    // The log is opened on the one worker.
    broker.node().workers.submit(move || paused.recv().unwrap_or_default());
    inject(&partition, Fault::Panic).unwrap();
    let topic_name = topic("pubg1");
    let began =
        |image: &ClusterImage| image.topic(&topic_name).is_some_and(|topic| topic.partitions[0].leader_epoch > epoch);
    while !began(&broker.image()) {
        tokio::task::yield_now().await;
    }
    let small = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    within(broker.alter_topic(&topic_name, small)).await.unwrap();
    // Others have been told by the time one of them refuses.
    let (other, value) = (crate::fixture::partition(&broker, 1), "x".repeat(2000));
    while append(&other, batch(&[&value])).await.is_ok() {}
    drop(resume);
    leads_after(&partition, epoch).await;
    let error = append(&partition, batch(&[&value])).await.unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLarge { bytes_max: 1024, .. }), "{error}");
    broker.drain(Duration::from_secs(60)).await;
}
