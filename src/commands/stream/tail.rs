//! `pubg1 stream tail`: the rows of a stream, as they come.

use std::time::Duration;

use clap::Args;
use pubg1_model::{StreamName, TopicName};
use tokio::time::sleep;

use super::shown::ShownRow;
use crate::{
    client::Client,
    consumer::{
        self, Span,
        printer::{Printer, WriteRecord},
    },
    error::CommandError,
    terminal::Terminal,
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
    let mut printer = Printer::new(terminal, "rows", args.rows);
    let write: &WriteRecord<'_> = &|_, record, out| {
        write_row(terminal, record.value.unwrap_or_default(), out);
        Ok(())
    };
    loop {
        let spans = spans(client, &topic, from, args.until_end).await?;
        let (mut tasks, events) = consumer::start(client, &topic, &spans);
        let followed = tokio::select! {
            result = printer.follow(&spans, events, write) => result.map(|()| None),
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
