//! `pubg1 consume`: records of a topic to standard output.

mod group;

use std::time::{Duration, SystemTime};

use clap::Args;
use pubg1_model::{GroupId, Offset, PartitionId, TopicName};

use crate::{
    client::Client,
    consumer::{
        self, Span,
        printer::{Printer, WriteRecord},
        template::{self, Shown, Template},
    },
    error::CommandError,
    input::timestamp,
    terminal::Terminal,
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
    let (mut printer, format) = (printer(terminal, &args), Format::new(terminal, &args));
    let write: &WriteRecord<'_> = &|partition, record, out| {
        format.write(topic, partition, &Shown::try_from(record)?, out);
        Ok(())
    };
    let result = tokio::select! {
        result = printer.follow(&spans, events, write) => result,
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

/// How records are shown: as JSON, or by a template.
struct Format(Option<Template>);

impl Format {
    fn new(terminal: Terminal, args: &ConsumeArgs) -> Self {
        let lines = || Template::parse("%v\\n").ok();
        Self(if terminal.json() { None } else { args.format.clone().or_else(lines) })
    }

    fn write(&self, topic: &TopicName, partition: PartitionId, record: &Shown<'_>, out: &mut Vec<u8>) {
        match &self.0 {
            Some(template) => template.write(out, topic, partition, record),
            None => template::write_json(out, topic, partition, record),
        }
    }
}

fn printer(terminal: Terminal, args: &ConsumeArgs) -> Printer {
    Printer::new(terminal, "records read", args.records)
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
