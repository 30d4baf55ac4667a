//! Streams: what their tasks read, hold and give.

use crate::{
    board::{Board, Variable},
    panel::Panel,
};

const NONE: &str = "while there is no stream";

pub(crate) fn board() -> Board {
    Board {
        name: "streams",
        title: "streams",
        description: "What each stream reads and gives, how far its time is, and what it holds.",
        variables: vec![Variable::STREAM],
        annotations: Vec::new(),
        rows: vec![("Through it", through()), ("Time and state", time_and_state()), ("Commits", commits())],
    }
}

/// A family of the streams that are chosen.
fn of(family: &str) -> String {
    format!("{family}{{#, stream=~\"$stream\"}}")
}

fn rate(by: &str, family: &str) -> String {
    format!("sum by ({by}) (rate({}[r]))", of(family))
}

fn through() -> Vec<Panel> {
    vec![
        Panel::lines("State", "short", "Generations of each stream by state.")
            .show(format!("max by (stream, state) ({}) > 0", of("pubg1_stream_state")), "{{stream}} {{state}}")
            .empty(NONE),
        Panel::lines("Records by outcome", "cps", "Records that streams read a second, by what became of them.")
            .show(rate("stream, outcome", "pubg1_stream_records_total"), "{{stream}} {{outcome}}")
            .empty(NONE),
        Panel::lines("Late", "percentunit", "Part of the records that came after all their windows were closed.")
            .show(
                format!(
                    "sum by (stream) (rate(pubg1_stream_records_total{{#, stream=~\"$stream\", outcome=\"late\"}}[r])) / {}",
                    rate("stream", "pubg1_stream_records_total")
                ),
                "{{stream}}",
            )
            .empty("while no stream reads anything"),
        Panel::lines("Rows", "cps", "Rows that streams publish a second, and how many of them correct a final row.")
            .show(rate("stream", "pubg1_stream_rows_total"), "{{stream}}")
            .show(rate("stream", "pubg1_stream_corrections_total"), "{{stream}} corrections")
            .empty(NONE),
        Panel::lines("Input lag", "short", "Records that the tasks of each stream have not read yet.")
            .show(format!("sum by (stream) ({})", of("pubg1_stream_input_lag_records")), "{{stream}}")
            .empty(NONE),
        Panel::lines("Tasks", "short", "Tasks of each stream by the broker that runs them.")
            .show(format!("count by (stream, instance) ({})", of("pubg1_stream_idle")), "{{stream}} {{instance}}")
            .empty(NONE)
            .stacked(),
    ]
}

fn time_and_state() -> Vec<Panel> {
    vec![
        Panel::lines("Watermark lag", "s", "How far the time of the slowest task of each stream is behind the clock.")
            .show(format!("max by (stream) ({})", of("pubg1_stream_watermark_lag_seconds")), "{{stream}}")
            .empty(NONE),
        Panel::lines("Idle partitions", "short", "Partitions that are silent and not waited for.")
            .show(format!("sum by (stream) ({})", of("pubg1_stream_idle")), "{{stream}}")
            .empty(NONE),
        Panel::lines("Open windows", "short", "What the tasks of each stream have open.")
            .show(format!("sum by (stream) ({})", of("pubg1_stream_open_windows")), "{{stream}} windows")
            .show(format!("sum by (stream) ({})", of("pubg1_stream_groups")), "{{stream}} groups")
            .empty(NONE),
        Panel::lines("Memory", "bytes", "Memory of the state of each stream, by broker.")
            .show(format!("sum by (stream, instance) ({})", of("pubg1_stream_state_bytes")), "{{stream}} {{instance}}")
            .empty(NONE)
            .wide(12),
        Panel::lines("Restoring", "s", "Longest time that a task took to read its state when it last began to run.")
            .show(format!("max by (stream) ({})", of("pubg1_stream_restore_duration_seconds")), "{{stream}}")
            .empty(NONE)
            .wide(12),
    ]
}

fn commits() -> Vec<Panel> {
    vec![
        Panel::lines("Commits", "cps", "Commits of the tasks of each stream a second.")
            .show(rate("stream", "pubg1_stream_commits_total"), "{{stream}}")
            .empty(NONE),
        Panel::lines("Refused commits", "cps", "Commits a second that were refused because another broker leads.")
            .show(rate("stream", "pubg1_stream_fenced_total"), "{{stream}}")
            .empty(NONE),
        Panel::lines("Commit latency", "s", "p99 of the time until a quorum has a commit.")
            .quantiles(&[("0.99", "{{stream}}")], "stream", &of("pubg1_stream_commit_duration_seconds_bucket"))
            .empty(NONE),
    ]
}
