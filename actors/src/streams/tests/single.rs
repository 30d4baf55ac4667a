//! One broker: what a stream computes, and what can be done with it.

use std::time::Duration;

use pubg1_model::{record_batch::TimestampType, topic::TopicConfig};
use serde_json::json;

use super::*;
use crate::{StreamError, StreamTaskKind, WindowsQuery};

async fn start(partitions: u32) -> (Fixture, BrokerHandle) {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_input(&broker, partitions).await;
    (fixture, broker)
}

async fn fill(broker: &BrokerHandle, inputs: &[Vec<Record>]) {
    for (partition, records) in (0..).zip(inputs) {
        produce(broker, partition, records).await;
    }
}

fn four() -> Vec<Vec<Record>> {
    (0..4).map(|partition| records(partition, 0..400)).collect()
}

async fn drain(broker: BrokerHandle) {
    assert_eq!(broker.drain(Duration::from_secs(60)).await.unfinished, Vec::<String>::new());
}

#[actix_rt::test]
async fn a_bounded_stream_gives_the_rows_of_the_engine_and_finishes() {
    let (_fixture, broker) = start(4).await;
    let inputs = four();
    fill(&broker, &inputs).await;
    let document = document("s", |value| value["stop"] = json!("latest"));
    let created = within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    assert_eq!((created.generation, created.tasks.len()), (1, 8));
    described(&broker, "s", |told| told.tasks.iter().all(|task| task.commits > 0)).await;
    // What comes afterwards is not its business.
    produce(&broker, 1, &records(9, 400..500)).await;
    let done = described(&broker, "s", is_finished).await;
    let read: u64 = done.tasks.iter().map(|task| task.outcomes.read).sum();
    assert_eq!(read, 1_600);
    gives(&broker, "s.out", &oracle(&document, &inputs, true)).await;
    assert!(matches!(within(broker.streams().pause(&stream("s"))).await, Err(StreamError::State(_))));
    drain(broker).await;
}

#[actix_rt::test]
async fn windows_by_the_time_of_append_hold_what_was_appended_then() {
    let (_fixture, broker) = start(1).await;
    let config = TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..TopicConfig::default() };
    let new = NewTopic { name: topic("stamped"), partitions: Some(1), replication_factor: None, config: Some(config) };
    within(broker.create_topic(new)).await.unwrap();
    let partition = broker.partition(&topic("stamped"), PartitionId(0)).unwrap();
    // The producer's times are of 1970.
    let request = AppendRequest { batches: vec![batch_of(&records(0, 0..300))], acks: Acks::All };
    within(partition.append(request)).await.unwrap();
    let appended_ms = within(partition.find_timestamp(0)).await.unwrap().unwrap().1;
    let document = document("s", |value| {
        value["input"]["topic"] = json!("stamped");
        value["time"]["source"] = json!("append_time");
        value["stop"] = json!("latest");
    });
    within(broker.streams().create(document, FRESH)).await.unwrap();
    described(&broker, "s", is_finished).await;
    let rows: Vec<Value> = rows(&broker, "s.out").await.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["n"].as_i64().unwrap()).sum::<i64>(), 300);
    for row in &rows {
        let (start, end) = (row["window_start"].as_i64().unwrap(), row["window_end"].as_i64().unwrap());
        assert!((start..end).contains(&appended_ms), "{row}, appended at {appended_ms}");
    }
    drain(broker).await;
}

#[actix_rt::test]
async fn a_stream_by_key_has_one_stage() {
    let (_fixture, broker) = start(3).await;
    let inputs: Vec<_> = (0..3).map(|partition| records(partition, 0..200)).collect();
    fill(&broker, &inputs).await;
    let document = document("s", |value| {
        value["group_by"] = json!("record_key");
        value["columns"] = json!(["key", "n", "total"]);
        value["input"]["where"] = json!({"not": {"is_null": {"record": "key"}}});
        value["stop"] = json!("latest");
    });
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let done = described(&broker, "s", is_finished).await;
    assert!(done.tasks.len() == 3 && done.topics.partials.is_none());
    assert!(done.tasks.iter().all(|task| task.kind == StreamTaskKind::Whole));
    gives(&broker, "s.out", &oracle(&document, &inputs, true)).await;
    drain(broker).await;
}

#[actix_rt::test]
async fn it_goes_on_with_what_comes_and_over_restarts() {
    let (fixture, mut broker) = start(4).await;
    let document = document("s", |_| ());
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let mut inputs: Vec<Vec<Record>> = vec![Vec::new(); 4];
    for round in 0..4 {
        for partition in 0..4 {
            let new = records(i64::from(partition), round * 100..(round + 1) * 100);
            produce(&broker, partition, &new).await;
            inputs[partition as usize].extend(new);
        }
        gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;
        if round % 2 == 0 {
            broker.abort().await
        } else {
            drain(broker).await
        }
        broker = fixture.start().await;
    }
    described(&broker, "s", is_caught_up).await;
    gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;
    drain(broker).await;
}

#[actix_rt::test]
async fn it_can_be_paused_resumed_and_deleted() {
    let (_fixture, broker) = start(2).await;
    let streams = broker.streams();
    let document = document("s", |_| ());
    within(streams.create(document.clone(), FRESH)).await.unwrap();
    assert!(matches!(within(streams.create(document.clone(), FRESH)).await, Err(StreamError::StreamExists(_))));
    let mut inputs: Vec<_> = (0..2).map(|partition| records(partition, 0..100)).collect();
    fill(&broker, &inputs).await;
    gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;
    let paused = within(streams.pause(&stream("s"))).await.unwrap();
    assert_eq!((paused.phase, paused.reason.as_deref()), (StreamPhase::Paused, Some("it was asked to pause")));
    let is_paused = |told: &StreamDescription| told.tasks.iter().all(|task| task.state == StreamTaskState::Paused);
    described(&broker, "s", is_paused).await;
    let exported = broker.metrics().encode().unwrap();
    assert!(exported.contains("pubg1_stream_state{state=\"paused\",stream=\"s\"} 1"), "{exported}");
    for (partition, input) in (0..).zip(&mut inputs) {
        let new = records(i64::from(partition), 100..200);
        produce(&broker, partition, &new).await;
        input.extend(new);
    }
    let before = rows(&broker, "s.out").await;
    // It can be read while it stands still.
    let read = within(streams.windows(&stream("s"), WindowsQuery::default())).await.unwrap();
    assert!(read.missing.is_empty() && !read.rows.is_empty(), "{read:?}");
    pass(Duration::from_millis(400)).await;
    assert_eq!(rows(&broker, "s.out").await, before);
    within(streams.resume(&stream("s"))).await.unwrap();
    gives(&broker, "s.out", &oracle(&document, &inputs, false)).await;

    assert!(within(broker.delete_topic(&topic("s.out"))).await.is_err(), "a stream writes to it");
    within(streams.delete(&stream("s"))).await.unwrap();
    assert!(!broker.image().topics.keys().any(|topic| topic.as_str().starts_with("__stream-")));
    assert!(matches!(within(streams.delete(&stream("s"))).await, Err(StreamError::UnknownStream(_))));
    assert_eq!(streams.list().unwrap(), []);
    // The rows stay. Another stream may have the name, but would write them a second time.
    let refused = within(streams.create(document.clone(), FRESH)).await;
    assert_eq!(refused.unwrap_err(), StreamError::OutputNotEmpty(topic("s.out")));
    assert!(!broker.image().topics.keys().any(|topic| topic.as_str().starts_with("__stream-")));
    within(streams.create(document, CreateStreamOptions { append: true })).await.unwrap();
    described(&broker, "s", is_caught_up).await;
    drain(broker).await;
}

#[actix_rt::test]
async fn windows_of_two_stages_can_be_read_while_it_stands_still() {
    let (_fixture, broker) = start(2).await;
    let streams = broker.streams();
    within(streams.create(document("s", |_| ()), FRESH)).await.unwrap();
    described(&broker, "s", is_caught_up).await;
    for round in 0..6 {
        for partition in 0..2 {
            produce(&broker, partition, &records(i64::from(partition), round * 50..(round + 1) * 50)).await;
        }
        // What was read is handed on now, and belongs to the windows.
        within(streams.pause(&stream("s"))).await.unwrap();
        let read = within(streams.windows(&stream("s"), WindowsQuery::default())).await.unwrap();
        assert!(read.missing.is_empty(), "round {round}: {read:?}");
        let is_paused = |told: &StreamDescription| told.tasks.iter().all(|task| task.state == StreamTaskState::Paused);
        described(&broker, "s", is_paused).await;
        within(streams.resume(&stream("s"))).await.unwrap();
    }
    drain(broker).await;
}

#[actix_rt::test]
async fn windows_close_although_partitions_are_silent() {
    let (_fixture, broker) = start(4).await;
    let document = document("s", |value| value["time"]["idle_timeout"] = json!("200ms"));
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    // Three never say anything.
    let inputs = [records(0, 0..100), Vec::new(), Vec::new(), Vec::new()];
    produce(&broker, 0, &inputs[0]).await;
    let alone = &inputs[..1];
    let closed = oracle(&document, alone, false);
    within(async {
        while rows(&broker, "s.out").await.len() < closed.len() {
            pass(PAUSE).await;
        }
    })
    .await;
    // Then nobody does: the last windows close by the clock.
    gives(&broker, "s.out", &oracle(&document, alone, true)).await;
    described(&broker, "s", |told| told.tasks[..4].iter().all(|task| task.is_idle)).await;
    drain(broker).await;
}

#[actix_rt::test]
async fn open_and_closed_windows_can_be_read() {
    let (_fixture, broker) = start(2).await;
    let document = document("s", |value| value["output"]["retain"] = json!("1h"));
    within(broker.streams().create(document.clone(), FRESH)).await.unwrap();
    let inputs: Vec<_> = (0..2).map(|partition| records(partition, 0..100)).collect();
    fill(&broker, &inputs).await;
    described(&broker, "s", is_caught_up).await;
    let read = async |query| within(broker.streams().windows(&stream("s"), query)).await.unwrap();
    let all = read(WindowsQuery::default()).await;
    assert!(all.missing.is_empty() && !all.is_cut && all.as_of.len() == 2, "{all:?}");
    let read_to: Vec<u64> = all.as_of.iter().map(|at| at.offset.get()).collect();
    assert_eq!(read_to, [100, 100]);
    // Open ones are what they would be if nothing more came.
    let counts = |rows: Vec<String>| -> i64 {
        rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_i64().unwrap()).sum()
    };
    assert_eq!(counts(all.rows.iter().map(|row| row.json.clone()).collect()), 200);
    let closed = read(WindowsQuery { open: false, ..WindowsQuery::default() }).await;
    let mut found: Vec<String> = closed.rows.iter().map(|row| row.json.clone()).collect();
    found.sort();
    assert_eq!(found, oracle(&document, &inputs, false));
    let of_key = read(WindowsQuery { key: Some(b"3".to_vec()), latest: true, ..WindowsQuery::default() }).await;
    assert!(!of_key.rows.is_empty() && of_key.rows.iter().all(|row| row.key.as_deref() == Some(b"3")));
    let cut = read(WindowsQuery { limit: 3, ..WindowsQuery::default() }).await;
    assert!(cut.is_cut && cut.rows == all.rows[..3]);
    drain(broker).await;
}

#[actix_rt::test]
async fn what_makes_no_sense_is_refused() {
    let (_fixture, broker) = start(1).await;
    let create = async |change: fn(&mut Value)| within(broker.streams().create(document("s", change), FRESH)).await;
    let refused = create(|value| value["input"]["topic"] = json!("nowhere")).await;
    assert!(matches!(refused, Err(StreamError::UnknownInput(_))), "{refused:?}");
    let refused = create(|value| value["input"]["topic"] = json!("__consumer_offsets")).await;
    assert!(matches!(refused, Err(StreamError::Internal(_))), "{refused:?}");
    let refused = create(|value| value["time"]["source"] = json!("append_time")).await;
    assert!(matches!(refused, Err(StreamError::NoAppendTime(_))), "{refused:?}");
    let long: String = "s".repeat(170);
    let long = document(&long, |value| value["output"]["topic"] = json!("o"));
    let refused = within(broker.streams().create(long, FRESH)).await;
    assert!(matches!(refused, Err(StreamError::NameTooLong { .. })), "{refused:?}");
    let unknown = within(broker.streams().describe(&stream("s"))).await;
    assert!(matches!(unknown, Err(StreamError::UnknownStream(_))), "{unknown:?}");
    drain(broker).await;
}

#[actix_rt::test]
async fn another_declaration_takes_the_place_of_the_first() {
    let (_fixture, broker) = start(3).await;
    let streams = broker.streams();
    let inputs: Vec<_> = (0..3).map(|partition| records(partition, 0..300)).collect();
    let first = document("s", |_| ());
    within(streams.create(first.clone(), FRESH)).await.unwrap();
    fill(&broker, &inputs).await;
    gives(&broker, "s.out", &oracle(&first, &inputs, false)).await;
    let before = described(&broker, "s", is_caught_up).await;
    let second = document("s", |value| value["window"]["size"] = json!("5s"));
    let other = within(streams.replace(&stream("t"), second.clone())).await;
    assert!(matches!(other, Err(StreamError::OtherName { .. })), "{other:?}");
    let same = within(streams.replace(&stream("s"), first.clone())).await.unwrap();
    assert!(same.next.is_none() && same.generation == before.generation);
    within(streams.replace(&stream("s"), second.clone())).await.unwrap();
    let after = described(&broker, "s", |told| told.generation == 2).await;
    assert_eq!((after.topics.output.as_str(), &*after.document), ("s.out.g2", &*second.canonical()));
    gives(&broker, "s.out.g2", &oracle(&second, &inputs, false)).await;
    assert_eq!(rows(&broker, "s.out").await, oracle(&first, &inputs, false));
    // What the first one knew is deleted.
    until(|| broker.image().topic(&before.topics.changelog).is_none()).await;
    drain(broker).await;
}

#[actix_rt::test]
async fn a_declaration_that_comes_after_a_deletion_has_topics_of_its_own() {
    let (_fixture, broker) = start(2).await;
    let streams = broker.streams();
    let inputs: Vec<_> = (0..2).map(|partition| records(partition, 0..200)).collect();
    fill(&broker, &inputs).await;
    let first = document("s", |value| value["start"] = json!("earliest"));
    let mut second = None;
    for (life, generation, output) in [(1, 2, "s.out.g2"), (2, 3, "s.out.g3")] {
        within(streams.create(first.clone(), CreateStreamOptions { append: life > 1 })).await.unwrap();
        let other = document("s", |value| {
            value["start"] = json!("earliest");
            value["window"]["size"] = json!("5s");
        });
        within(streams.replace(&stream("s"), other.clone())).await.unwrap();
        let told = described(&broker, "s", |told| told.generation == generation).await;
        assert_eq!(told.topics.output.as_str(), output);
        gives(&broker, output, &oracle(&other, &inputs, false)).await;
        within(streams.delete(&stream("s"))).await.unwrap();
        second = Some(other);
    }
    let rows_of_life = oracle(&second.unwrap(), &inputs, false);
    assert_eq!(rows(&broker, "s.out.g2").await, rows_of_life);
    drain(broker).await;
}

#[actix_rt::test]
async fn two_declarations_at_once_do_not_share_topics() {
    let (_fixture, broker) = start(2).await;
    let streams = broker.streams();
    within(streams.create(document("s", |_| ()), FRESH)).await.unwrap();
    let wide = |size: &'static str| document("s", move |value| value["window"]["size"] = json!(size));
    let (one, two) = (wide("2s"), wide("3s"));
    let name = stream("s");
    let both = futures_util::future::join(streams.replace(&name, one), streams.replace(&name, two));
    let (one, two) = within(both).await;
    // The later number stays; the other one is refused, or was replaced in turn.
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    let told = described(&broker, "s", |told| told.next.is_none() && told.generation > 1).await;
    let (output, late) = (told.topics.output, told.topics.late);
    assert!(output.as_str().ends_with(&format!(".g{}", told.generation)), "{output}");
    assert!(late.as_str().ends_with(&format!(".g{}", told.generation)), "{late}");
    drain(broker).await;
}

#[actix_rt::test]
async fn empty_topics_of_an_earlier_try_are_used_and_those_of_a_refused_one_deleted() {
    let (_fixture, broker) = start(2).await;
    let streams = broker.streams();
    for name in ["s.out", "s.late"] {
        let new = NewTopic { name: topic(name), partitions: Some(2), replication_factor: None, config: None };
        within(broker.create_topic(new)).await.unwrap();
    }
    within(streams.create(document("s", |_| ()), FRESH)).await.unwrap();
    let to = |output: &'static str| document("t", move |value| value["output"]["topic"] = json!(output));
    let both = futures_util::future::join(streams.create(to("one"), FRESH), streams.create(to("two"), FRESH));
    let (one, two) = within(both).await;
    let (made, refused, not_there) = if one.is_ok() { (one, two, "two") } else { (two, one, "one") };
    assert_eq!(refused.unwrap_err(), StreamError::StreamExists(stream("t")));
    assert!(made.unwrap().topics.output != topic(not_there));
    assert!(broker.image().topic(&topic(not_there)).is_none());
    drain(broker).await;
}
