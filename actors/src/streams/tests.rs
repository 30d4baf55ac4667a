//! Streams through the handle of a broker, with the real log underneath.

mod cluster;
mod faults;
mod single;
mod task;

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    PartitionId, StreamName,
    compression::Compression,
    record_batch::{BatchBuilder, BatchIter, NewRecord, ValidBatch},
    streams::{
        document::StreamDocument,
        engine::{InputRecord, Output, WindowEngine},
    },
};
use serde_json::{Value, json};

use crate::{
    Acks, AppendRequest, BrokerHandle, CreateStreamOptions, NewTopic, StreamDescription, StreamPhase, StreamTaskState,
    fixture::*,
};

/// A stream whose topics nobody has written to.
const FRESH: CreateStreamOptions = CreateStreamOptions { append: false };

/// A record of an input: its time, its key and its value.
type Record = (i64, String, String);

/// The records of a partition: their times go up and down, their groups and keys repeat.
fn records(partition: i64, numbers: std::ops::Range<i64>) -> Vec<Record> {
    let record = |number: i64| {
        let at = 1_000_000 + 100 * number + (number * 7919 + partition * 31) % 450;
        (at, format!("k{}", number % 7), json!({"g": (number * 3 + partition) % 5, "v": number}).to_string())
    };
    numbers.map(record).collect()
}

/// Counts and sums by `g`, a second at a time; nothing is waited for that time alone would bring.
fn document(name: &str, change: impl FnOnce(&mut Value)) -> StreamDocument {
    let mut value = json!({
        "version": 1,
        "name": name,
        "input": {"topic": "in"},
        "window": {"kind": "tumbling", "size": "1s"},
        "time": {"source": "record_time", "max_out_of_order": "1s", "idle_timeout": "none", "max_future": "none"},
        "group_by": [{"name": "g", "value": {"field": "g"}}],
        "aggregates": [
            {"name": "n", "function": "count"},
            {"name": "total", "function": "sum", "of": {"field": "v"}},
        ],
        "columns": ["g", "n", "total"],
        "output": {"topic": format!("{name}.out")},
    });
    change(&mut value);
    StreamDocument::from_value(&value).unwrap()
}

fn batch_of(records: &[Record]) -> ValidBatch {
    let mut batch = BatchBuilder::new(Compression::None);
    for (timestamp_ms, key, value) in records {
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        batch.push(&NewRecord { timestamp_ms: *timestamp_ms, key, value, headers: &[] }).unwrap();
    }
    batch.finish(None).unwrap()
}

async fn create_input(broker: &BrokerHandle, partitions: u32) {
    let new = NewTopic { name: topic("in"), partitions: Some(partitions), replication_factor: None, config: None };
    within(broker.create_topic(new)).await.unwrap();
}

/// Appends to a partition of the input, however long that takes.
async fn produce(broker: &BrokerHandle, partition: u32, records: &[Record]) {
    let partition = broker.partition(&topic("in"), PartitionId(partition)).unwrap();
    for records in records.chunks(50) {
        within(async {
            loop {
                let request = AppendRequest { batches: vec![batch_of(records)], acks: Acks::All };
                match partition.append(request).await {
                    Err(error) if error.is_retriable() && !error.is_outcome_unknown() => pass(PAUSE).await,
                    appended => return drop(appended.unwrap()),
                }
            }
        })
        .await;
    }
}

const PAUSE: Duration = Duration::from_millis(10);

/// The rows that the engine gives alone, in order.
fn oracle(document: &StreamDocument, inputs: &[Vec<Record>], is_finished: bool) -> Vec<String> {
    let partitions: Vec<u32> = (0..).take(inputs.len()).collect();
    let plan = Arc::new(document.plan.clone());
    let mut engine = WindowEngine::new(Arc::clone(&plan), &partitions).unwrap();
    let mut out = Output::default();
    for (partition, records) in partitions.iter().zip(inputs) {
        let records: Vec<InputRecord<'_>> = (0..)
            .zip(records)
            .map(|(offset, (timestamp_ms, key, value))| InputRecord {
                offset,
                timestamp_ms: *timestamp_ms,
                append_time_ms: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
            })
            .collect();
        engine.feed(*partition, &records, &mut out);
    }
    if is_finished {
        engine.finish(&mut out);
    }
    let mut rows: Vec<String> = out.rows.iter().map(|row| row.to_json(&plan)).collect();
    rows.sort();
    rows
}

/// The values of all records of a topic, in order.
async fn rows(broker: &BrokerHandle, name: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let Some(image) = broker.image().topic(&topic(name)).cloned() else { return rows };
    for (number, _) in image.numbered_partitions() {
        let partition = broker.partition(&topic(name), number).unwrap();
        let mut next = offset(0);
        loop {
            let fetched = match partition.read(next, 1 << 20).await {
                Ok(fetched) => fetched,
                Err(error) if error.is_retriable() => {
                    pass(PAUSE).await;
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            if fetched.is_empty() {
                break;
            }
            for batch in fetched.runs.iter().flat_map(|run| BatchIter::new(run)) {
                let decoded = batch.unwrap().decode(1 << 20).unwrap();
                let records = decoded.records().map(Result::unwrap).filter(|record| record.offset >= next);
                rows.extend(records.map(|it| String::from_utf8(it.value.unwrap().to_vec()).unwrap()));
            }
            next = fetched.next_offset;
        }
    }
    rows.sort();
    rows
}

/// Waits until a topic holds as many rows as these, and then has these.
async fn gives(broker: &BrokerHandle, name: &str, expected: &[String]) {
    within(async {
        while rows(broker, name).await.len() < expected.len() {
            pass(PAUSE).await;
        }
    })
    .await;
    assert_eq!(rows(broker, name).await, expected);
}

fn stream(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// Waits until a stream's description fulfils a condition.
async fn described(
    broker: &BrokerHandle,
    name: &str,
    condition: impl Fn(&StreamDescription) -> bool,
) -> StreamDescription {
    let looks = async {
        loop {
            match broker.streams().describe(&stream(name)).await {
                Ok(description) if condition(&description) => return description,
                _ => pass(PAUSE).await,
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), looks).await {
        Ok(description) => description,
        Err(_) => panic!("never came; at last: {:#?}", broker.streams().describe(&stream(name)).await),
    }
}

fn is_finished(description: &StreamDescription) -> bool {
    description.phase == StreamPhase::Finished
}

/// Every task has read all there is.
fn is_caught_up(description: &StreamDescription) -> bool {
    let is_up = |task: &crate::StreamTask| task.state == StreamTaskState::Running && task.lag() == Some(0);
    !description.tasks.is_empty() && description.tasks.iter().all(is_up)
}
