//! The input of a local run: a file whose records are dealt out to partitions, as a topic's would be.

use std::path::{Path, PathBuf};

use clap::Args;
use pubg1_model::{
    partitioner::partition_for_key,
    streams::{
        engine::InputRecord as EngineRecord,
        plan::{Plan, TimeSource},
    },
};

use crate::{
    error::CommandError,
    input::{InputFormat, InputOptions, InputRecord},
};

/// What is read, and how it becomes records of partitions.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// The input, gzip or plain; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// How records are separated [default: by the file's name, else ndjson]
    #[arg(long, value_enum)]
    pub format: Option<InputFormat>,
    /// Field (NDJSON) or column (CSV) that becomes the key
    #[arg(short, long, value_name = "NAME")]
    pub key_field: Option<String>,
    /// Text between key and value of a line
    #[arg(long, value_name = "TEXT", conflicts_with = "key_field")]
    pub key_separator: Option<String>,
    /// Field or column with the record's time: seconds or milliseconds since 1970, or RFC 3339
    #[arg(short, long, value_name = "NAME")]
    pub timestamp_field: Option<String>,
    /// CSV: leave numbers, true and false as text, and empty cells as empty text
    #[arg(long)]
    pub all_text: bool,
    /// How many partitions the records are dealt out to
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
}

impl InputArgs {
    pub(super) fn path(&self) -> Option<&Path> {
        Some(self.input.as_path()).filter(|path| *path != Path::new("-"))
    }

    pub(super) fn options(&self, plan: &Plan) -> Result<InputOptions, CommandError> {
        let named = self.path().map(InputFormat::of).filter(|format| *format != InputFormat::Lines);
        let format = self.format.or(named).unwrap_or(InputFormat::Ndjson);
        let refuse = |text: &str| Err(CommandError::Usage(text.to_owned()));
        if format == InputFormat::Lines && (self.key_field.is_some() || self.timestamp_field.is_some()) {
            return refuse("lines have no fields: say --format ndjson or --format csv");
        }
        if format != InputFormat::Lines && self.key_separator.is_some() {
            return refuse("--key-separator is for lines; use --key-field");
        }
        if format != InputFormat::Csv && self.all_text {
            return refuse("--all-text is for CSV");
        }
        if self.timestamp_field.is_none() && !matches!(plan.time.source, TimeSource::Field { .. }) {
            return refuse("the query goes by the records' own time: say with --timestamp-field which field that is");
        }
        Ok(InputOptions {
            format,
            key_field: self.key_field.clone(),
            key_separator: self.key_separator.clone(),
            timestamp_field: self.timestamp_field.clone(),
            infer_types: !self.all_text,
            keep_broken: true,
        })
    }
}

/// Records in their partitions, in the order of their offsets.
pub(super) struct Partitions {
    queues: Vec<Vec<InputRecord>>,
    next_offsets: Vec<u64>,
}

impl Partitions {
    pub(super) fn new(count: u32) -> Self {
        let queues: Vec<Vec<InputRecord>> = (0..count).map(|_| Vec::new()).collect();
        Self { next_offsets: vec![0; queues.len()], queues }
    }

    /// The numbers of the partitions.
    pub(super) fn numbers(&self) -> Vec<u32> {
        (0..).take(self.queues.len()).collect()
    }

    /// Puts a record into its partition: by its key, else by its position in the input.
    pub(super) fn push(&mut self, record: InputRecord) {
        let count = self.queues.len();
        let place = match &record.key {
            Some(key) => partition_for_key(key, u32::try_from(count).unwrap_or(u32::MAX)).0 as usize,
            None => usize::try_from(record.position % count.max(1) as u64).unwrap_or(0),
        };
        if let Some(queue) = self.queues.get_mut(place) {
            queue.push(record);
        }
    }

    /// Takes what waits, partition by partition: its number, the first offset, the records.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u32, u64, Vec<InputRecord>)> {
        let taken = (0_u32..).zip(self.queues.iter_mut().zip(&mut self.next_offsets));
        taken.filter(|(_, (queue, _))| !queue.is_empty()).map(|(partition, (queue, next))| {
            let first = *next;
            *next += queue.len() as u64;
            (partition, first, std::mem::take(queue))
        })
    }
}

/// A record as the engine takes it. A file does not say when its records were appended; a query by append time is
/// given their timestamps.
pub(super) fn engine_record<'a>(record: &'a InputRecord, offset: u64, plan: &Plan) -> EngineRecord<'a> {
    let by_append_time = plan.time.source == TimeSource::AppendTime;
    EngineRecord {
        offset,
        timestamp_ms: record.timestamp_ms.unwrap_or(NO_TIMESTAMP),
        append_time_ms: record.timestamp_ms.filter(|_| by_append_time),
        key: record.key.as_deref(),
        value: Some(&record.value),
    }
}

/// Further away than any time: the engine counts such a record as one without a time.
const NO_TIMESTAMP: i64 = i64::MIN;
