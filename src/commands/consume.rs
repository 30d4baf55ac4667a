//! `pubg1 consume`: records of a topic to standard output.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::SystemTime,
};

use clap::Args;
use pubg1_model::{Offset, PartitionId, TopicName};
use tokio::sync::mpsc;

use crate::{
    client::Client,
    consumer::{
        self, Event, FetchedRun, Span,
        template::{self, Template},
    },
    error::CommandError,
    input::timestamp,
    terminal::{Terminal, grouped},
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Without -n or --until-end it follows the topic for ever, through restarts of the broker too.
Partitions are read side by side: the order within one is kept, between them there is none.

Format (-f): %t topic  %p partition  %o offset  %k key  %v value  %T timestamp (ms)
             %h headers (name=value,…)  %%  \\n  \\t  \\r  \\0  \\\\
             An absent key or value prints as nothing. The default is '%v\\n'.
JSON (-o json): one object a line: topic, partition, offset, timestamp, key, value, headers.
             A value that is a JSON object or array stands as itself, other text as a string,
             and bytes that are no text in base64 as value_base64 (key_base64).

Examples:
  pubg1 consume flights --until-end -n 5 -f '%p %o %k %v\\n'
  pubg1 consume flights --offset -10 --until-end       the last 10 of each partition
  pubg1 consume flights --since 10m -o json | jq .value.dest
  pubg1 consume flights --partition 0 --offset 1000";

/// `pubg1 consume`.
#[derive(Clone, Debug, Args)]
pub struct ConsumeArgs {
    /// The topic
    pub topic: TopicName,
    /// Where to begin: an offset, `earliest`, `latest`, or -N for the last N of each partition
    #[arg(long, value_name = "OFFSET", default_value = "earliest", allow_hyphen_values = true)]
    pub offset: Start,
    /// Begin at this time: 10m (ago), seconds or milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "offset")]
    pub since: Option<String>,
    /// Only this partition; repeatable
    #[arg(short, long, value_name = "N")]
    pub partition: Vec<u32>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    pub records: Option<u64>,
    /// Stop at what is the end now
    #[arg(short = 'e', long)]
    pub until_end: bool,
    /// How a record is printed
    #[arg(short, long, value_name = "FORMAT", value_parser = Template::parse)]
    pub format: Option<Template>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first record there is.
    Earliest,
    /// With the next record that is written.
    Latest,
    /// At this offset.
    At(u64),
    /// With the last so many records.
    Last(u64),
}

impl std::str::FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |_| "must be an offset, `earliest`, `latest`, or -N".to_owned();
        match text {
            "earliest" | "beginning" => Ok(Self::Earliest),
            "latest" | "end" => Ok(Self::Latest),
            _ => match text.strip_prefix('-') {
                Some(last) => last.parse().map(Self::Last).map_err(refuse),
                None => text.parse().map(Self::At).map_err(refuse),
            },
        }
    }
}

/// Reads and prints.
///
/// # Errors
/// The broker's, and [`CommandError::Stdout`] when nobody reads.
pub async fn run(client: &Client, terminal: Terminal, args: ConsumeArgs) -> Result<(), CommandError> {
    if terminal.json() && args.format.is_some() {
        return Err(CommandError::Usage("-o json has its own format: leave out -f".to_owned()));
    }
    let spans = spans(client, &args).await?;
    let (mut tasks, events) = consumer::start(client, &args.topic, &spans);
    let mut printer = Printer::new(terminal, &args);
    printer.open = spans.iter().map(|span| span.partition).collect();
    let result = tokio::select! {
        result = printer.print_all(events) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    tasks.abort_all();
    printer.flush()?;
    result
}

async fn spans(client: &Client, args: &ConsumeArgs) -> Result<Vec<Span>, CommandError> {
    let topic = client.topic(&args.topic).await?;
    let all: Vec<PartitionId> = topic.partitions.iter().map(|partition| partition.partition).collect();
    let wanted: Vec<PartitionId> = args.partition.iter().copied().map(PartitionId).collect();
    if let Some(missing) = wanted.iter().find(|partition| !all.contains(partition)) {
        let last = all.len().saturating_sub(1);
        return Err(CommandError::Usage(format!("topic {} has partitions 0 to {last}, not {missing}", args.topic)));
    }
    let since = args.since.as_deref().map(|text| timestamp::of_since(text, SystemTime::now()));
    let since = since.transpose().map_err(|reason| CommandError::Usage(format!("--since {reason}")))?;
    let mut spans = Vec::new();
    for partition in if wanted.is_empty() { all } else { wanted } {
        let offsets = client.offsets(&args.topic, partition).await?;
        let (beginning, end) = (offsets.beginning_offset, offsets.end_offset);
        let from = match (since, args.offset) {
            (Some(since), _) => client.offset_at(&args.topic, partition, since).await?.unwrap_or(end),
            (None, Start::Earliest) => beginning,
            (None, Start::Latest) => end,
            (None, Start::Last(records)) => Offset::new(end.get().saturating_sub(records)).max(beginning),
            (None, Start::At(offset)) if offset > end.get() => {
                let reason = format!("partition {partition} of {} ends at offset {end}, not at {offset}", args.topic);
                return Err(CommandError::Usage(reason));
            }
            (None, Start::At(offset)) => Offset::new(offset),
        };
        spans.push(Span { partition, from, until: args.until_end.then_some(end) });
    }
    Ok(spans)
}

struct Printer<'a> {
    terminal: Terminal,
    topic: &'a TopicName,
    template: Option<Template>,
    left: u64,
    printed: u64,
    buffer: Vec<u8>,
    open: BTreeSet<PartitionId>,
    waiting: BTreeSet<PartitionId>,
    said_waiting: bool,
    disturbed: bool,
}

impl<'a> Printer<'a> {
    fn new(terminal: Terminal, args: &'a ConsumeArgs) -> Self {
        let lines = || Template::parse("%v\\n").ok();
        Self {
            terminal,
            topic: &args.topic,
            template: if terminal.json() { None } else { args.format.clone().or_else(lines) },
            left: args.records.unwrap_or(u64::MAX),
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
                    self.terminal.note(&format!("{printed} records read; waiting for more (Ctrl-C ends)"));
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
            result = match &self.template {
                Some(template) => template.write(&mut self.buffer, self.topic, run.partition, record),
                None => template::write_json(&mut self.buffer, self.topic, run.partition, record),
            };
            self.left -= 1;
            self.printed += 1;
            self.left > 0 && result.is_ok()
        });
        decoded.and(result).map_err(|error| {
            CommandError::Failed(format!("partition {}, after offset {}: {error}", run.partition, run.from))
        })?;
        if self.buffer.len() > 64 * 1024 {
            self.flush()?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_an_offset_a_word_or_a_count_from_the_end() {
        assert_eq!("17".parse(), Ok(Start::At(17)));
        assert_eq!("-3".parse(), Ok(Start::Last(3)));
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert!("tomorrow".parse::<Start>().is_err());
        assert!("--3".parse::<Start>().is_err());
    }
}
