//! What a document may not say, and where the complaint points.

use super::*;

/// Changes the example at a JSON pointer and gives the complaint.
fn refused(pointer: &str, change: Value) -> DocumentError {
    let mut value = late_by_origin();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let place = value.pointer_mut(parent).unwrap();
    match place {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = change,
        place => place[name] = change,
    }
    StreamDocument::from_value(&value).expect_err(pointer)
}

#[test]
fn complaints_name_the_path() {
    let deep = (0..40).fold(json!(1), |inner, _| json!({ "abs": inner }));
    let call = |name: &str, arguments: Value| json!({ name: arguments });
    for (pointer, change, path, reason) in [
        ("/version", json!(2), "$.version", "must be 1"),
        ("/colour", json!("red"), "$.colour", "no such field"),
        ("/name", json!("a/b"), "$.name", "not allowed"),
        ("/input/topics", json!("x"), "$.input.topics", "there are topic, where"),
        ("/input/topic", json!(7), "$.input.topic", "must be a string, not a number"),
        ("/window", json!([]), "$.window", "must be an object"),
        ("/window/kind", json!("sliding"), "$.window.kind", "tumbling, hopping, calendar, session"),
        ("/window/size", json!("0s"), "$.window.size", "must be 1ms to 366d"),
        ("/window/size", json!("1 fortnight"), "$.window.size", "no length of time"),
        ("/window/size", json!(1.5), "$.window.size", "whole number of milliseconds"),
        ("/window/hop", json!("1h"), "$.window.hop", "no such field"),
        ("/window", json!({"kind": "hopping", "size": "1h", "hop": "2h"}), "$.window.hop", "more than the size"),
        ("/window", json!({"kind": "hopping", "size": "1d", "hop": 7}), "$.window.hop", "windows, at most"),
        ("/window", json!({"kind": "hopping", "size": "1d", "hop": 3_600_001}), "$.window.hop", "panes"),
        ("/window", json!({"kind": "calendar", "unit": "day", "timezone": "Mars/Base"}), "$.window.timezone", "Mars"),
        ("/window", json!({"kind": "session"}), "$.window.gap", "is missing"),
        ("/window", json!({"kind": "session", "gap": "1h"}), "$.top", "nothing to choose"),
        ("/time/source", json!("ts"), "$.time.source", "{\"field\": \"name\"}"),
        ("/time/source", json!({"field": "a..b"}), "$.time.source.field", "empty"),
        ("/time/source", json!({"field": "a", "format": "stardate"}), "$.time.source.format", "rfc3339"),
        ("/time/idle_timeout", json!("-1s"), "$.time.idle_timeout", "must be 0s"),
        ("/group_by", json!("key"), "$.group_by", "record_key"),
        ("/group_by/0/name", json!("records"), "$.group_by[0].name", "of its own"),
        ("/aggregates/1/name", json!("n"), "$.aggregates[1].name", "taken"),
        ("/aggregates/0/function", json!("mode"), "$.aggregates[0].function", "quantile"),
        ("/aggregates/2/q", json!(95), "$.aggregates[2].q", "0 to 1"),
        ("/aggregates/2/k", json!(3), "$.aggregates[2].k", "no such field"),
        ("/aggregates/0/where", json!({"column": "n"}), "$.aggregates[0].where.column", "do not exist yet"),
        ("/columns/1", json!("m"), "$.columns[1].column", "there are origin, n, total"),
        ("/having", json!({"field": "dest"}), "$.having.field", "out of reach"),
        ("/having", call("mode", json!([1])), "$.having.mode", "no operator or function"),
        ("/having", call("=", json!([1])), "$.having.=", "two arguments, not 1"),
        ("/having", call("<", json!([1, 2, 3])), "$.having.<", "two arguments, not 3"),
        ("/having", call("substring", json!("a")), "$.having.substring", "2 to 3 arguments, not 1"),
        ("/having", call("date_part", json!(["eon", 1])), "$.having.date_part[0]", "day_of_week"),
        ("/having", call("case", json!([])), "$.having.case", "needs a condition"),
        ("/having", call("in", json!([1, []])), "$.having.in[1]", "1 to 1000"),
        ("/having", json!({"=": [1, 1], "<": [1, 2]}), "$.having", "several members"),
        ("/having", json!({}), "$.having", "is empty"),
        ("/having", json!([1]), "$.having", "is an array"),
        ("/having", deep, "", "nest at most 32 deep"),
        ("/top/limit", json!(0), "$.top.limit", "1 to 10000"),
        ("/top/by", json!([]), "$.top.by", "1 to 16 keys"),
        ("/emit", json!("later"), "$.emit", "final, updates, final+updates"),
        ("/emit", json!({"mode": "final", "interval": "1s"}), "$.emit.interval", "close"),
        ("/emit", json!({"mode": "updates", "interval": 1}), "$.emit.interval", "must be 100ms"),
        ("/fill", json!({"mode": "none", "forget_after": "1d"}), "$.fill.forget_after", "says nothing"),
        ("/output/topic", json!("flights"), "$.output.topic", "input"),
        ("/output/topic", json!("__metadata"), "$.output.topic", "brokers' own"),
        ("/output/late_topic", json!("flights.late"), "$.output.late_topic", "another of its outputs"),
        ("/limits", json!({"memory": "1KiB"}), "$.limits.memory", "1MiB to 1024GiB"),
        ("/start", json!("now"), "$.start", "earliest"),
        ("/start", json!({"offsets": {"01": 3}}), "$.start.offsets.01", "partition"),
        ("/start", json!({"offsets": {"1": -3}}), "$.start.offsets.1", "whole number"),
        ("/start", json!({"time": 1, "offsets": {}}), "$.start", "either"),
        ("/stop", json!("never ever"), "$.stop", "never, latest"),
        ("/on_gap", json!(true), "$.on_gap", "must be a string"),
    ] {
        let error = refused(pointer, change.clone());
        let at = error.path == path || (path.is_empty() && error.path.starts_with("$.having.abs"));
        assert!(at, "{pointer} {change}: {error}");
        assert!(error.reason.contains(reason), "{pointer} {change}: {error}");
    }
}

#[test]
fn text_that_is_no_document_is_refused() {
    let error = |text: &str| StreamDocument::parse(text.as_bytes()).unwrap_err();
    assert!(error("{").reason.contains("is not JSON"));
    assert!(error("[]").reason.contains("must be an object"));
    assert!(error("{} {}").reason.contains("is not JSON"));
    assert!(error(r#"{"version": 1, "version": 1}"#).reason.contains("stands twice"));
    assert!(error(&"[".repeat(10_000)).reason.contains("recursion"));
    let blank = " ".repeat(limits::TEXT_BYTES + 1);
    assert!(error(&blank).reason.contains("longer than"));
    assert_eq!(error(r#"{"version": 1}"#).path, "$.name");
}
