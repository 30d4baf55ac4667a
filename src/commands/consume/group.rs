//! `pubg1 consume --group`: the group's part of some topics, committed when it is printed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pubg1_model::{GroupId, Offset, TopicName};

use super::{ConsumeArgs, Format, Printer, Start, printer};
use crate::{
    client::{Client, ClientError, backoff::Backoff, group_reply::GroupRecord},
    commands::demo::interrupted,
    consumer::{
        group::{Committed, GroupReader, Offsets},
        template::Shown,
    },
    error::CommandError,
    terminal::Terminal,
};

/// How long a broker may hold a request for records that are not there yet.
const WAIT: Duration = Duration::from_secs(2);
/// What is printed is committed after so long at the latest, if the brokers let it.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// At the end nobody is waited for longer.
const PARTING: Duration = Duration::from_secs(5);

/// Reads, prints and commits, until nothing more is wanted or somebody interrupts it.
pub(super) async fn run(
    client: &Client,
    terminal: Terminal,
    args: &ConsumeArgs,
    group: &GroupId,
) -> Result<(), CommandError> {
    let reset = match args.offset {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
        Start::At(_) | Start::Last(_) => {
            let reason = "a group goes on where it has committed; --offset earliest or latest says where it begins. \
                          `pubg1 group seek` moves it";
            return Err(CommandError::Usage(reason.to_owned()));
        }
    };
    // The broker that was named may die: its neighbours know the group as well.
    let client = client.of_the_cluster().await?;
    let ends = if args.until_end { Some(ends(&client, &args.topics).await?) } else { None };
    let reader = GroupReader::new(client, group.clone(), args.topics.clone(), reset, args.session_timeout);
    let (mut printer, format) = (printer(terminal, args), Format::new(terminal, args));
    let mut reading = Reading { terminal, format, reader, printed: Offsets::new(), since_commit: Instant::now(), ends };
    let result = tokio::select! {
        result = reading.read(&mut printer) => result,
        () = interrupted() => Ok(()),
    };
    printer.flush()?;
    let parting = tokio::time::timeout(PARTING, reading.part()).await;
    if !matches!(parting, Ok(Ok(()))) {
        terminal.note("no broker took the last commit: what was printed last may come again");
    }
    result
}

/// Where each partition ends now that has records.
async fn ends(client: &Client, topics: &[TopicName]) -> Result<Offsets, CommandError> {
    let mut ends = BTreeMap::new();
    for topic in topics {
        for partition in client.topic(topic).await?.partitions {
            let offsets = client.offsets(topic, partition.partition).await?;
            if offsets.end_offset > offsets.beginning_offset {
                ends.insert((topic.clone(), partition.partition), offsets.end_offset);
            }
        }
    }
    Ok(ends)
}

struct Reading {
    terminal: Terminal,
    format: Format,
    reader: GroupReader,
    /// Printed and not committed.
    printed: Offsets,
    since_commit: Instant,
    /// Records from here on are not wanted, nor those of other partitions.
    ends: Option<Offsets>,
}

impl Reading {
    async fn read(&mut self, printer: &mut Printer) -> Result<(), CommandError> {
        let mut backoff = Backoff::default();
        let mut disturbed = false;
        while printer.left() > 0 {
            match self.round(printer).await? {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    backoff = Backoff::default();
                    if std::mem::take(&mut disturbed) {
                        self.terminal.note("the brokers answer again");
                    }
                }
                Err(error) if error.is_retriable() => {
                    if !std::mem::replace(&mut disturbed, true) {
                        self.terminal.note(&format!("{error}; trying again"));
                    }
                    tokio::time::sleep(backoff.pause(&error)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Polls once, prints, and commits when it is time; `true` when everything wanted is read.
    async fn round(&mut self, printer: &mut Printer) -> Result<Result<bool, ClientError>, CommandError> {
        let records = match self.reader.poll(WAIT).await {
            Ok(Some(records)) => records,
            Ok(None) => {
                self.terminal.note("the group went on without this member, which joins again");
                self.printed.clear();
                return Ok(Ok(false));
            }
            Err(error) => return Ok(Err(error)),
        };
        let at_end = records.is_empty() || self.print(printer, &records)?;
        // Whoever dies now prints again what it has not committed; never the other way round.
        printer.flush()?;
        if at_end && printer.left() > 0 {
            printer.say_waiting();
        }
        if self.since_commit.elapsed() >= COMMIT_EVERY
            && let Err(error) = self.commit().await
        {
            return Ok(Err(error));
        }
        Ok(if at_end && self.ends.is_some() { self.read_all().await } else { Ok(false) })
    }

    /// Prints what is wanted of these; `true` when a partition's wanted end was met.
    fn print(&mut self, printer: &mut Printer, records: &[GroupRecord]) -> Result<bool, CommandError> {
        let mut met = false;
        for record in records {
            let place = (record.topic.clone(), record.partition);
            let end = match &self.ends {
                Some(ends) => ends.get(&place).copied().unwrap_or(Offset::ZERO),
                None => Offset::MAX,
            };
            met |= record.offset.get() + 1 >= end.get();
            if record.offset >= end || printer.left() == 0 {
                continue;
            }
            let headers = record.headers.iter().map(|header| (header.key.as_str(), header.value.as_deref())).collect();
            let shown = Shown {
                offset: record.offset,
                timestamp_ms: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers,
            };
            printer.line(|out| self.format.write(&record.topic, record.partition, &shown, out))?;
            self.printed.insert(place, Offset::new(record.offset.get() + 1));
        }
        Ok(met && self.ends.is_some())
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        if self.reader.commit(&self.printed).await? == Committed::Lost {
            self.terminal.note("partitions went to other members before a commit: some records come again there");
        }
        self.printed.clear();
        self.since_commit = Instant::now();
        Ok(())
    }

    /// Whether all partitions of this member were read up to what was their end.
    async fn read_all(&self) -> Result<bool, ClientError> {
        let positions = self.reader.positions().await?;
        Ok(positions.iter().all(|position| {
            let place = (position.topic.clone(), position.partition);
            let end = self.ends.as_ref().and_then(|ends| ends.get(&place)).copied();
            end.is_none_or(|end| position.offset().is_some_and(|offset| offset >= end.get()))
        }))
    }

    async fn part(&mut self) -> Result<(), ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let parted = async {
                self.commit().await?;
                self.reader.leave().await
            };
            match parted.await {
                Err(error) if error.is_retriable() => tokio::time::sleep(backoff.pause(&error)).await,
                done => return done,
            }
        }
    }
}

/// What is asked of a group's reader only.
pub(super) fn check(args: &ConsumeArgs) -> Result<(), CommandError> {
    let refuse = |what: &str| Err(CommandError::Usage(format!("a group's members share partitions: leave out {what}")));
    if !args.partition.is_empty() {
        return refuse("--partition");
    }
    if args.since.is_some() {
        return refuse("--since; `pubg1 group seek` moves a group to a time");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pubg1_model::PartitionId;

    use super::*;
    use crate::terminal::OutputFormat;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    fn args(words: &[&str]) -> ConsumeArgs {
        Line::try_parse_from([&["consume"], words].concat()).unwrap().args
    }

    #[test]
    fn a_group_has_no_partitions_and_times_of_one_reader() {
        assert!(check(&args(&["-g", "g", "a", "b"])).is_ok());
        assert_eq!(check(&args(&["-g", "g", "a", "-p", "0"])).unwrap_err().exit_code(), 2);
        assert_eq!(check(&args(&["-g", "g", "a", "--since", "10m"])).unwrap_err().exit_code(), 2);
    }

    /// What is beyond the wanted end or count is neither printed nor committed.
    #[test]
    fn only_what_is_printed_is_committed() {
        let args = args(&["-g", "g", "t", "-n", "3", "-e"]);
        let terminal = Terminal { format: OutputFormat::Table, color: false };
        let mut printer = printer(terminal, &args);
        let topic: TopicName = "t".parse().unwrap();
        let place = |partition| (topic.clone(), PartitionId(partition));
        let client = Client::new("127.0.0.1:1").unwrap();
        let session = Duration::from_secs(1);
        let mut reading = Reading {
            terminal,
            format: Format::new(terminal, &args),
            reader: GroupReader::new(client, "g".parse().unwrap(), vec![topic.clone()], "earliest", session),
            printed: Offsets::new(),
            since_commit: Instant::now(),
            ends: Some(BTreeMap::from([(place(0), Offset::new(2)), (place(1), Offset::new(9))])),
        };
        let record = |partition, offset| GroupRecord {
            topic: topic.clone(),
            partition: PartitionId(partition),
            offset: Offset::new(offset),
            timestamp: 0,
            key: None,
            value: Some(b"x".to_vec()),
            headers: Vec::new(),
        };
        assert!(!reading.print(&mut printer, &[record(0, 0), record(1, 3)]).unwrap());
        assert!(reading.print(&mut printer, &[record(0, 1), record(0, 2), record(1, 4)]).unwrap());
        assert_eq!(reading.printed, BTreeMap::from([(place(0), Offset::new(2)), (place(1), Offset::new(4))]));
        assert_eq!(printer.left(), 0);
    }
}
