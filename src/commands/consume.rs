//! `pubg1 consume`: records of a topic to standard output.

mod group;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use clap::Args;
use pubg1_model::{GroupId, Offset, PartitionId, TopicName, record_batch::BatchError};
use tokio::sync::mpsc;

use crate::{
    client::Client,
    consumer::{
        self, Event, FetchedRun, Span,
        template::{self, Shown, Template},
    },
    error::CommandError,
    input::timestamp,
    terminal::{Terminal, grouped},
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Without -n or --until-end it follows the topic for ever, through restarts of the broker too.
Partitions are read side by side: the order within one is kept, between them there is none.

With --group it is a member of that consumer group: it reads some of the partitions of one or more
topics, beginning where the group has committed, and commits what it has printed, once a second and
at the end. A member that is gone for --session-timeout is given up, and others read its partitions.

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
  pubg1 consume flights --partition 0 --offset 1000
  pubg1 consume --group mail flights airports          start it twice: each reads half of them";

/// `pubg1 consume`.
#[derive(Clone, Debug, Args)]
pub struct ConsumeArgs {
    /// The topic; with --group one or more
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<TopicName>,
    /// Read as a member of this consumer group
    #[arg(short, long, value_name = "NAME")]
    pub group: Option<GroupId>,
    /// How long the group waits for a member that is silent
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = humantime::parse_duration, requires = "group")]
    pub session_timeout: Duration,
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
    if let Some(group) = &args.group {
        group::check(&args)?;
        return group::run(client, terminal, &args, group).await;
    }
    let [topic] = &args.topics[..] else {
        return Err(CommandError::Usage("several topics are read with --group only".to_owned()));
    };
    let spans = spans(client, topic, &args).await?;
    let (mut tasks, events) = consumer::start(client, topic, &spans);
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

async fn spans(client: &Client, name: &TopicName, args: &ConsumeArgs) -> Result<Vec<Span>, CommandError> {
    let topic = client.topic(name).await?;
    let all: Vec<PartitionId> = topic.partitions.iter().map(|partition| partition.partition).collect();
    let wanted: Vec<PartitionId> = args.partition.iter().copied().map(PartitionId).collect();
    if let Some(missing) = wanted.iter().find(|partition| !all.contains(partition)) {
        let last = all.len().saturating_sub(1);
        return Err(CommandError::Usage(format!("topic {name} has partitions 0 to {last}, not {missing}")));
    }
    let since = args.since.as_deref().map(|text| timestamp::of_since(text, SystemTime::now()));
    let since = since.transpose().map_err(|reason| CommandError::Usage(format!("--since {reason}")))?;
    let mut spans = Vec::new();
    for partition in if wanted.is_empty() { all } else { wanted } {
        let offsets = client.offsets(name, partition).await?;
        let (beginning, end) = (offsets.beginning_offset, offsets.end_offset);
        let from = match (since, args.offset) {
            (Some(since), _) => client.offset_at(name, partition, since).await?.unwrap_or(end),
            (None, Start::Earliest) => beginning,
            (None, Start::Latest) => end,
            (None, Start::Last(records)) => Offset::new(end.get().saturating_sub(records)).max(beginning),
            (None, Start::At(offset)) if offset > end.get() => {
                let reason = format!("partition {partition} of {name} ends at offset {end}, not at {offset}");
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
    topics: &'a [TopicName],
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
            topics: &args.topics,
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
                if self.waiting == self.open {
                    self.say_waiting();
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

    /// Says once that there is nothing more at the moment.
    fn say_waiting(&mut self) {
        if !std::mem::replace(&mut self.said_waiting, true) {
            let printed = grouped(self.printed);
            self.terminal.note(&format!("{printed} records read; waiting for more (Ctrl-C ends)"));
        }
    }

    fn print(&mut self, run: &FetchedRun) -> Result<(), CommandError> {
        let topic = self.topics.first();
        let mut result = Ok(());
        let decoded = run.each(&mut |record| {
            result = match (topic, Shown::try_from(record)) {
                (Some(topic), Ok(shown)) => self.print_record(topic, run.partition, &shown),
                (_, Err(error)) => Err(undecodable(run, &error)),
                (None, _) => Ok(()),
            };
            self.left > 0 && result.is_ok()
        });
        decoded.map_err(|error| undecodable(run, &error)).and(result)
    }

    fn print_record(
        &mut self,
        topic: &TopicName,
        partition: PartitionId,
        record: &Shown<'_>,
    ) -> Result<(), CommandError> {
        match &self.template {
            Some(template) => template.write(&mut self.buffer, topic, partition, record),
            None => template::write_json(&mut self.buffer, topic, partition, record),
        }
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

fn undecodable(run: &FetchedRun, error: &BatchError) -> CommandError {
    CommandError::Failed(format!("partition {}, after offset {}: {error}", run.partition, run.from))
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
