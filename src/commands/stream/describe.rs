//! `pubg1 stream describe`: how far a stream is, and what holds it back.

use pubg1_model::StreamName;

use super::rows::time_cell;
use crate::{
    client::{
        Client,
        stream_reply::{StreamRecordsReply, StreamReply, StreamTaskReply},
    },
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// Shows it.
///
/// # Errors
/// The broker's.
pub(super) async fn run(client: &Client, terminal: Terminal, name: &StreamName) -> Result<(), CommandError> {
    let stream = client.stream(name).await?;
    terminal.print(&stream, |stream| {
        let mut parts = vec![headlines(stream), table(terminal, "partition", &stream.partitions)];
        if !stream.shards.is_empty() {
            parts.push(table(terminal, "shard", &stream.shards));
        }
        if let Some(next) = &stream.next {
            parts.push(format!("the next generation:\n{}", headlines(next)));
            parts.push(table(terminal, "partition", &next.partitions));
        }
        parts.join("\n\n")
    })
}

fn headlines(stream: &StreamReply) -> String {
    let (topics, created) = (&stream.topics, time_cell(stream.created_at));
    let mut first = format!("stream {} is {}", stream.stream, stream.state);
    if let Some(reason) = &stream.reason {
        first.push_str(&format!(" ({reason})"));
    }
    let (input, output, late) = (&topics.input, &topics.output, &topics.late);
    [
        format!("{first}, generation {}, declared {created}", stream.generation),
        format!("it reads {input}; rows go to {output}, what is in no window to {late}"),
        complete(stream),
        load(stream),
        outcomes(&stream.records),
    ]
    .join("\n")
}

fn complete(stream: &StreamReply) -> String {
    let Some(watermark) = stream.watermark_ms else {
        return "its time is not known yet".to_owned();
    };
    let mut line = format!("results are complete up to {}", time_cell(watermark));
    let partitions: Vec<String> = stream.held_back_by.iter().map(ToString::to_string).collect();
    match &partitions[..] {
        [] => {}
        [one] => line.push_str(&format!("; partition {one} holds them back")),
        several => line.push_str(&format!("; partitions {} hold them back", several.join(", "))),
    }
    line
}

fn load(stream: &StreamReply) -> String {
    let lag = stream.lag.map_or_else(|| "an unknown number of".to_owned(), grouped);
    format!(
        "{lag} records to read; {} windows open, {} groups, {}; last checkpoint {} ago",
        grouped(stream.open_windows),
        grouped(stream.groups),
        size(stream.memory_bytes),
        stream.checkpoint_age_ms.map_or_else(|| "-".to_owned(), seconds),
    )
}

/// What became of the records: what did not happen is not told.
fn outcomes(records: &StreamRecordsReply) -> String {
    let told = [
        (records.accepted, "in windows"),
        (records.filtered, "filtered out"),
        (records.late, "late"),
        (records.future, "in the future"),
        (records.malformed, "no JSON"),
        (records.no_time, "without a time"),
    ];
    let told: Vec<String> = told
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    let mut line = format!("{} records read", grouped(records.read));
    if !told.is_empty() {
        line.push_str(&format!(": {}", told.join(", ")));
    }
    if records.skipped > 0 {
        line.push_str(&format!("; {} deleted before they were read", grouped(records.skipped)));
    }
    if records.late_merges > 0 {
        line.push_str(&format!("; {} results too late to be merged", grouped(records.late_merges)));
    }
    line
}

fn table(terminal: Terminal, what: &str, tasks: &[StreamTaskReply]) -> String {
    let columns = [
        what,
        "broker",
        "state",
        "next",
        "ends at",
        "lag",
        "watermark",
        "late",
        "future",
        "no JSON",
        "no time",
        "windows",
        "groups",
        "memory",
        "checkpoint",
        "note",
    ];
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), grouped);
    let rows = tasks.iter().map(|task| {
        vec![
            task.partition.to_string(),
            task.leader.map_or_else(|| "none".to_owned(), |broker| broker.to_string()),
            task.state.clone(),
            number(task.next_offset),
            number(task.end_offset),
            number(task.lag),
            task.watermark_ms.map_or_else(|| "-".to_owned(), time_cell),
            grouped(task.records.late),
            grouped(task.records.future),
            grouped(task.records.malformed),
            grouped(task.records.no_time),
            grouped(task.open_windows),
            grouped(task.groups),
            size(task.memory_bytes),
            task.checkpoint_age_ms.map_or_else(|| "-".to_owned(), seconds),
            note(task),
        ]
    });
    let left = ["broker", "state", "watermark", "note"];
    let right: Vec<&str> = columns.iter().copied().filter(|column| !left.contains(column)).collect();
    terminal.table(&columns, rows, &right)
}

fn note(task: &StreamTaskReply) -> String {
    let notes = [task.holds_back.then_some("holds all back"), task.idle.then_some("idle"), task.reason.as_deref()];
    notes.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", grouped(ms / 1_000), ms % 1_000 / 100)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", grouped(bytes >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::terminal::OutputFormat;

    #[test]
    fn a_stream_is_shown_with_what_holds_it_back() {
        let body = json!({ "stream": "busy", "generation": 3, "state": "paused", "reason": "memory", "created_at": 0,
            "document": {}, "topics": { "input": "clicks", "output": "rows", "late": "late" },
            "watermark_ms": 60_000, "held_back_by": [1], "lag": 1_200, "open_windows": 7, "groups": 21,
            "memory_bytes": 3_145_728, "checkpoint_age_ms": 1_250,
            "records": { "read": 1_000, "accepted": 900, "late": 100, "skipped": 5 },
            "partitions": [
                { "partition": 0, "leader": 2, "state": "running", "next_offset": 10, "end_offset": 10, "lag": 0,
                  "watermark_ms": 120_000, "idle": true, "checkpoint_age_ms": 90 },
                { "partition": 1, "state": "unknown", "holds_back": true, "reason": "nobody leads it" },
            ] });
        let stream: StreamReply = serde_json::from_str(&body.to_string()).unwrap();
        let text = headlines(&stream);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "stream busy is paused (memory), generation 3, declared 1970-01-01T00:00:00Z");
        assert_eq!(lines[2], "results are complete up to 1970-01-01T00:01:00Z; partition 1 holds them back");
        let load = "1,200 records to read; 7 windows open, 21 groups, 3 MiB; last checkpoint 1.2 s ago";
        assert_eq!(lines[3], load);
        assert_eq!(lines[4], "1,000 records read: 900 in windows, 100 late; 5 deleted before they were read");
        let table = table(Terminal { format: OutputFormat::Table, color: false }, "partition", &stream.partitions);
        let row =
            |line: usize| table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row(1), "0 2 running 10 10 0 1970-01-01T00:02:00Z 0 0 0 0 0 0 0 B 0.0 s idle", "{table}");
        assert_eq!(row(2), "1 none unknown - - - - 0 0 0 0 0 0 0 B - holds all back; nobody leads it", "{table}");
    }
}
