//! Brokers from start to end, with real directories.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::FutureExt;
use pubg1_metrics::Metrics;
use pubg1_model::{BrokerId, PartitionId, topic::TopicConfig};

use crate::{
    Acks, AlterTopicError, AppendError, AppendRequest, Broker, BrokerHandle, BrokerState, Clock, CreateTopicError,
    DeleteTopicError, FlushPolicy, LookupError, NewTopic, OfflineReason, PartitionStatus, StartError,
    fixture::*,
    testing::{Fault, inject, panic_metadata},
};

fn new_topic(name: &str) -> NewTopic {
    NewTopic { name: topic(name), partitions: Some(2), replication_factor: None, config: None }
}

fn directories(fixture: &Fixture) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture.dir.path().join("partitions")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn check(broker: &BrokerHandle, name: &str) -> (bool, String) {
    let readiness = broker.readiness();
    let check = readiness.checks.into_iter().find(|check| check.name == name).unwrap();
    (check.ok, check.reason)
}

#[test]
fn a_broker_needs_an_actix_system() {
    let fixture = Fixture::new();
    let error = Broker::start(fixture.config(), Metrics::new().unwrap()).unwrap_err();
    assert!(matches!(error, StartError::NoSystem), "{error}");
}

#[actix_rt::test]
async fn the_first_start_makes_a_working_node() {
    let fixture = Fixture::new();
    let broker = Broker::start(fixture.config(), Metrics::new().unwrap()).unwrap();
    assert_ne!(broker.readiness().state, BrokerState::Failed);
    let error = broker.partition(&topic("pubg1"), PartitionId(0)).err();
    assert!(matches!(error, None | Some(LookupError::NotReady { .. })), "{error:?}");
    ready(&broker).await;
    let readiness = broker.readiness();
    assert!(readiness.is_ready() && readiness.checks.iter().all(|check| check.ok), "{readiness:?}");
    let image = broker.image();
    assert_eq!(image.topic(&topic("pubg1")).unwrap().partitions.len(), 4);
    assert_eq!(image.topic(&topic("__consumer_offsets")).unwrap().partitions.len(), 16);
    assert!(matches!(
        broker.partition(&topic("pubg1"), PartitionId(4)),
        Err(LookupError::UnknownPartition { partitions: 4, .. })
    ));
    assert!(matches!(broker.partition(&topic("x"), PartitionId(0)), Err(LookupError::UnknownTopic(_))));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    assert_eq!(broker.readiness().state, BrokerState::Draining);
}

#[actix_rt::test]
async fn two_brokers_live_in_one_process_but_not_on_one_directory() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let (a, b) = (first.start().await, second.start_with(|config| config.broker_id = BrokerId(1)).await);
    append(&partition(&a, 0), batch(&["a"])).await.unwrap();
    append(&partition(&b, 0), batch(&["b", "b"])).await.unwrap();
    assert_eq!(values(&partition(&a, 0)), ["a"]);
    assert_eq!(values(&partition(&b, 0)), ["b", "b"]);
    assert_ne!(a.image().cluster_id, b.image().cluster_id);
    let error = Broker::start(first.config(), Metrics::new().unwrap()).unwrap_err();
    assert!(matches!(error, StartError::Locked { .. }), "{error}");
    a.drain(Duration::from_secs(60)).await;
    append(&partition(&b, 0), batch(&["b"])).await.unwrap();
    // The directory is free again, for its own broker only.
    let mut other = first.config();
    other.broker_id = BrokerId(1);
    let error = Broker::start(other, Metrics::new().unwrap()).unwrap_err();
    assert!(matches!(error, StartError::OtherBroker { .. }), "{error}");
    first.start().await.drain(Duration::from_secs(60)).await;
    b.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn every_start_begins_a_new_epoch_and_keeps_what_was_acknowledged() {
    let fixture = Fixture::new();
    let mut expected = Vec::new();
    let mut epoch = None;
    for round in 0..5 {
        let broker = fixture.start().await;
        let partition = partition(&broker, 0);
        let now = partition.view().leader_epoch;
        assert!(epoch.is_none_or(|before| now > before), "{epoch:?} {now}");
        epoch = Some(now);
        assert_eq!(values(&partition), expected);
        for n in 0..10 {
            let value = format!("{round}-{n}");
            assert_eq!(append(&partition, batch(&[&value])).await.unwrap().leader_epoch, now);
            expected.push(value);
        }
        if round % 2 == 0 { broker.abort().await } else { drop(broker.drain(Duration::from_secs(60)).await) }
    }
}

#[actix_rt::test]
async fn topics_are_created_altered_and_deleted_for_good() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let image = within(broker.create_topic(new_topic("t"))).await.unwrap();
    assert!(image.partitions.iter().all(|partition| partition.leader == Some(broker.broker_id())));
    let handle = broker.partition(&topic("t"), PartitionId(1)).unwrap();
    append(&handle, batch(&["old"])).await.unwrap();
    assert_eq!(within(broker.create_topic(new_topic("t"))).await.unwrap_err(), CreateTopicError::Exists(topic("t")));
    let internal = within(broker.create_topic(new_topic("__t"))).await.unwrap_err();
    assert!(matches!(internal, CreateTopicError::Internal(_)));
    for (partitions, replicas) in [(0, 1), (1, 2), (u32::MAX, 1), (1, u32::MAX), (1, 0)] {
        let sized = NewTopic { partitions: Some(partitions), replication_factor: Some(replicas), ..new_topic("u") };
        let error = within(broker.create_topic(sized)).await.unwrap_err();
        assert!(matches!(error, CreateTopicError::Refused(_)) && !error.is_retriable(), "{error}");
    }
    let small = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    within(broker.alter_topic(&topic("t"), small)).await.unwrap();
    let large = "x".repeat(2000);
    within(async {
        // The settings reach the partition with the next image.
        while append(&handle, batch(&[&large])).await.is_ok() {}
    })
    .await;
    let nonsense = TopicConfig { segment_bytes: 1, ..TopicConfig::default() };
    let error = within(broker.alter_topic(&topic("t"), nonsense)).await.unwrap_err();
    assert!(matches!(error, AlterTopicError::Refused(_)), "{error}");

    let directories_before = directories(&fixture).len();
    within(broker.delete_topic(&topic("t"))).await.unwrap();
    let error = within(broker.delete_topic(&topic("t"))).await.unwrap_err();
    assert_eq!(error, DeleteTopicError::UnknownTopic(topic("t")));
    seen(&handle, |view| view.status == PartitionStatus::Deleted).await;
    assert_eq!(append(&handle, batch(&["x"])).await.unwrap_err(), AppendError::Deleted);
    within(broker.create_topic(new_topic("t"))).await.unwrap();
    let handle = broker.partition(&topic("t"), PartitionId(1)).unwrap();
    assert!(values(&handle).is_empty());
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    // Removed by now: the workers were joined.
    assert_eq!(directories(&fixture).len(), directories_before);
}

#[actix_rt::test]
async fn what_a_deleted_topic_left_behind_goes_at_the_next_start_and_nothing_else() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    within(broker.create_topic(new_topic("t"))).await.unwrap();
    let id = broker.image().topic(&topic("t")).unwrap().id;
    within(broker.delete_topic(&topic("t"))).await.unwrap();
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    let partitions = fixture.dir.path().join("partitions");
    let (left, foreign) = (partitions.join(format!("{id}-0")), partitions.join(format!("{}-0", "f".repeat(32))));
    for dir in [&left, &foreign] {
        fs::create_dir_all(dir).unwrap();
    }
    let broker = fixture.start().await;
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    assert!(!left.try_exists().unwrap() && foreign.try_exists().unwrap());
}

#[actix_rt::test]
async fn producer_ids_are_never_handed_out_twice() {
    let fixture = Fixture::new();
    let mut seen = std::collections::HashSet::new();
    for round in 0..3 {
        let broker = fixture.start().await;
        for _ in 0..1500 {
            assert!(seen.insert(within(broker.allocate_producer_id()).await.unwrap()));
        }
        if round == 0 { broker.abort().await } else { drop(broker.drain(Duration::from_secs(60)).await) }
    }
}

#[actix_rt::test]
async fn a_drain_answers_everyone_and_refuses_the_rest() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    inject(&partition, Fault::HoldFlushes).unwrap();
    let mut waiting: Vec<_> = (0..20)
        .map(|n| {
            let value = format!("{n}");
            let request = AppendRequest { batches: vec![batch(&[&value])], acks: Acks::All };
            let handle = partition.clone();
            Box::pin(async move { handle.append(request).await })
        })
        .collect();
    for append in &mut waiting {
        assert!(append.now_or_never().is_none());
    }
    broker.begin_drain();
    assert_eq!(append(&partition, batch(&["late"])).await.unwrap_err(), AppendError::Draining);
    inject(&partition, Fault::ResumeFlushes).unwrap();
    let (replies, report) =
        tokio::join!(within(futures_util::future::join_all(waiting)), broker.drain(Duration::from_secs(60)));
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    assert!(report.is_complete(), "{report:?}");
    assert!(broker.drain(Duration::ZERO).await.is_complete());
    let broker = fixture.start().await;
    assert_eq!(values(&self::partition_of(&broker)).len(), 20);
    broker.drain(Duration::from_secs(60)).await;
}

fn partition_of(broker: &BrokerHandle) -> crate::PartitionHandle {
    partition(broker, 0)
}

#[actix_rt::test]
async fn a_drain_says_what_did_not_finish() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition(&broker, 0);
    inject(&partition, Fault::HoldFlushes).unwrap();
    append_with(&partition, batch(&["held"]), Acks::Leader).await.unwrap();
    let report = broker.drain(Duration::from_millis(50)).await;
    assert!(report.unfinished.contains(&"partition pubg1-0".to_owned()), "{report:?}");
    // The threads are joined all the same; then the directory is free and nothing was lost.
    let mut phases = broker.node().phase.subscribe();
    within(phases.wait_for(|phase| *phase == crate::node::Phase::Drained)).await.unwrap();
    let broker = within(async {
        loop {
            match Broker::start(fixture.config(), Metrics::new().unwrap()) {
                Ok(broker) => return broker,
                Err(StartError::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    ready(&broker).await;
    assert_eq!(values(&self::partition_of(&broker)), ["held"]);
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn the_metadata_actor_may_die() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    within(broker.create_topic(new_topic("before"))).await.unwrap();
    panic_metadata(&broker);
    within(async {
        loop {
            match broker.create_topic(new_topic("after")).await {
                Ok(_) | Err(CreateTopicError::Exists(_)) => return,
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(broker.image().topic(&topic("before")).is_some() && broker.image().topic(&topic("after")).is_some());
    append(&partition(&broker, 0), batch(&["x"])).await.unwrap();
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

/// Cuts the largest segment of a partition in half.
fn damage(dir: &Path) {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[70] ^= 1;
    fs::write(&log, bytes).unwrap();
}

#[actix_rt::test]
async fn damage_takes_one_partition_offline_and_is_reported() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    for number in 0..4 {
        append(&partition(&broker, number), batch(&["a", "b"])).await.unwrap();
    }
    let damaged = partition(&broker, 1).slot().identity.dir.clone();
    broker.abort().await;
    damage(&damaged);

    let broker = fixture.start().await;
    let status = partition(&broker, 1).view().status;
    let PartitionStatus::Offline(reason) = &status else { panic!("{status:?}") };
    let OfflineReason::Damaged { file, offset: at, .. } = &**reason else { panic!("{reason}") };
    assert!(file.starts_with(&damaged) && *at == offset(0), "{reason}");
    let error = append(&partition(&broker, 1), batch(&["x"])).await.unwrap_err();
    assert!(matches!(error, AppendError::Offline(_)) && !error.is_retriable(), "{error}");
    assert!(partition(&broker, 1).slot().read(offset(0), 1).is_err());
    append(&partition(&broker, 2), batch(&["c"])).await.unwrap();
    assert_eq!(values(&partition(&broker, 2)), ["a", "b", "c"]);
    let (ok, reason) = check(&broker, "partitions");
    assert!(!ok && reason.contains("pubg1-1") && reason.contains("damaged"), "{reason}");
    assert!(broker.readiness().is_ready());
    let storage = broker.metrics().storage();
    assert_eq!((storage.damaged_partitions.get(), broker.metrics().node().offline_partitions.get()), (1, 1));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    assert_eq!(storage.damaged_partitions.get(), 0);
}

#[actix_rt::test]
async fn a_partition_that_cannot_be_opened_is_tried_again() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    append(&partition(&broker, 0), batch(&["kept"])).await.unwrap();
    let dir = partition(&broker, 0).slot().identity.dir.clone();
    broker.drain(Duration::from_secs(60)).await;
    let aside = dir.with_extension("aside");
    fs::rename(&dir, &aside).unwrap();
    fs::write(&dir, "not a directory").unwrap();

    let broker = fixture.start().await;
    let status = partition(&broker, 0).view().status;
    assert!(
        matches!(&status, PartitionStatus::Offline(reason) if matches!(**reason, OfflineReason::Unavailable { .. }))
    );
    let error = append(&partition(&broker, 0), batch(&["x"])).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    seen(&partition(&broker, 0), |view| view.status == PartitionStatus::Leader).await;
    append(&partition(&broker, 0), batch(&["after"])).await.unwrap();
    assert_eq!(values(&partition(&broker, 0)), ["kept", "after"]);
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn old_segments_are_deleted_by_the_clock() {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };
    let fixture = Fixture::new();
    let now = Arc::new(AtomicI64::new(2000));
    let clock = Arc::clone(&now);
    let broker = fixture
        .start_with(|config| {
            config.clock = Clock::from_fn(move || clock.load(Ordering::Relaxed));
            config.retention_check_interval_ms = 5;
            config.flush = FlushPolicy::Interval { ms: 1 };
            config.topic_defaults.segment_bytes = 16 * 1024;
            config.topic_defaults.max_message_bytes = 8 * 1024;
            config.topic_defaults.retention_ms = Some(10_000);
        })
        .await;
    let partition = partition(&broker, 0);
    let value = "x".repeat(4000);
    for _ in 0..20 {
        append(&partition, batch(&[&value])).await.unwrap();
    }
    assert_eq!(partition.view().log_start_offset, offset(0));
    now.store(60_000, Ordering::Relaxed);
    let view = seen(&partition, |view| view.log_start_offset > offset(0)).await;
    assert!(view.log_start_offset <= view.high_watermark);
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn what_was_acknowledged_before_a_kill_is_at_its_offset() {
    let fixture = Fixture::new();
    let mut acknowledged: Vec<(u32, u64, String)> = Vec::new();
    for round in 0..6 {
        let policy = if round % 2 == 0 { FlushPolicy::Quorum } else { FlushPolicy::Interval { ms: 3 } };
        let broker = fixture.start_with(|config| config.flush = policy).await;
        let (acks, enough) = tokio::sync::watch::channel(0_u32);
        let writers = (0..8_u32).map(|writer| {
            let (handle, acks) = (partition(&broker, writer % 4), acks.clone());
            async move {
                let mut mine = Vec::new();
                for n in 0.. {
                    let value = format!("{round} {writer} {n}");
                    let Ok(reply) = append(&handle, batch(&[&value])).await else { break };
                    mine.push((writer % 4, reply.appended[0].base_offset.get(), value));
                    acks.send_modify(|acks| *acks += 1);
                }
                mine
            }
        });
        let kill = async {
            let mut enough = enough;
            within(enough.wait_for(|acks| *acks >= 200 + 37 * round)).await.unwrap();
            broker.abort().await;
        };
        let (written, ()) = tokio::join!(within(futures_util::future::join_all(writers)), kill);
        acknowledged.extend(written.into_iter().flatten());
    }
    let broker = fixture.start().await;
    for number in 0..4 {
        let found = records(&partition(&broker, number));
        for (_, at, value) in acknowledged.iter().filter(|(partition, ..)| *partition == number) {
            assert_eq!(found.iter().find(|(offset, _)| offset == at).map(|(_, value)| value), Some(value));
        }
    }
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_topic_deleted_while_its_partition_is_restarted_leaves_nothing() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let before = directories(&fixture).len();
    within(broker.create_topic(new_topic("t"))).await.unwrap();
    let handle = broker.partition(&topic("t"), PartitionId(0)).unwrap();
    append(&handle, batch(&["x"])).await.unwrap();
    inject(&handle, Fault::Panic).unwrap();
    within(broker.delete_topic(&topic("t"))).await.unwrap();
    seen(&handle, |view| view.status == PartitionStatus::Deleted).await;
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
    assert_eq!(directories(&fixture).len(), before);
}
