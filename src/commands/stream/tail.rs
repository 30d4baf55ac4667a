//! `pubg1 stream tail`: the rows of a stream, as they come.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use pubg1_model::{PartitionId, StreamName, TopicName, record_batch::BatchError};
use tokio::{sync::mpsc, time::sleep};

use super::shown::ShownRow;
use crate::{
    client::Client,
    consumer::{self, Event, FetchedRun, Span},
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// What `--help` says at its end.
pub(super) const HELP: &str = "\
Without -n or --until-end it follows the stream through restarts of brokers, until it is deleted: then
the exit code is 1. A row is shown as its window's bounds and the query's columns; with -o json it is
one line, as it stands in the output topic.

Examples:
  pubg1 stream tail busy
  pubg1 stream tail busy --from earliest --until-end -o json > rows.ndjson";

/// How often it is looked whether the rows go to another topic by now.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// `pubg1 stream tail`.
#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// The stream
    pub name: StreamName,
    /// Where to begin: with the next row, or with the first one that is there
    #[arg(long, value_enum, default_value = "latest")]
    pub from: Begin,
    /// Stop after this many rows
    #[arg(short = 'n', long, value_name = "N")]
    pub rows: Option<u64>,
    /// Stop at what is the end now
    #[arg(short = 'e', long)]
    pub until_end: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Begin {
    /// With the first row that is there
    Earliest,
    /// With the next row
    Latest,
}

/// Follows the rows.
///
/// # Errors
/// The broker's, and [`CommandError::Stdout`] when nobody reads.
pub(super) async fn run(client: &Client, terminal: Terminal, args: &TailArgs) -> Result<(), CommandError> {
    let mut topic = client.stream(&args.name).await?.topics.output;
    let mut from = args.from;
    let mut printer = Printer::new(terminal, args.rows);
    loop {
        let spans = spans(client, &topic, from, args.until_end).await?;
        let (mut tasks, events) = consumer::start(client, &topic, &spans);
        printer.open = spans.iter().map(|span| span.partition).collect();
        let followed = tokio::select! {
            result = printer.print_all(events) => result.map(|()| None),
            _ = tokio::signal::ctrl_c() => Ok(None),
            next = moved(client, &args.name, &topic) => next.map(Some),
        };
        tasks.abort_all();
        printer.flush()?;
        let Some(next) = followed? else { return Ok(()) };
        terminal.note(&format!("another generation of the stream took its place: its rows are in {next}"));
        (topic, from) = (next, Begin::Earliest);
    }
}

/// Waits until the rows of a stream go to another topic; which one that is. Who cannot be asked is asked again: that
/// rows cannot be read either is told by those who read them.
///
/// # Errors
/// [`CommandError::Failed`] when the stream is not there any more.
async fn moved(client: &Client, name: &StreamName, topic: &TopicName) -> Result<TopicName, CommandError> {
    loop {
        sleep(LOOK_INTERVAL).await;
        let Ok(streams) = client.streams().await else { continue };
        let Some(stream) = streams.into_iter().find(|stream| stream.stream == name.as_str()) else {
            return Err(CommandError::Failed(format!("stream {name} is deleted; its rows stay in the topic {topic}")));
        };
        if stream.output != *topic {
            return Ok(stream.output);
        }
    }
}

async fn spans(client: &Client, topic: &TopicName, from: Begin, until_end: bool) -> Result<Vec<Span>, CommandError> {
    let mut spans = Vec::new();
    for entry in client.topic(topic).await?.partitions {
        let partition = entry.partition;
        let offsets = client.offsets(topic, partition).await?;
        let from = if from == Begin::Latest { offsets.end_offset } else { offsets.beginning_offset };
        spans.push(Span { partition, from, until: until_end.then_some(offsets.end_offset) });
    }
    Ok(spans)
}

struct Printer {
    terminal: Terminal,
    left: u64,
    printed: u64,
    buffer: Vec<u8>,
    open: BTreeSet<PartitionId>,
    waiting: BTreeSet<PartitionId>,
    said_waiting: bool,
    disturbed: bool,
}

impl Printer {
    fn new(terminal: Terminal, rows: Option<u64>) -> Self {
        Self {
            terminal,
            left: rows.unwrap_or(u64::MAX),
            printed: 0,
            buffer: Vec::new(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            said_waiting: false,
            disturbed: false,
        }
    }

    async fn print_all(&mut self, mut events: mpsc::Receiver<Event>) -> Result<(), CommandError> {
        while self.left > 0 {
            let event = match events.try_recv() {
                Ok(event) => event,
                Err(_) => {
                    // Nothing more is there at the moment: show what there is before waiting.
                    self.flush()?;
                    match events.recv().await {
                        Some(event) => event,
                        None => return Ok(()),
                    }
                }
            };
            self.take(event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Batches(run) => {
                self.waiting.remove(&run.partition);
                if std::mem::take(&mut self.disturbed) {
                    self.terminal.note("the broker answers again");
                }
                self.print(&run)?;
            }
            Event::Ended(partition) => {
                self.open.remove(&partition);
            }
            Event::Waiting(partition) => {
                self.waiting.insert(partition);
                if self.waiting == self.open && !std::mem::replace(&mut self.said_waiting, true) {
                    let printed = grouped(self.printed);
                    self.terminal.note(&format!("{printed} rows; waiting for more (Ctrl-C ends)"));
                }
            }
            Event::Disturbed(_, reason) => {
                if !std::mem::replace(&mut self.disturbed, true) {
                    self.terminal.note(&format!("{reason}; trying again"));
                }
            }
            Event::Skipped { partition, from, to } => {
                let text = format!("partition {partition}: offsets {from} to {to} were deleted before they were read");
                self.terminal.note(&text);
            }
            Event::Failed(_, error) => return Err(error.into()),
        }
        Ok(())
    }

    fn print(&mut self, run: &FetchedRun) -> Result<(), CommandError> {
        let mut result = Ok(());
        let decoded = run.each(&mut |record| {
            result = self.print_row(record.value.unwrap_or_default());
            self.left > 0 && result.is_ok()
        });
        let undecodable = |error: BatchError| {
            CommandError::Failed(format!("partition {}, after offset {}: {error}", run.partition, run.from))
        };
        decoded.map_err(undecodable).and(result)
    }

    fn print_row(&mut self, value: &[u8]) -> Result<(), CommandError> {
        write_row(self.terminal, value, &mut self.buffer);
        self.left -= 1;
        self.printed += 1;
        if self.buffer.len() > 64 * 1024 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(&self.buffer).and_then(|()| out.flush()).map_err(CommandError::Stdout)?;
        self.buffer.clear();
        Ok(())
    }
}

/// One line. What is no row, because somebody else writes to the topic too, is shown as it is.
fn write_row(terminal: Terminal, value: &[u8], out: &mut Vec<u8>) {
    match serde_json::from_slice::<ShownRow>(value) {
        Ok(row) if !terminal.json() => out.extend_from_slice(row.line().as_bytes()),
        _ => out.extend_from_slice(value),
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::OutputFormat;

    #[test]
    fn a_row_is_a_line() {
        let row = br#"{"n":1,"window_start":0,"window_end":1000,"rev":0,"final":true,"records":1}"#;
        let line = |format, value: &[u8]| {
            let mut out = Vec::new();
            write_row(Terminal { format, color: false }, value, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(line(OutputFormat::Table, row), "1970-01-01T00:00:00Z 1970-01-01T00:00:01Z n=1\n");
        assert_eq!(line(OutputFormat::Json, row), format!("{}\n", std::str::from_utf8(row).unwrap()));
        assert_eq!(line(OutputFormat::Table, b"no row"), "no row\n");
    }
}
