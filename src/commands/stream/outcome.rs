//! What became of the records of a local run.

use pubg1_model::streams::engine::Stats;
use serde_json::{Value, json};

use crate::terminal::grouped;

/// The counts, for programs.
pub(super) fn as_json(stats: &Stats, rows: u64, partitions: u32) -> Value {
    json!({
        "read": stats.read,
        "accepted": stats.accepted,
        "filtered": stats.filtered,
        "late": stats.late,
        "future": stats.future,
        "malformed": stats.malformed,
        "no_time": stats.no_time,
        "late_pairs": stats.late_pairs,
        "late_merges": stats.late_merges,
        "partitions": partitions,
        "rows": rows,
    })
}

/// The counts, for people: what did not happen is not told.
pub(super) fn as_text(stats: &Stats, rows: u64) -> String {
    let told = [
        (stats.accepted, "in windows"),
        (stats.filtered, "filtered out"),
        (stats.late, "late"),
        (stats.future, "in the future"),
        (stats.malformed, "no JSON"),
        (stats.no_time, "without a time"),
    ];
    let told: Vec<String> = told
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    let told = if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) };
    let pairs = match stats.late_pairs {
        0 => String::new(),
        pairs => format!(" ({} times late for one of its windows)", grouped(pairs)),
    };
    format!("{} records{told}{pairs}; {} rows", grouped(stats.read), grouped(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        let stats = Stats { read: 1_000, accepted: 900, late: 100, late_pairs: 250, ..Stats::default() };
        let text = as_text(&stats, 12);
        assert_eq!(text, "1,000 records: 900 in windows, 100 late (250 times late for one of its windows); 12 rows");
        assert_eq!(as_text(&Stats::default(), 0), "0 records; 0 rows");
        assert_eq!(as_json(&stats, 12, 4)["late_pairs"], 250);
    }
}
