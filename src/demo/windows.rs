//! The demo's window query: flights and delays by origin and the hour in which they were to leave. It runs in the
//! cluster, as a stream, while the flights come in, out of order as they left, and brokers are killed; in the end its
//! rows, and the records that were too late for them, are compared with those of a [plain computation](Plain) over the
//! same records.

mod plain;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use pubg1_model::{
    Offset, PartitionId, StreamName, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, NewRecord, RecordView},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::plain::HOUR_MS;
pub use self::plain::Plain;
use super::{end_offsets, flights::Flights};
use crate::{
    client::Client,
    consumer::{self, Event, Span},
    error::CommandError,
    terminal::grouped,
};

/// The last window is closed by records that are later than its end and the disorder that the query allows.
const MARK_AFTER_MS: i64 = 3 * 24 * HOUR_MS;
/// How long the stream may take to give out its last row.
const ROWS_DEADLINE: Duration = Duration::from_secs(60);
/// More than half of the flights leave after one that was to leave later, and some by more than the query waits for.
/// Every partition is waited for, also one that has no record yet: what is late is then decided by the records alone.
const SQL: &str = "
    CREATE MATERIALIZED VIEW \"flights-by-hour\"
    WITH (max_out_of_order = '60m', max_future = 'none', idle_timeout = 'none') AS
    SELECT origin, window_start, COUNT(*) AS flights, COUNT(dep_delay) AS departed, SUM(dep_delay) AS minutes,
           AVG(dep_delay) AS mean, MAX(dep_delay) AS worst
    FROM TUMBLE(flights, scheduled, INTERVAL '1' HOUR)
    WHERE origin IS NOT NULL
    GROUP BY origin, window_start";
const STREAM: &str = "flights-by-hour";

/// A row of the query, as it stands in the output topic.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Row {
    origin: String,
    window_start: i64,
    window_end: i64,
    flights: u64,
    departed: u64,
    minutes: Option<i64>,
    mean: Option<f64>,
    worst: Option<i64>,
    records: u64,
    rev: u32,
    #[serde(rename = "final")]
    is_final: bool,
}

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WindowCheck {
    /// Rows that there have to be.
    pub expected: u64,
    /// Of these, how many are there and equal, once.
    pub equal: u64,
    /// Which came out with other values.
    pub different: u64,
    /// Which did not come out.
    pub missing: u64,
    /// Rows of a group and window that had come out before, or that should not be there at all.
    pub surplus: u64,
    /// Records that stand behind one of their partition with a later time.
    pub out_of_order: u64,
    /// Records that have to be late for their window.
    pub late: u64,
    /// Records that are in the late topic and should not be, or twice, and those that should be and are not.
    pub late_wrong: u64,
    /// One that is wrong.
    pub example: Option<String>,
    /// From the last record to the last row.
    pub last_row_ms: u64,
}

/// Declares the stream. Its topics are created with it.
///
/// # Errors
/// The cluster refuses it.
pub(super) async fn declare(client: &Client) -> Result<(), CommandError> {
    let document = pubg1_sql::compile_view(SQL)
        .map_err(|error| CommandError::Failed(format!("the demo's query is refused: {error}")))?;
    client.create_stream(&document, false).await?;
    Ok(())
}

/// Closes the last windows, waits for their rows and compares all of them.
///
/// # Errors
/// The topics cannot be written or read.
pub(super) async fn check(
    client: &Client,
    topic: &TopicName,
    flights: &Flights,
    sent: u64,
) -> Result<WindowCheck, CommandError> {
    let expected = compute(client, topic).await?;
    let name: StreamName = STREAM.parse().map_err(failed)?;
    let latest = (0..sent).rev().take(flights.len()).map(|number| flights.record(number).timestamp_ms).max();
    mark(client, topic, latest.unwrap_or(0).saturating_add(MARK_AFTER_MS)).await?;
    let began = Instant::now();
    let topics = client.stream(&name).await?.topics;
    let mut found = Found::default();
    let reading = async {
        if !expected.rows.is_empty() {
            read(client, &topics.output, None, |_, record| found.row(record, expected.rows.len())).await?;
        }
        let last_row = began.elapsed();
        if !expected.late.is_empty() {
            read(client, &topics.late, None, |_, record| found.late(record, expected.late.len())).await?;
        }
        Ok::<_, CommandError>(last_row)
    };
    // What is missing then is told by the comparison.
    let last_row = match tokio::time::timeout(ROWS_DEADLINE, reading).await {
        Ok(last_row) => last_row?,
        Err(_) => began.elapsed(),
    };
    // Nothing is added any more; what was, after the row that seemed to be the last, is read too.
    client.pause_stream(&name).await?;
    let mut found = Found::default();
    let reading = async {
        let ends = ends_of(client, &topics.output).await?;
        read(client, &topics.output, Some(&ends), |_, record| found.row(record, usize::MAX)).await?;
        let ends = ends_of(client, &topics.late).await?;
        read(client, &topics.late, Some(&ends), |_, record| found.late(record, usize::MAX)).await
    };
    match tokio::time::timeout(ROWS_DEADLINE, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(CommandError::Failed(format!("reading the rows of {name} took too long"))),
    }
    let last_row_ms = u64::try_from(last_row.as_millis()).unwrap_or(u64::MAX);
    Ok(WindowCheck { last_row_ms, ..compare(&expected, &found) })
}

/// Computes over all records of the topic.
async fn compute(client: &Client, topic: &TopicName) -> Result<Plain, CommandError> {
    let ends = ends_of(client, topic).await?;
    let mut plain = Plain::default();
    let take = |partition: PartitionId, record: &RecordView<'_>| {
        plain.take(partition.0, record.offset.get(), record.value.unwrap_or_default())?;
        Ok(Reading::On)
    };
    match tokio::time::timeout(ROWS_DEADLINE, read(client, topic, Some(&ends), take)).await {
        Ok(read) => read?,
        Err(_) => return Err(CommandError::Failed(format!("reading {topic} took too long"))),
    }
    Ok(plain)
}

async fn ends_of(client: &Client, topic: &TopicName) -> Result<Vec<Offset>, CommandError> {
    let partitions = u32::try_from(client.topic(topic).await?.partitions.len()).unwrap_or(u32::MAX);
    end_offsets(client, topic, partitions).await
}

fn failed(error: pubg1_model::InvalidName) -> CommandError {
    CommandError::Failed(error.to_string())
}

/// Writes a record of this time to every partition. It is in no window, but moves time past the end of all.
async fn mark(client: &Client, topic: &TopicName, timestamp_ms: i64) -> Result<(), CommandError> {
    let encoded = |error: BatchError| CommandError::Failed(format!("a record cannot be encoded: {error}"));
    let mut batch = BatchBuilder::new(Compression::None);
    let value = json!({ "mark": "all flights are there", "scheduled": timestamp_ms }).to_string();
    batch.push(&NewRecord { timestamp_ms, value: Some(value.as_bytes()), ..NewRecord::default() }).map_err(encoded)?;
    let batch = batch.finish(None).map_err(encoded)?.bytes().clone();
    for partition in client.topic(topic).await?.partitions {
        client.produce(topic, partition.partition, "all", batch.clone()).await?;
    }
    Ok(())
}

/// Whether there is more to be read.
enum Reading {
    On,
    Enough,
}

/// Reads a topic to these ends, or until somebody has enough; each partition in order.
async fn read(
    client: &Client,
    topic: &TopicName,
    ends: Option<&[Offset]>,
    mut take: impl FnMut(PartitionId, &RecordView<'_>) -> Result<Reading, serde_json::Error>,
) -> Result<(), CommandError> {
    let numbers = client.topic(topic).await?.partitions.into_iter().map(|entry| entry.partition);
    let until = |partition: PartitionId| ends?.get(usize::try_from(partition.0).ok()?).copied();
    let spans: Vec<Span> =
        numbers.map(|partition| Span { partition, from: Offset::ZERO, until: until(partition) }).collect();
    let (_tasks, mut events) = consumer::start(client, topic, &spans);
    while let Some(event) = events.recv().await {
        match event {
            Event::Batches(run) => {
                let mut taken = Ok(Reading::On);
                let decoded = run.each(&mut |record| {
                    taken = take(run.partition, record);
                    matches!(taken, Ok(Reading::On))
                });
                decoded.map_err(|error| CommandError::Failed(format!("{topic}: {error}")))?;
                match taken {
                    Ok(Reading::On) => {}
                    Ok(Reading::Enough) => return Ok(()),
                    Err(error) => {
                        let text =
                            format!("{topic}, partition {}: a value is not as it should be: {error}", run.partition);
                        return Err(CommandError::Failed(text));
                    }
                }
            }
            Event::Failed(_, error) => return Err(error.into()),
            Event::Skipped { partition, from, to } => {
                let text = format!("{topic}, partition {partition}: offsets {from} to {to} are gone");
                return Err(CommandError::Failed(text));
            }
            Event::Ended(_) | Event::Waiting(_) | Event::Disturbed(..) => {}
        }
    }
    Ok(())
}

/// What the stream has given out.
#[derive(Debug, Default)]
pub struct Found {
    rows: Vec<Row>,
    places: HashSet<(String, i64)>,
    /// Late records, by partition and offset, as often as they are there.
    late: BTreeMap<(u32, u64), u64>,
}

impl Found {
    /// Takes a row; it is enough when there are so many groups of windows.
    fn row(&mut self, record: &RecordView<'_>, enough: usize) -> Result<Reading, serde_json::Error> {
        let row: Row = serde_json::from_slice(record.value.unwrap_or_default())?;
        self.places.insert((row.origin.clone(), row.window_start));
        self.rows.push(row);
        Ok(if self.places.len() < enough { Reading::On } else { Reading::Enough })
    }

    /// Takes a record that is in no window; it is enough when there are so many.
    fn late(&mut self, record: &RecordView<'_>, enough: usize) -> Result<Reading, serde_json::Error> {
        let header = |name: &str| {
            let header = record.headers().flatten().find(|(header, _)| *header == name);
            serde_json::from_slice(header.and_then(|(_, value)| value).unwrap_or_default())
        };
        let (partition, offset) = (header("partition")?, header("offset")?);
        *self.late.entry((u32::try_from(partition).unwrap_or(u32::MAX), offset)).or_default() += 1;
        Ok(if self.late.len() < enough { Reading::On } else { Reading::Enough })
    }
}

/// Holds what came against what should have.
#[must_use]
pub fn compare(expected: &Plain, found: &Found) -> WindowCheck {
    let mut check = WindowCheck {
        expected: expected.rows.len() as u64,
        out_of_order: expected.out_of_order,
        late: expected.late.len() as u64,
        ..WindowCheck::default()
    };
    let mut came: BTreeMap<(&str, i64), Vec<&Row>> = BTreeMap::new();
    for row in &found.rows {
        came.entry((&row.origin, row.window_start)).or_default().push(row);
    }
    let mut wrong = |text: String| {
        check.example.get_or_insert(text);
    };
    for ((origin, start), row) in &expected.rows {
        match came.remove(&(origin.as_str(), *start)).as_deref() {
            None => {
                check.missing += 1;
                wrong(format!("missing: {row:?}"));
            }
            Some([first, more @ ..]) => {
                if *first == row {
                    check.equal += u64::from(more.is_empty());
                } else {
                    check.different += 1;
                    wrong(format!("{first:?} in place of {row:?}"));
                }
                check.surplus += more.len() as u64;
                more.iter().for_each(|row| wrong(format!("again: {row:?}")));
            }
            Some([]) => {}
        }
    }
    for row in came.values().flatten() {
        check.surplus += 1;
        wrong(format!("not to be there: {row:?}"));
    }
    let late: BTreeSet<(u32, u64)> = found.late.keys().copied().collect();
    for place in expected.late.symmetric_difference(&late) {
        check.late_wrong += 1;
        let (partition, offset) = place;
        let what = if late.contains(place) { "is said to be late" } else { "is late, and is not said to be" };
        wrong(format!("partition {partition}, offset {offset} {what}"));
    }
    for ((partition, offset), count) in found.late.iter().filter(|(_, count)| **count > 1) {
        check.late_wrong += count - 1;
        wrong(format!("partition {partition}, offset {offset} is late {count} times"));
    }
    check
}

impl WindowCheck {
    /// Whether every row came out once, with the right values, and nothing else did; so too what was too late.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.equal == self.expected && self.surplus == 0 && self.late_wrong == 0
    }

    /// Its part of the table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let equal = format!("{} of {}", grouped(self.equal), grouped(self.expected));
        vec![
            ("rows of the window query that are right", equal),
            ("  different, missing, surplus", format!("{}, {}, {}", self.different, self.missing, self.surplus)),
            ("records out of order in their partition", grouped(self.out_of_order)),
            ("  too late for their window", grouped(self.late)),
            ("  told as late and not, or the reverse", grouped(self.late_wrong)),
            ("last row, after the last record", format!("{} ms", self.last_row_ms)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month() -> (Plain, Found) {
        let flights = Flights::unpack().unwrap();
        let (mut expected, mut found) = (Plain::default(), Found::default());
        for number in 0..27_004 {
            expected.take(0, number, &flights.record(number).value).unwrap();
        }
        found.rows = expected.rows.values().cloned().collect();
        found.late = expected.late.iter().map(|place| (*place, 1)).collect();
        (expected, found)
    }

    #[test]
    fn the_query_is_sql_that_we_take() {
        assert_eq!(pubg1_sql::compile_view(SQL).unwrap().name.as_str(), STREAM);
    }

    #[test]
    fn whatever_is_wrong_is_seen() {
        let (expected, mut found) = month();
        let count = expected.rows.len() as u64;
        let is_seen = |found: &Found, saw: fn(&WindowCheck) -> bool| {
            let check = compare(&expected, found);
            assert!(!check.is_clean() && check.example.is_some() && saw(&check), "{check:?}");
        };
        assert!(compare(&expected, &found).is_clean());
        let row = found.rows.pop().unwrap();
        is_seen(&found, |check| check.missing == 1);
        assert_eq!(compare(&expected, &found).equal, count - 1);
        found.rows.extend([row.clone(), row.clone()]);
        is_seen(&found, |check| check.surplus == 1);
        found.rows.pop();
        found.rows.push(Row { origin: "JFX".to_owned(), ..row });
        is_seen(&found, |check| check.surplus == 1);
        found.rows.pop();
        let worst = found.rows[3].worst.replace(-99);
        is_seen(&found, |check| check.different == 1);
        found.rows[3].worst = worst;

        let (place, _) = found.late.pop_last().unwrap();
        is_seen(&found, |check| check.late_wrong == 1);
        found.late.insert(place, 2);
        is_seen(&found, |check| check.late_wrong == 1);
        found.late.insert(place, 1);
        found.late.insert((7, 0), 1);
        is_seen(&found, |check| check.late_wrong == 1);
    }
}
