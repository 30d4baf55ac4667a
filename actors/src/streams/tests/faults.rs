//! What goes wrong with a task, and what it is told for.

use std::time::Duration;

use pubg1_model::topic::TopicConfig;
use serde_json::json;

use super::*;
use crate::{
    WindowsQuery,
    testing::{Fault, inject, panic_stream_tasks, panic_streams},
};

#[actix_rt::test]
async fn tasks_actors_and_partitions_may_die() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.restart.restarts_max = 1_000).await;
    create_input(&broker, 3).await;
    let document = document("s", |_| ());
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let mut inputs: Vec<Vec<Record>> = vec![Vec::new(); 3];
    for round in 0..12 {
        for partition in 0..3 {
            let new = records(i64::from(partition), round * 50..(round + 1) * 50);
            produce(&broker, partition, &new).await;
            inputs[partition as usize].extend(new);
        }
        pass(Duration::from_millis(60)).await;
        match round % 4 {
            0 => panic_stream_tasks(&broker),
            1 => panic_streams(&broker),
            place => {
                let description = described(&broker, "s", |_| true).await;
                let name = if place == 2 { description.topics.changelog } else { description.topics.output };
                let partition = broker.partition(&name, PartitionId(u32::try_from(round % 3).unwrap())).unwrap();
                inject(&partition, Fault::Panic).unwrap_or_default();
            }
        }
    }
    gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;
    described(&broker, "s", is_caught_up).await;
    assert_eq!(rows(&broker, "s.out").await, oracle(&document, &inputs, false));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_stream_that_holds_too_much_pauses_and_the_broker_goes_on() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, 1).await;
    let document = document("s", |value| {
        value["group_by"] = json!([{"name": "v", "value": {"field": "v"}}]);
        value["columns"] = json!(["v", "n", "total"]);
        value["window"]["size"] = json!("100h");
        value["limits"] = json!({"memory": "1MiB"});
    });
    within(broker.streams().create(document, FRESH)).await.unwrap();
    let many: Vec<Record> = records(0, 0..30_000);
    let partition = broker.partition(&topic("in"), PartitionId(0)).unwrap();
    for records in many.chunks(5_000) {
        append(&partition, batch_of(records)).await.unwrap();
    }
    let paused = described(&broker, "s", |told| told.phase == StreamPhase::Paused).await;
    let reason = paused.reason.unwrap();
    assert!(reason.contains("limits.memory") && reason.contains("task 0"), "{reason}");
    append(&partition, batch_of(&many[..10])).await.unwrap();
    // It tries again when it is told to, and comes as far.
    within(broker.streams().resume(&stream("s"))).await.unwrap();
    described(&broker, "s", |told| told.phase == StreamPhase::Paused).await;
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn records_that_are_gone_pause_a_stream_or_are_counted() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, 1).await;
    let input = [records(0, 0..200)];
    produce(&broker, 0, &input[0]).await;
    let partition = broker.partition(&topic("in"), PartitionId(0)).unwrap();
    within(partition.delete_records_before(offset(50))).await.unwrap();
    let from_start = |name: &str, on_gap: &str| {
        document(name, |value| {
            value["start"] = json!({"offsets": {"0": 0}});
            value["on_gap"] = json!(on_gap);
            value["stop"] = json!("latest");
        })
    };
    within(broker.streams().create(from_start("fails", "fail"), FRESH)).await.unwrap();
    let paused = described(&broker, "fails", |told| told.phase == StreamPhase::Paused).await;
    let reason = paused.reason.unwrap();
    assert!(reason.contains("offset 0") && reason.contains("50"), "{reason}");
    within(broker.streams().create(from_start("skips", "skip"), FRESH)).await.unwrap();
    let done = described(&broker, "skips", is_finished).await;
    let outcomes = done.tasks[0].outcomes;
    assert_eq!((outcomes.skipped, outcomes.read), (50, 150));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn a_task_that_fails_while_its_stream_is_paused_is_tried_again_with_it() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, 1).await;
    let created = within(broker.streams().create(document("s", |_| ()), FRESH)).await.unwrap();
    described(&broker, "s", is_caught_up).await;
    within(broker.streams().pause(&stream("s"))).await.unwrap();
    described(&broker, "s", |told| told.tasks[0].state == StreamTaskState::Paused).await;
    let changelog = broker.partition(&created.topics.changelog, PartitionId(0)).unwrap();
    let slot = changelog.slot();
    let mut garbage = BatchBuilder::new(Compression::None);
    garbage.push(&NewRecord { value: Some(b"no commit"), ..NewRecord::default() }).unwrap();
    let request = AppendRequest { batches: vec![garbage.finish(None).unwrap()], acks: Acks::All };
    within(slot.append_internally(request, slot.view().leader_epoch)).await.unwrap();
    panic_stream_tasks(&broker);
    let has_failed = |told: &StreamDescription| {
        told.tasks[0].state == StreamTaskState::Waiting
            && told.tasks[0].reason.as_ref().is_some_and(|reason| reason.contains("paused"))
    };
    let told = described(&broker, "s", has_failed).await;
    assert_eq!(told.reason.as_deref(), Some("it was asked to pause"));
    within(broker.streams().resume(&stream("s"))).await.unwrap();
    let told = described(&broker, "s", |told| told.phase == StreamPhase::Paused).await;
    assert!(told.reason.as_ref().unwrap().contains("changelog"), "{told:?}");
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn what_is_too_large_for_a_topic_of_results_stops_no_stream_unseen() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let create = async |name: &str, max_message_bytes| {
        let config = Some(TopicConfig { max_message_bytes, ..TopicConfig::default() });
        let new = NewTopic { name: topic(name), partitions: Some(1), replication_factor: None, config };
        within(broker.create_topic(new)).await.unwrap();
    };
    create("in", 2 << 20).await;
    create("small", 1_024).await;
    // Late records fit the topic that is made for them, and are cut for the one that was there.
    let to_new = within(broker.streams().create(document("a", |_| ()), FRESH)).await.unwrap();
    let made = broker.image().topic(&to_new.topics.late).unwrap().config.max_message_bytes;
    assert!(made > 2 << 20, "{made}");
    let to_small = document("b", |value| value["output"]["late_topic"] = json!("small"));
    within(broker.streams().create(to_small, FRESH)).await.unwrap();
    let broken = (1_000_000, "k".to_owned(), "x".repeat(3_000));
    produce(&broker, 0, std::slice::from_ref(&broken)).await;
    let late = broker.partition(&topic("small"), PartitionId(0)).unwrap();
    seen(&late, |view| view.high_watermark == offset(1)).await;
    let told = described(&broker, "b", is_caught_up).await;
    assert_eq!(told.tasks[0].outcomes.malformed, 1);
    // A row is not cut: the stream says why it does not go on.
    let rows_to_small = document("c", |value| {
        value["aggregates"] = json!([{"name": "text", "function": "last", "of": {"field": "text"}}]);
        value["columns"] = json!(["g", "text"]);
        value["output"]["topic"] = json!("small");
    });
    within(broker.streams().create(rows_to_small, CreateStreamOptions { append: true })).await.unwrap();
    let long = json!({"g": 1, "text": "x".repeat(3_000)}).to_string();
    let records = [(1_000_000, "k".to_owned(), long), (1_900_000, "k".to_owned(), "{}".to_owned())];
    produce(&broker, 0, &records).await;
    let told = described(&broker, "c", |told| told.phase == StreamPhase::Paused).await;
    assert!(told.reason.as_ref().unwrap().contains("max_message_bytes"), "{told:?}");
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn a_large_state_is_stored_anew_from_time_to_time() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, 1).await;
    let document = document("s", |value| {
        value["group_by"] = json!([{"name": "v", "value": {"field": "v"}}]);
        value["aggregates"] = json!([
            {"name": "n", "function": "count"},
            {"name": "text", "function": "last", "of": {"field": "text"}},
        ]);
        value["columns"] = json!(["v", "n", "text"]);
        value["window"]["size"] = json!("100h");
    });
    let text = "long ".repeat(50);
    let with_text = |(at, key, value): Record| {
        let mut value: Value = serde_json::from_str(&value).unwrap();
        value["text"] = json!(text);
        (at, key, value.to_string())
    };
    let created = within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let mut input = Vec::new();
    for _ in 0..4 {
        let round: Vec<Record> = records(0, 0..10_000).into_iter().map(with_text).collect();
        let partition = broker.partition(&topic("in"), PartitionId(0)).unwrap();
        for records in round.chunks(2_000) {
            append(&partition, batch_of(records)).await.unwrap();
        }
        input.extend(round);
        let read = u64::try_from(input.len()).unwrap();
        described(&broker, "s", |told| told.tasks[0].next_offset == Some(offset(read))).await;
        // What is told is committed.
        let one = WindowsQuery { limit: 1, ..WindowsQuery::default() };
        let told = within(broker.streams().windows(&stream("s"), one)).await.unwrap();
        assert_eq!(told.as_of[0].offset, offset(read));
    }
    let changelog = broker.partition(&created.topics.changelog, PartitionId(0)).unwrap();
    seen(&changelog, |view| view.log_start_offset > offset(0)).await;
    broker.abort().await;
    let broker = fixture.start().await;
    // A record that closes the window.
    let last = (400_000_000, "k".to_owned(), json!({"v": -1}).to_string());
    produce(&broker, 0, std::slice::from_ref(&last)).await;
    input.push(last);
    gives(&broker, "s.out", &oracle(&document, &[input], false)).await;
    broker.drain(Duration::from_secs(60)).await;
}
