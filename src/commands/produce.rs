//! `pubg1 produce`: records from a file or standard input into a topic.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::ProgressBar;
use pubg1_model::{PartitionId, TopicName, compression::Compression};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::{
    client::Client,
    error::CommandError,
    input::{self, Chunk, InputFormat, InputOptions, InputRecord, timestamp},
    producer::{
        Acks, Delivery, IN_FLIGHT_MAX, OutgoingRecord, Producer, ProducerError, ProducerOptions, progress::Progress,
    },
    terminal::{Terminal, grouped},
};

/// How often the progress file is replaced.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What `--help` says at its end.
pub const HELP: &str = "\
A record's partition is --partition, or follows from its key as in Kafka's clients, or goes round.
Requests are repeated after errors without making duplicates. After Ctrl-C what is under way is
finished, and the command says how to continue.

Examples:
  echo hello | pubg1 produce greetings
  pubg1 produce flights flights.csv.gz --key-field tailnum --timestamp-field time --infer-types
  jq -c '.[]' events.json | pubg1 produce events --input ndjson --key-field user
  pubg1 produce big huge.ndjson --compression zstd --resume huge.progress   # run again to continue";

/// `pubg1 produce`.
#[derive(Clone, Debug, Args)]
pub struct ProduceArgs {
    /// The topic; it must exist
    pub topic: TopicName,
    /// The input, gzip or plain; standard input when absent or `-`
    pub file: Option<PathBuf>,
    /// How records are separated [default: by the file's name, else lines]
    #[arg(short, long, value_enum)]
    pub input: Option<InputFormat>,
    /// Field (NDJSON) or column (CSV) that becomes the key
    #[arg(short, long, value_name = "NAME")]
    pub key_field: Option<String>,
    /// Text between key and value of a line
    #[arg(long, value_name = "TEXT", conflicts_with = "key_field")]
    pub key_separator: Option<String>,
    /// Field or column with the time: seconds or milliseconds since 1970, or RFC 3339
    #[arg(short, long, value_name = "NAME")]
    pub timestamp_field: Option<String>,
    /// CSV: write numbers, true and false as such, and empty cells as null
    #[arg(long)]
    pub infer_types: bool,
    /// Send everything to this partition
    #[arg(short, long, value_name = "N")]
    pub partition: Option<u32>,
    /// Who has to have a record before it is acknowledged
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    pub compression: Compression,
    /// Size at which a batch is sent
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024)]
    pub batch_bytes: usize,
    /// How long a batch waits for more records
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = humantime::parse_duration)]
    pub linger: Duration,
    /// Batches of a partition that are under way at once
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT_MAX, value_parser = in_flight)]
    pub in_flight: usize,
    /// How long a batch is tried before the command gives up
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub delivery_timeout: Duration,
    /// Leave out the first records of the input
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    /// Keep the progress in this file, and continue from it when it is there
    #[arg(long, value_name = "FILE", conflicts_with = "skip")]
    pub resume: Option<PathBuf>,
}

fn in_flight(text: &str) -> Result<usize, String> {
    let refuse = || format!("must be 1 to {IN_FLIGHT_MAX}: a broker remembers that many batches of a producer");
    text.parse().ok().filter(|n| (1..=IN_FLIGHT_MAX).contains(n)).ok_or_else(refuse)
}

impl ProduceArgs {
    fn file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn input_options(&self) -> Result<InputOptions, CommandError> {
        let format = self.input.unwrap_or_else(|| self.file().map_or(InputFormat::Lines, InputFormat::of));
        let refuse = |text: &str| Err(CommandError::Usage(text.to_owned()));
        if format == InputFormat::Lines && (self.key_field.is_some() || self.timestamp_field.is_some()) {
            return refuse("lines have no fields: say --input ndjson or --input csv");
        }
        if format != InputFormat::Lines && self.key_separator.is_some() {
            return refuse("--key-separator is for lines; use --key-field");
        }
        if format != InputFormat::Csv && self.infer_types {
            return refuse("--infer-types is for CSV");
        }
        Ok(InputOptions {
            format,
            key_field: self.key_field.clone(),
            key_separator: self.key_separator.clone(),
            timestamp_field: self.timestamp_field.clone(),
            infer_types: self.infer_types,
            keep_broken: false,
        })
    }

    const fn producer_options(&self) -> ProducerOptions {
        ProducerOptions {
            acks: self.acks,
            compression: self.compression,
            batch_bytes: self.batch_bytes,
            linger: self.linger,
            in_flight: self.in_flight,
            delivery_timeout: self.delivery_timeout,
        }
    }
}

/// Sends the input.
///
/// # Errors
/// The input's, the broker's, and [`CommandError::Failed`] when it was interrupted.
pub async fn run(client: &Client, terminal: Terminal, args: ProduceArgs) -> Result<(), CommandError> {
    let mut chunks = input::start(args.file(), args.input_options()?)?;
    let (producer, deliveries) = Producer::start(client, args.topic.clone(), args.producer_options()).await?;
    let mut load = Load::new(terminal, args, producer, deliveries)?;
    let interrupted = interruption();
    let sent = load.send_all(&mut chunks, interrupted).await;
    load.finish(sent).await
}

/// Becomes true at the first Ctrl-C; the second one ends the process.
fn interruption() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if sender.send_replace(true) {
                std::process::exit(i32::from(crate::error::FAILURE));
            }
        }
    });
    receiver
}

/// Why sending ended before the input did.
enum Stop {
    Interrupted,
    Error(CommandError),
}

struct Load {
    terminal: Terminal,
    args: ProduceArgs,
    producer: Producer,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    tally: Tally,
    /// Records of each partition that an earlier run has stored.
    to_skip: BTreeMap<PartitionId, u64>,
    skipped: u64,
}

/// What was sent and what came back.
struct Tally {
    bar: ProgressBar,
    started: Instant,
    progress: Progress,
    resume: Option<PathBuf>,
    written: Instant,
    next_position: u64,
    sent: BTreeMap<PartitionId, u64>,
    acknowledged: u64,
    bytes: u64,
    repeated: u64,
    last_acknowledged: BTreeMap<PartitionId, u64>,
}

impl Load {
    fn new(
        terminal: Terminal,
        args: ProduceArgs,
        producer: Producer,
        deliveries: mpsc::UnboundedReceiver<Delivery>,
    ) -> Result<Self, CommandError> {
        let source = args.file().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        let mut progress = Progress::new(args.topic.clone(), source, producer.partitions());
        if let Some(path) = &args.resume {
            let read = Progress::read(path);
            let earlier = read.map_err(|source| CommandError::File { action: "read", path: path.clone(), source })?;
            if let Some(earlier) = earlier {
                if let Some(reason) = earlier.mismatch(&progress) {
                    return Err(CommandError::Usage(format!("{} does not fit: {reason}", path.display())));
                }
                terminal.note(&format!("continuing after {} records", grouped(earlier.total())));
                progress = earlier;
            }
        }
        let to_skip = progress.acknowledged.clone();
        let tally = Tally {
            bar: terminal.progress(0, "records"),
            started: Instant::now(),
            progress,
            resume: args.resume.clone(),
            written: Instant::now(),
            next_position: 0,
            sent: BTreeMap::new(),
            acknowledged: 0,
            bytes: 0,
            repeated: 0,
            last_acknowledged: BTreeMap::new(),
        };
        Ok(Self { terminal, args, producer, deliveries, tally, to_skip, skipped: 0 })
    }

    async fn send_all(
        &mut self,
        chunks: &mut mpsc::Receiver<Chunk>,
        mut interrupted: watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        loop {
            let due = self.producer.next_due();
            let linger = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Ok(()) = interrupted.changed() => return Err(Stop::Interrupted),
                Some(delivery) = self.deliveries.recv() => self.tally.take(&delivery).map_err(Stop::Error)?,
                () = linger => self.producer.send_due().await.map_err(Stop::from)?,
                chunk = chunks.recv() => match chunk {
                    None => return Ok(()),
                    Some(chunk) => self.send_chunk(chunk.map_err(Stop::Error)?, &interrupted).await?,
                },
            }
        }
    }

    async fn send_chunk(&mut self, chunk: Vec<InputRecord>, interrupted: &watch::Receiver<bool>) -> Result<(), Stop> {
        for record in chunk {
            if *interrupted.borrow() {
                return Err(Stop::Interrupted);
            }
            self.send(&record).await?;
            while let Ok(delivery) = self.deliveries.try_recv() {
                self.tally.take(&delivery).map_err(Stop::Error)?;
            }
        }
        // With a fast input there is no idle moment in which partitions with few records get their turn.
        self.producer.send_due().await.map_err(Stop::from)
    }

    async fn send(&mut self, record: &InputRecord) -> Result<(), Stop> {
        let explicit = self.args.partition.map(PartitionId);
        let partition = explicit.unwrap_or_else(|| self.producer.partition_for(record.key.as_deref(), record.position));
        let earlier = self.to_skip.get_mut(&partition).filter(|left| **left > 0);
        let stored = earlier.map(|left| *left -= 1).is_some();
        if stored || record.position < self.args.skip {
            self.skipped += 1;
            self.tally.next_position = record.position + 1;
            return Ok(());
        }
        let outgoing = OutgoingRecord {
            key: record.key.as_deref(),
            value: Some(&record.value),
            timestamp_ms: record.timestamp_ms.unwrap_or_else(timestamp::now_ms),
        };
        self.producer.send(partition, &outgoing, record.position).await.map_err(Stop::from)?;
        *self.tally.sent.entry(partition).or_default() += 1;
        self.tally.next_position = record.position + 1;
        Ok(())
    }

    async fn finish(self, sent: Result<(), Stop>) -> Result<(), CommandError> {
        let Self { terminal, producer, mut deliveries, mut tally, skipped, .. } = self;
        if matches!(sent, Err(Stop::Interrupted)) {
            terminal.note("finishing what is under way; Ctrl-C again ends at once");
        }
        let finishing = producer.finish();
        tokio::pin!(finishing);
        let finished = loop {
            tokio::select! {
                Some(delivery) = deliveries.recv() => tally.take(&delivery)?,
                finished = &mut finishing => break finished,
            }
        };
        while let Ok(delivery) = deliveries.try_recv() {
            tally.take(&delivery)?;
        }
        tally.write_progress()?;
        tally.bar.finish_and_clear();
        tally.summary(terminal, skipped)?;
        let ended = match (sent, finished) {
            (Ok(()), Ok(())) => return Ok(()),
            (Err(Stop::Error(error)), _) => error,
            (_, Err(error)) => error.into(),
            (Err(Stop::Interrupted), Ok(())) => CommandError::Failed("interrupted".to_owned()),
        };
        terminal.note(&tally.how_to_continue());
        Err(ended)
    }
}

impl From<ProducerError> for Stop {
    fn from(error: ProducerError) -> Self {
        Self::Error(error.into())
    }
}

impl From<ProducerError> for CommandError {
    fn from(error: ProducerError) -> Self {
        match error {
            ProducerError::Client(error) => Self::Client(error),
            other @ ProducerError::NoSuchPartition { .. } => Self::Usage(other.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Tally {
    fn take(&mut self, delivery: &Delivery) -> Result<(), CommandError> {
        let records = delivery.tags.len() as u64;
        self.acknowledged += records;
        self.bytes += delivery.bytes as u64;
        self.repeated += if delivery.duplicate { records } else { 0 };
        self.progress.acknowledge(delivery.partition, records);
        if let Some(last) = delivery.tags.last() {
            self.last_acknowledged.insert(delivery.partition, *last);
        }
        self.bar.set_position(self.acknowledged);
        if self.written.elapsed() >= PROGRESS_EVERY {
            self.write_progress()?;
        }
        Ok(())
    }

    fn write_progress(&mut self) -> Result<(), CommandError> {
        self.written = Instant::now();
        let Some(path) = &self.resume else { return Ok(()) };
        let written = self.progress.write(path);
        written.map_err(|source| CommandError::File { action: "write", path: path.clone(), source })
    }

    fn unacknowledged(&self) -> u64 {
        self.sent.values().sum::<u64>() - self.acknowledged.min(self.sent.values().sum())
    }

    /// Every record of the input before this one is acknowledged.
    fn safe_position(&self) -> u64 {
        if self.unacknowledged() == 0 {
            return self.next_position;
        }
        let partitions = self.sent.keys();
        let first = partitions.map(|partition| self.last_acknowledged.get(partition).map_or(0, |last| last + 1)).min();
        first.unwrap_or(0)
    }

    fn how_to_continue(&self) -> String {
        let open = self.unacknowledged();
        let mut text = match open {
            0 => format!("everything before record {} of the input is stored", self.next_position),
            _ => format!("{} records are not acknowledged; they may or may not be stored", grouped(open)),
        };
        match (&self.resume, open) {
            (Some(path), _) => text.push_str(&format!("; run again with --resume {} to continue", path.display())),
            (None, 0) => text.push_str(&format!("; run again with --skip {} to continue", self.next_position)),
            (None, _) => {
                let safe = self.safe_position();
                text.push_str(&format!("; --skip {safe} continues without a gap and may repeat records"));
            }
        }
        text
    }

    fn summary(&self, terminal: Terminal, skipped: u64) -> Result<(), CommandError> {
        let seconds = self.started.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.acknowledged as f64 / seconds.max(1e-9);
        if terminal.json() {
            let document = json!({
                "topic": self.progress.topic,
                "acknowledged": self.acknowledged,
                "unacknowledged": self.unacknowledged(),
                "skipped": skipped,
                "repeated": self.repeated,
                "bytes": self.bytes,
                "seconds": seconds,
                "records_per_second": rate,
                "next_position": self.safe_position(),
            });
            return terminal.print(&document, |_| String::new());
        }
        let partitions = self.sent.len();
        terminal.note(&format!(
            "{} records to {} in {seconds:.2} s ({rate:.0}/s, {partitions} partitions, {} bytes)",
            grouped(self.acknowledged),
            self.progress.topic,
            grouped(self.bytes)
        ));
        Ok(())
    }
}
