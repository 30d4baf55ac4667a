//! The demo's window query: flights and delays by origin and hour. It runs in the cluster, as a stream, while the flights
//! come in and brokers are killed; in the end its rows are compared with those of a plain computation over the same
//! flights, which shares no code with it.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use pubg1_model::{
    Offset, PartitionId, StreamName, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, NewRecord},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{end_offsets, flights::Flights};
use crate::{
    client::Client,
    consumer::{self, Event, Span},
    error::CommandError,
    terminal::grouped,
};

const HOUR_MS: i64 = 60 * 60 * 1000;
/// The last window is closed by records that are later than its end and the disorder that the query allows.
const MARK_AFTER_MS: i64 = 3 * 24 * HOUR_MS;
/// How long the stream may take to give out its last row.
const ROWS_DEADLINE: Duration = Duration::from_secs(60);
/// No partition is passed over while its broker is away.
const SQL: &str = "
    CREATE MATERIALIZED VIEW \"flights-by-hour\"
    WITH (max_out_of_order = '1d', max_future = 'none', idle_timeout = '10m') AS
    SELECT origin, window_start, COUNT(*) AS flights, COUNT(dep_delay) AS departed, SUM(dep_delay) AS minutes,
           AVG(dep_delay) AS mean, MAX(dep_delay) AS worst
    FROM TUMBLE(flights, record_time, INTERVAL '1' HOUR)
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

/// What the computation over the file needs of a flight.
#[derive(Deserialize)]
struct Flight<'a> {
    #[serde(borrow)]
    origin: &'a str,
    dep_delay: Option<i64>,
}

/// The rows, by origin and hour.
pub type Rows = BTreeMap<(String, i64), Row>;

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
    let expected =
        expected(flights, sent).map_err(|error| CommandError::Failed(format!("the demo's data: {error}")))?;
    let name: StreamName = STREAM.parse().map_err(failed)?;
    let output: TopicName = STREAM.parse().map_err(failed)?;
    let latest = (0..sent).rev().take(flights.len()).map(|number| flights.record(number).timestamp_ms).max();
    mark(client, topic, latest.unwrap_or(0).saturating_add(MARK_AFTER_MS)).await?;
    let began = Instant::now();
    let partitions = u32::try_from(client.topic(&output).await?.partitions.len()).unwrap_or(u32::MAX);

    let mut found = Found::default();
    let no_ends = vec![None; usize::try_from(partitions).unwrap_or(0)];
    let reading = found.read(client, &output, &no_ends, expected.len());
    // What is missing then is told by the comparison.
    if let Ok(read) = tokio::time::timeout(ROWS_DEADLINE, reading).await {
        read?;
    }
    let last_row_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Nothing is added any more; what was, after the row that seemed to be the last, is read too.
    client.pause_stream(&name).await?;
    let ends = end_offsets(client, &output, partitions).await?;
    let mut found = Found::default();
    let ends: Vec<Option<Offset>> = ends.into_iter().map(Some).collect();
    let reading = found.read(client, &output, &ends, usize::MAX);
    match tokio::time::timeout(ROWS_DEADLINE, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(CommandError::Failed(format!("reading {output} took too long"))),
    }
    Ok(WindowCheck { last_row_ms, ..compare(&expected, &found.rows) })
}

fn failed(error: pubg1_model::InvalidName) -> CommandError {
    CommandError::Failed(error.to_string())
}

/// Writes a record of this time to every partition. It is in no window, but moves time past the end of all.
async fn mark(client: &Client, topic: &TopicName, timestamp_ms: i64) -> Result<(), CommandError> {
    let encoded = |error: BatchError| CommandError::Failed(format!("a record cannot be encoded: {error}"));
    let mut batch = BatchBuilder::new(Compression::None);
    let value = json!({ "mark": "all flights are there" }).to_string();
    batch.push(&NewRecord { timestamp_ms, value: Some(value.as_bytes()), ..NewRecord::default() }).map_err(encoded)?;
    let batch = batch.finish(None).map_err(encoded)?.bytes().clone();
    for partition in client.topic(topic).await?.partitions {
        client.produce(topic, partition.partition, "all", batch.clone()).await?;
    }
    Ok(())
}

/// The rows of so many flights, one after the other.
///
/// # Errors
/// A flight that cannot be read.
pub fn expected(flights: &Flights, count: u64) -> Result<Rows, serde_json::Error> {
    let mut rows = Rows::new();
    for number in 0..count {
        let record = flights.record(number);
        let flight: Flight<'_> = serde_json::from_slice(&record.value)?;
        let window_start = record.timestamp_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let row = rows.entry((flight.origin.to_owned(), window_start)).or_insert_with(|| Row {
            origin: flight.origin.to_owned(),
            window_start,
            window_end: window_start + HOUR_MS,
            flights: 0,
            departed: 0,
            minutes: None,
            mean: None,
            worst: None,
            records: 0,
            rev: 0,
            is_final: true,
        });
        row.flights += 1;
        row.records += 1;
        if let Some(delay) = flight.dep_delay {
            row.departed += 1;
            row.minutes = Some(row.minutes.unwrap_or(0) + delay);
            row.worst = row.worst.max(Some(delay));
        }
    }
    for row in rows.values_mut() {
        row.mean = row.minutes.map(|minutes| ratio(minutes, row.departed));
    }
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
fn ratio(sum: i64, count: u64) -> f64 {
    sum as f64 / count as f64
}

/// Rows as they came.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    places: HashSet<(String, i64)>,
}

impl Found {
    /// Reads the partitions to their ends, where these are known, or until so many groups of windows are there.
    async fn read(
        &mut self,
        client: &Client,
        output: &TopicName,
        ends: &[Option<Offset>],
        enough: usize,
    ) -> Result<(), CommandError> {
        let span = |(partition, until): (u32, &Option<Offset>)| Span {
            partition: PartitionId(partition),
            from: Offset::ZERO,
            until: *until,
        };
        let spans: Vec<Span> = (0..).zip(ends).map(span).collect();
        let (_tasks, mut events) = consumer::start(client, output, &spans);
        while self.places.len() < enough
            && let Some(event) = events.recv().await
        {
            match event {
                Event::Batches(run) => {
                    let mut broken = None;
                    let decoded =
                        run.each(&mut |record| match serde_json::from_slice(record.value.unwrap_or_default()) {
                            Ok(row) => {
                                self.take(row);
                                true
                            }
                            Err(error) => {
                                broken = Some(format!("a row is not as it should be: {error}"));
                                false
                            }
                        });
                    decoded.map_err(|error| CommandError::Failed(format!("{output}: {error}")))?;
                    if let Some(broken) = broken {
                        return Err(CommandError::Failed(broken));
                    }
                }
                Event::Failed(_, error) => return Err(error.into()),
                Event::Skipped { partition, from, to } => {
                    let text = format!("{output}, partition {partition}: offsets {from} to {to} are gone");
                    return Err(CommandError::Failed(text));
                }
                Event::Ended(_) | Event::Waiting(_) | Event::Disturbed(..) => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, row: Row) {
        self.places.insert((row.origin.clone(), row.window_start));
        self.rows.push(row);
    }
}

/// Holds the rows that came against those that should have.
#[must_use]
pub fn compare(expected: &Rows, found: &[Row]) -> WindowCheck {
    let mut check = WindowCheck { expected: expected.len() as u64, ..WindowCheck::default() };
    let mut came: BTreeMap<(&str, i64), Vec<&Row>> = BTreeMap::new();
    for row in found {
        came.entry((&row.origin, row.window_start)).or_default().push(row);
    }
    let mut wrong = |text: String| {
        check.example.get_or_insert(text);
    };
    for ((origin, start), row) in expected {
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
    check
}

impl WindowCheck {
    /// Whether every row came out once, with the right values, and nothing else did.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.equal == self.expected && self.surplus == 0
    }

    /// Its part of the table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let equal = format!("{} of {}", grouped(self.equal), grouped(self.expected));
        vec![
            ("rows of the window query that are right", equal),
            ("  different, missing, surplus", format!("{}, {}, {}", self.different, self.missing, self.surplus)),
            ("last row, after the last record", format!("{} ms", self.last_row_ms)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> (Rows, Vec<Row>) {
        let expected = expected(&Flights::unpack().unwrap(), 27_004).unwrap();
        let found = expected.values().cloned().collect();
        (expected, found)
    }

    #[test]
    fn the_query_is_sql_that_we_take() {
        assert_eq!(pubg1_sql::compile_view(SQL).unwrap().name.as_str(), STREAM);
    }

    #[test]
    fn the_month_has_its_rows() {
        let (expected, found) = rows();
        assert_eq!(expected.values().map(|row| row.flights).sum::<u64>(), 27_004);
        assert_eq!(expected.values().map(|row| row.departed).sum::<u64>(), 27_004 - 521);
        assert!(compare(&expected, &found).is_clean());
    }

    #[test]
    fn whatever_is_wrong_is_seen() {
        let (expected, found) = rows();
        let count = expected.len() as u64;
        let mut fewer = found.clone();
        fewer.pop();
        let check = compare(&expected, &fewer);
        assert!(!check.is_clean() && (check.missing, check.equal) == (1, count - 1));
        let mut twice = found.clone();
        twice.push(found[7].clone());
        let check = compare(&expected, &twice);
        assert!(!check.is_clean() && check.surplus == 1);
        let mut other = found.clone();
        other[3].worst = Some(-99);
        let check = compare(&expected, &other);
        assert!(!check.is_clean() && check.different == 1);
        let mut strange = found;
        strange.push(Row { origin: "JFX".to_owned(), ..strange[0].clone() });
        let check = compare(&expected, &strange);
        assert!(!check.is_clean() && check.surplus == 1 && check.example.is_some());
    }
}
