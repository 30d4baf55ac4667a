//! Documents: what is read, what is refused and where, and the one form in which they are written.

mod refused;
mod roundtrip;

use serde_json::{Value, json};

use super::*;
use crate::streams::plan::{AggregateFunction, TimeSource, Window};

/// The example of docs/STREAMS.md.
pub(super) fn late_by_origin() -> Value {
    json!({
        "version": 1,
        "name": "late_by_origin",
        "input": {"topic": "flights", "where": {"<>": [{"field": "dest"}, "LAX"]}},
        "window": {"kind": "tumbling", "size": "1h"},
        "time": {"source": {"field": "ts"}, "max_out_of_order": "10m", "max_future": "none"},
        "group_by": [{"name": "origin", "value": {"field": "origin"}}],
        "aggregates": [
            {"name": "n", "function": "count"},
            {"name": "total", "function": "sum", "of": {"field": "dep_delay"}},
            {"name": "p95", "function": "quantile", "of": {"field": "dep_delay"}, "q": 0.95},
            {"name": "planes", "function": "distinct", "of": {"field": "tailnum"},
             "where": {"is_null": {"record": "key"}}},
        ],
        "columns": ["origin", "n", {"name": "mean", "value": {"/": [{"column": "total"}, {"column": "n"}]}}],
        "having": {">": [{"column": "n"}, 3]},
        "top": {"limit": 10, "by": [{"value": {"column": "n"}}]},
        "output": {"topic": "flights.late"},
    })
}

#[test]
fn a_document_becomes_a_plan() {
    let document = StreamDocument::from_value(&late_by_origin()).unwrap();
    let plan = &document.plan;
    assert_eq!(plan.window, Window::tumbling(3_600_000));
    assert!(matches!(&plan.time.source, TimeSource::Field { path, .. } if path.0 == ["ts"]));
    assert_eq!((plan.time.max_out_of_order_ms, plan.time.max_future_ms), (600_000, None));
    assert_eq!(plan.time.idle_timeout_ms, Some(10_000), "silence ends by default");
    assert_eq!(plan.aggregates[0].function, AggregateFunction::Count);
    assert_eq!(plan.output.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["origin", "n", "mean"]);
    assert_eq!(plan.stages, Stages::Merged);
    assert_eq!((document.output.as_str(), document.late_output.as_str()), ("flights.late", "late_by_origin.late"));
}

#[test]
fn a_group_with_the_key_needs_one_stage_when_every_record_has_one() {
    let mut value = late_by_origin();
    value["group_by"] = json!("record_key");
    value["columns"] = json!(["key", "n"]);
    assert_eq!(StreamDocument::from_value(&value).unwrap().plan.stages, Stages::Merged);
    value["input"]["where"] = json!({"and": [{"=": [{"field": "a"}, 1]}, {"not": {"is_null": {"record": "key"}}}]});
    assert_eq!(StreamDocument::from_value(&value).unwrap().plan.stages, Stages::Merged, "the first of all partitions");
    value.as_object_mut().unwrap().remove("top");
    assert_eq!(StreamDocument::from_value(&value).unwrap().plan.stages, Stages::PerPartition);
}

#[test]
fn a_stream_is_explained_line_by_line() {
    let document = StreamDocument::from_value(&late_by_origin()).unwrap();
    let lines = document.explain();
    let line = |name: &str| lines.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str());
    assert_eq!(line("where"), Some("dest <> 'LAX'"));
    assert_eq!(line("windows"), Some("of 1h, one after the other"));
    assert_eq!(line("row"), Some("origin, n, mean = total / n; window_start, window_end, records, rev, final"));
    assert!(lines.contains(&("computes", "planes = COUNT(DISTINCT tailnum) FILTER (WHERE record_key IS NULL)".into())));
    assert!(line("watermark").unwrap().contains("10m") && line("silence").unwrap().contains("10s"), "{lines:?}");
}
