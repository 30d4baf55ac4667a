//! What a stream has to have given out: its query over the records of its input, read back partition by partition and
//! computed here, by the engine without a cluster.

use std::{collections::BTreeMap, sync::Arc};

use pubg1::{
    client::{Client, stream_reply::StreamReply},
    consumer::{self, Event, Span},
};
use pubg1_model::{
    Offset, PartitionId, TopicName,
    streams::{
        document::StreamDocument,
        engine::{InputRecord, Output, Stats, WindowEngine},
        stages::shard_of,
    },
};

use crate::harness::wait_until;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// All records of a topic, by partition and offset.
pub(crate) async fn read_topic(client: &Client, topic: &TopicName) -> Vec<Stored> {
    let mut spans = Vec::new();
    for partition in client.topic(topic).await.expect("the topic").partitions {
        let end = client.offsets(topic, partition.partition).await.expect("offsets").end_offset;
        spans.push(Span { partition: partition.partition, from: Offset::ZERO, until: Some(end) });
    }
    let mut stored = Vec::new();
    let (_tasks, mut events) = consumer::start(client, topic, &spans);
    while let Some(event) = events.recv().await {
        match event {
            Event::Batches(run) => {
                let PartitionId(partition) = run.partition;
                let mut take = |record: &pubg1_model::record_batch::RecordView<'_>| {
                    let headers = record.headers().flatten();
                    stored.push(Stored {
                        partition,
                        offset: record.offset.get(),
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: headers
                            .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec()))
                            .collect(),
                    });
                    true
                };
                run.each(&mut take).expect("batches");
            }
            Event::Failed(partition, error) => panic!("{topic}-{partition}: {error}"),
            Event::Skipped { partition, from, to } => panic!("{topic}-{partition}: {from} to {to} are gone"),
            Event::Ended(_) | Event::Waiting(_) | Event::Disturbed(..) => {}
        }
    }
    stored.sort();
    stored
}

/// What belongs into the topics of a stream.
pub(crate) struct Oracle {
    document: StreamDocument,
    /// Rows with their partition and key.
    rows: Vec<(u32, Option<Vec<u8>>, String)>,
    /// Records that are in no window: partition, offset, reason.
    late: Vec<(u32, u64, &'static str)>,
    input: Vec<Stored>,
    stats: Stats,
}

impl Oracle {
    /// Reads the input and computes. Nothing is closed at the end of it: its last records have to move time far enough.
    pub(crate) async fn of(client: &Client, document: &StreamDocument, output_partitions: u32) -> Self {
        let input = read_topic(client, &document.input).await;
        let plan = Arc::new(document.plan.clone());
        let mut by_partition: BTreeMap<u32, Vec<InputRecord<'_>>> = BTreeMap::new();
        for record in &input {
            by_partition.entry(record.partition).or_default().push(InputRecord {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                append_time_ms: None,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
            });
        }
        let partitions: Vec<u32> = by_partition.keys().copied().collect();
        let mut engine = WindowEngine::new(Arc::clone(&plan), &partitions).expect("a plan");
        let mut out = Output::default();
        for (partition, records) in &by_partition {
            engine.feed(*partition, records, &mut out);
        }
        let rows =
            out.rows.iter().map(|row| (shard_of(&row.group_bytes(), output_partitions), row.key(), row.to_json(&plan)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        let late = out.diverted.iter().map(|diverted| (diverted.partition, diverted.offset, diverted.reason.name()));
        let mut late: Vec<_> = late.collect();
        late.sort_unstable();
        let (document, stats) = (document.clone(), engine.stats());
        assert_eq!(engine.open().groups, 0, "the end of the input closes everything");
        Self { document, rows, late, input, stats }
    }

    /// How many records are in no window.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }

    /// Waits until as many rows are there, has the stream stand still, and compares: every row once, in its partition
    /// and with its key, and none besides; so too what is in no window; and the stream's own account of the records. What was compared is told.
    pub(crate) async fn compare(&self, client: &Client) -> String {
        let name = &self.document.name;
        let described: StreamReply = wait_until("the stream has read everything and given out its rows", || async {
            let described = client.stream(name).await.ok()?;
            let rows = count(client, &described.topics.output).await?;
            let late = count(client, &described.topics.late).await?;
            // What is between the stages is read, too.
            let is_read = described.partitions.iter().chain(&described.shards).all(|task| task.lag == Some(0));
            let is_all = rows >= self.rows.len() as u64 && late >= self.late.len() as u64;
            (is_read && is_all && described.records.read == self.stats.read).then_some(described)
        })
        .await;
        client.pause_stream(name).await.expect("it stands still");

        let found = read_topic(client, &described.topics.output).await;
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).expect("JSON");
        let mut found: Vec<_> =
            found.into_iter().map(|record| (record.partition, record.key, text(record.value))).collect();
        found.sort();
        if found != self.rows {
            let missing = self.rows.iter().filter(|row| found.binary_search(row).is_err());
            let surplus = found.iter().filter(|row| self.rows.binary_search(row).is_err());
            let twice = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
            let shown = |rows: &mut dyn Iterator<Item = &(u32, Option<Vec<u8>>, String)>| {
                let rows: Vec<String> = rows.map(|(partition, _, row)| format!("{partition}: {row}")).collect();
                format!("{} such as {:#?}", rows.len(), &rows[..rows.len().min(3)])
            };
            panic!(
                "{name}: {} rows in place of {}; missing {}; surplus {}; twice {}",
                found.len(),
                self.rows.len(),
                shown(&mut missing.into_iter()),
                shown(&mut surplus.into_iter()),
                shown(&mut twice.into_iter()),
            );
        }
        self.compare_late(client, &described.topics.late).await;
        let told = described.records;
        let told = (told.read, told.accepted, told.filtered, told.late, told.future, told.malformed, told.no_time);
        let Stats { read, accepted, filtered, late, future, malformed, no_time, .. } = self.stats;
        assert_eq!(told, (read, accepted, filtered, late, future, malformed, no_time), "{name}");
        format!("{name}: {} rows, each once and as they should be; {} records late", self.rows.len(), self.late.len())
    }

    async fn compare_late(&self, client: &Client, topic: &TopicName) {
        let found = read_topic(client, topic).await;
        let header = |record: &Stored, name: &str| {
            let header = record.headers.iter().find(|(header, _)| header == name);
            header.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let mut places = Vec::new();
        for record in &found {
            let partition: u32 = header(record, "partition").parse().expect("a partition");
            let offset: u64 = header(record, "offset").parse().expect("an offset");
            let original =
                self.input.binary_search_by_key(&(partition, offset), |input| (input.partition, input.offset));
            let original = &self.input[original.expect("a record of the input")];
            assert_eq!((&record.key, &record.value), (&original.key, &original.value), "as it was");
            places.push((partition, offset, header(record, "reason")));
        }
        places.sort_unstable();
        let late: Vec<_> = self.late.iter().map(|(partition, offset, reason)| (*partition, *offset, *reason)).collect();
        let places: Vec<_> =
            places.iter().map(|(partition, offset, reason)| (*partition, *offset, reason.as_str())).collect();
        assert!(places == late, "{topic}: {} records in place of {}", places.len(), late.len());
    }
}

/// How many records a topic has that nothing is deleted from.
async fn count(client: &Client, topic: &TopicName) -> Option<u64> {
    let mut count = 0;
    for partition in client.topic(topic).await.ok()?.partitions {
        count += client.offsets(topic, partition.partition).await.ok()?.end_offset.get();
    }
    Some(count)
}
