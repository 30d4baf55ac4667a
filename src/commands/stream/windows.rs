//! `pubg1 stream windows`: windows as they are.

use std::time::SystemTime;

use clap::Args;
use pubg1_model::StreamName;

use super::{rows::cell, shown::ShownRow};
use crate::{
    client::{Client, stream_reply::WindowsReply},
    error::CommandError,
    input::timestamp,
    terminal::Terminal,
};

/// What `--help` says at its end.
pub(super) const HELP: &str = "\
Open windows are shown as they are at the moment; closed ones as long as the stream keeps them
(`retain`). Any broker answers, with what is committed, or with --latest with all that was read.

Examples:
  pubg1 stream windows busy --state open
  pubg1 stream windows busy --key /index.html --from 10m
  pubg1 stream windows busy -o json | jq '.windows[] | select(.n > 100)'";

/// `pubg1 stream windows`.
#[derive(Clone, Debug, Args)]
pub struct WindowsArgs {
    /// The stream
    pub name: StreamName,
    /// Only the group with this key: its text or number, of several columns their JSON list
    #[arg(short, long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only windows that end at this time or later: 10m (ago), seconds or milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only windows that begin at this time or earlier
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Which windows
    #[arg(long, value_enum, default_value = "all")]
    pub state: State,
    /// Also what is not committed yet
    #[arg(long)]
    pub latest: bool,
    /// At most this many rows [default: 1000]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
}

/// Which windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    /// All of them
    All,
    /// Those that records may still come to
    Open,
    /// Those whose rows are final
    Closed,
}

impl WindowsArgs {
    /// The parameters of the request.
    fn wanted(&self, now: SystemTime) -> Result<Vec<(&'static str, String)>, CommandError> {
        let time = |option: &str, text: &str| {
            let ms = timestamp::of_since(text, now);
            ms.map(|ms| ms.to_string()).map_err(|reason| CommandError::Usage(format!("{option} {reason}")))
        };
        let mut wanted = Vec::new();
        wanted.extend(self.key.clone().map(|key| ("key", key)));
        wanted.extend(self.from.as_deref().map(|from| time("--from", from)).transpose()?.map(|ms| ("from", ms)));
        wanted.extend(self.to.as_deref().map(|to| time("--to", to)).transpose()?.map(|ms| ("to", ms)));
        match self.state {
            State::All => {}
            State::Open => wanted.push(("state", "open".to_owned())),
            State::Closed => wanted.push(("state", "closed".to_owned())),
        }
        if self.latest {
            wanted.push(("read", "latest".to_owned()));
        }
        wanted.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        Ok(wanted)
    }
}

/// Shows them.
///
/// # Errors
/// The broker's.
pub(super) async fn run(client: &Client, terminal: Terminal, args: &WindowsArgs) -> Result<(), CommandError> {
    let wanted = args.wanted(SystemTime::now())?;
    let reply = client.windows(&args.name, &wanted).await?;
    let rows = reply.windows.iter().map(|row| serde_json::from_str(row.get()));
    let rows: Vec<ShownRow> = rows
        .collect::<Result<_, _>>()
        .map_err(|error| CommandError::Failed(format!("a row of the answer cannot be read: {error}")))?;
    terminal.print(&reply, |_| table(terminal, &rows))?;
    notes(terminal, &reply);
    Ok(())
}

fn notes(terminal: Terminal, reply: &WindowsReply) {
    if reply.more {
        terminal.note("there are more windows: choose some with --from, --to or --key, or say --limit");
    }
    if !reply.missing.is_empty() {
        let partitions: Vec<String> = reply.missing.iter().map(ToString::to_string).collect();
        terminal
            .note(&format!("partitions {} did not answer: their records are not in the rows", partitions.join(", ")));
    }
}

fn table(terminal: Terminal, rows: &[ShownRow]) -> String {
    let names: Vec<&str> = rows.first().map_or_else(Vec::new, |row| row.columns().map(|(name, _)| name).collect());
    let mut numbers = vec![true; names.len()];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![row.time("window_start"), row.time("window_end")];
            for (index, (_, value)) in row.columns().enumerate() {
                if let Some(number) = numbers.get_mut(index) {
                    *number &= value.is_number() || value.is_null();
                }
                cells.push(cell(value));
            }
            cells.extend([row.own("records"), row.own("rev"), row.state().to_owned()]);
            cells
        })
        .collect();
    let mut columns = vec!["window_start", "window_end"];
    columns.extend(&names);
    columns.extend(["records", "rev", "state"]);
    let mut right: Vec<&str> =
        names.iter().zip(&numbers).filter(|(_, number)| **number).map(|(name, _)| *name).collect();
    right.extend(["records", "rev"]);
    terminal.table(&columns, cells, &right)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use clap::Parser;

    use super::*;
    use crate::terminal::OutputFormat;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: WindowsArgs,
    }

    fn wanted(words: &str) -> Vec<(&'static str, String)> {
        let words = ["windows", "busy"].into_iter().chain(words.split_whitespace());
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Line::try_parse_from(words).unwrap().args.wanted(now).unwrap()
    }

    #[test]
    fn options_become_parameters() {
        assert_eq!(wanted(""), []);
        let expected =
            [("key", "a&b"), ("from", "1799999400000"), ("state", "open"), ("read", "latest"), ("limit", "7")];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(wanted("--key a&b --from 10m --state open --latest -n 7"), expected);
        assert!(Line::try_parse_from(["windows", "busy", "-n", "0"]).is_err());
    }

    #[test]
    fn windows_are_a_table() {
        let row = r#"{"page":"/a","n":12,"window_start":0,"window_end":60000,"rev":0,"final":true,"records":12}"#;
        let rows = [serde_json::from_str(row).unwrap()];
        let table = table(Terminal { format: OutputFormat::Table, color: false }, &rows);
        let line =
            |line: usize| table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line(0), "window_start window_end page n records rev state");
        assert_eq!(line(1), "1970-01-01T00:00:00Z 1970-01-01T00:01:00Z /a 12 12 0 final");
    }
}
