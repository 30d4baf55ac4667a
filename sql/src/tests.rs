//! SQL and the documents that it becomes.

mod refused;

use proptest::prelude::*;
use pubg1_model::streams::document::StreamDocument;
use serde_json::{Value, json};

use super::*;

const EXAMPLE: &str = "\
CREATE MATERIALIZED VIEW late_by_origin
WITH (max_out_of_order='10m', allowed_lateness='0s', idle_timeout='10s', emit='final', output='flights.late') AS
SELECT origin, window_start, window_end, COUNT(*) AS n, AVG(dep_delay) AS avg_delay,
       QUANTILE(dep_delay, 0.95) AS p95, COUNT(DISTINCT tailnum) AS planes
FROM TUMBLE(flights, ts, INTERVAL '1' HOUR)
WHERE dest <> 'LAX' GROUP BY origin, window_start, window_end HAVING COUNT(*) > 3
ORDER BY n DESC LIMIT 10 PER WINDOW";

fn compiled(text: &str) -> StreamDocument {
    compile(text, "query").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn from_json(value: &Value) -> StreamDocument {
    StreamDocument::from_value(value).unwrap_or_else(|error| panic!("{error}\n{value}"))
}

#[test]
fn the_example_is_the_document_that_it_stands_for() {
    let expected = from_json(&json!({
        "version": 1,
        "name": "late_by_origin",
        "input": {"topic": "flights", "where": {"<>": [{"field": "dest"}, "LAX"]}},
        "window": {"kind": "tumbling", "size": "1h"},
        "time": {"source": {"field": "ts"}, "max_out_of_order": "10m"},
        "group_by": [{"name": "origin", "value": {"field": "origin"}}],
        "aggregates": [
            {"name": "n", "function": "count"},
            {"name": "avg_delay", "function": "avg", "of": {"field": "dep_delay"}},
            {"name": "p95", "function": "quantile", "of": {"field": "dep_delay"}, "q": 0.95},
            {"name": "planes", "function": "distinct", "of": {"field": "tailnum"}},
        ],
        "having": {">": [{"column": "n"}, 3]},
        "top": {"limit": 10, "by": [{"value": {"column": "n"}, "order": "descending"}]},
        "output": {"topic": "flights.late"},
    }));
    assert_eq!(compiled(EXAMPLE).pretty(), expected.pretty());
}

/// The examples of the document that explains streams are what they say.
#[test]
fn the_examples_of_the_documentation_are_alike() {
    let text = include_str!("../../docs/STREAMS.md");
    let blocks = |language: &str| {
        let begin = format!("```{language}\n");
        let rests = text.split(begin.as_str()).skip(1).map(str::to_owned);
        rests.filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block.to_owned())).collect::<Vec<_>>()
    };
    let (sql, json) = (blocks("sql"), blocks("json"));
    assert_eq!((sql.len(), json.len()), (1, 1));
    assert_eq!(compiled(&sql[0]).pretty(), json[0]);
    let shell = blocks("sh");
    let quoted = shell[0].split('"').nth(1).expect("a query in double quotes");
    compiled(quoted);
}

/// The section of a stream that a SELECT declares.
fn section(text: &str, name: &str) -> Value {
    let document: Value = serde_json::from_str(&compiled(text).canonical()).unwrap();
    document[name].clone()
}

#[test]
fn windows_have_their_forms() {
    let window = |source: &str| section(&format!("SELECT COUNT(*) FROM {source} GROUP BY window_start"), "window");
    for (source, expected) in [
        ("TUMBLE(t, ts, INTERVAL '90' MINUTE)", json!({"kind": "tumbling", "size": "90m", "origin": "0s"})),
        ("tumble(t, ts, INTERVAL '1h 30m')", json!({"kind": "tumbling", "size": "90m", "origin": "0s"})),
        (
            "TUMBLE(t, ts, INTERVAL '1' DAY, origin => INTERVAL '6' HOUR)",
            json!({"kind": "tumbling", "size": "1d", "origin": "6h"}),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1' DAY, timezone => 'Europe/Berlin')",
            json!({"kind": "calendar", "unit": "day", "timezone": "Europe/Berlin"}),
        ),
        ("TUMBLE(t, ts, INTERVAL '1 week')", json!({"kind": "calendar", "unit": "week", "timezone": "UTC"})),
        ("TUMBLE(t, ts, INTERVAL '1' MONTH)", json!({"kind": "calendar", "unit": "month", "timezone": "UTC"})),
        (
            "HOP(t, ts, INTERVAL 10 MINUTE, INTERVAL '3 hours')",
            json!({"kind": "hopping", "size": "3h", "hop": "10m", "origin": "0s"}),
        ),
        ("SESSION(t, ts, '500ms')", json!({"kind": "session", "gap": "500ms"})),
    ] {
        assert_eq!(window(source), expected, "{source}");
    }
}

#[test]
fn the_topic_and_the_time_are_names_or_more() {
    let part = |source: &str, name: &str| section(&format!("SELECT COUNT(*) FROM {source} GROUP BY window_end;"), name);
    assert_eq!(part("TUMBLE(logs.web, ts, '1h')", "input"), json!({"topic": "logs.web"}));
    assert_eq!(part("TUMBLE(\"a-b\", ts, '1h')", "input"), json!({"topic": "a-b"}));
    for (time, expected) in [
        ("time", json!({"field": "time", "format": "auto"})),
        ("meta.at", json!({"field": "meta.at", "format": "auto"})),
        ("meta -> 'at time'", json!({"field": "meta.at time", "format": "auto"})),
        ("\"record_time\"", json!({"field": "record_time", "format": "auto"})),
        ("record_time", json!("record_time")),
        ("append_time", json!("append_time")),
    ] {
        let source = format!("TUMBLE(t, {time}, '1h')");
        assert_eq!(part(&source, "time")["source"], expected, "{time}");
    }
}

#[test]
fn expressions_are_those_of_documents() {
    for (sql, expected) in [
        (
            "a = 1 AND b = 2 AND c",
            json!({"and": [{"=": [{"field": "a"}, 1]}, {"=": [{"field": "b"}, 2]}, {"field": "c"}]}),
        ),
        ("a - b - 2", json!({"-": [{"-": [{"field": "a"}, {"field": "b"}]}, 2]})),
        ("(a + b) * -.5", json!({"*": [{"+": [{"field": "a"}, {"field": "b"}]}, -0.5]})),
        ("a.b.c > 1e3", json!({">": [{"field": "a.b.c"}, 1000]})),
        ("a -> 'b c' ->> 'd' = a['x.y']", json!({"=": [{"field": "a.b c.d"}, {"field": ["a", "x.y"]}]})),
        ("items -> 0 -> 'id' IS NOT NULL", json!({"not": {"is_null": {"field": "items.0.id"}}})),
        ("a NOT IN ('x', 'y')", json!({"not": {"in": [{"field": "a"}, ["x", "y"]]}})),
        ("a BETWEEN 1 AND 2", json!({"and": [{">=": [{"field": "a"}, 1]}, {"<=": [{"field": "a"}, 2]}]})),
        ("a LIKE 'x%'", json!({"like": [{"field": "a"}, "x%"]})),
        ("a NOT ILIKE 'X%'", json!({"not": {"like": [{"lower": {"field": "a"}}, "x%"]}})),
        ("CASE WHEN a > 1 THEN 'x' ELSE NULL END", json!({"case": [[{">": [{"field": "a"}, 1]}, "x"]], "else": null})),
        ("CASE a WHEN 1 THEN TRUE END", json!({"case": [[{"=": [{"field": "a"}, 1]}, true]]})),
        (
            "UPPER(TRIM(a)) = SUBSTRING(b FROM 1 FOR 2)",
            json!({"=": [{"upper": {"trim": {"field": "a"}}}, {"substring": [{"field": "b"}, 1, 2]}]}),
        ),
        (
            "FLOOR(a) + CEIL(b) + ROUND(c, 1)",
            json!({"+": [{"floor": {"field": "a"}}, {"ceil": {"field": "b"}}, {"round": [{"field": "c"}, 1]}]}),
        ),
        ("EXTRACT(HOUR FROM event_time) = 7", json!({"=": [{"date_part": ["hour", {"record": "event_time"}]}, 7]})),
        (
            "DATE_TRUNC('day', TO_TIME(a)) < TIMESTAMP '2013-01-02 00:00:00'",
            json!({"<": [{"date_trunc": ["day", {"to_time": {"field": "a"}}]}, 1_357_084_800_000_i64]}),
        ),
        (
            "record_time >= DATE '2013-01-02' + INTERVAL '1' HOUR",
            json!({">=": [{"record": "time"}, {"+": [1_357_084_800_000_i64, 3_600_000]}]}),
        ),
        ("CAST(a AS DOUBLE) = b::TEXT", json!({"=": [{"to_number": {"field": "a"}}, {"to_text": {"field": "b"}}]})),
        ("record_key = \"record_key\"", json!({"=": [{"record": "key"}, {"field": "record_key"}]})),
        ("NOT a", json!({"not": {"field": "a"}})),
        ("user = time", json!({"=": [{"field": "user"}, {"field": "time"}]})),
        ("\"limit\" = \"from\".\"to\"", json!({"=": [{"field": "limit"}, {"field": "from.to"}]})),
    ] {
        let text = format!("SELECT COUNT(*) AS n FROM TUMBLE(t, ts, '1h') WHERE {sql} GROUP BY window_start");
        assert_eq!(section(&text, "input")["where"], expected, "{sql}");
    }
}

#[test]
fn aggregates_are_those_of_documents() {
    let a = json!({"field": "a"});
    for (sql, expected) in [
        ("COUNT(*)", json!({"function": "count"})),
        ("count(a)", json!({"function": "count", "of": a})),
        ("COUNT(DISTINCT a)", json!({"function": "distinct", "of": a})),
        ("SUM(a) FILTER (WHERE b)", json!({"function": "sum", "of": a, "where": {"field": "b"}})),
        ("MAX_BY(a, b)", json!({"function": "arg_max", "of": a, "by": {"field": "b"}})),
        ("MEDIAN(a)", json!({"function": "quantile", "of": a, "q": 0.5})),
        ("HISTOGRAM(a, -10, 0, 2.5)", json!({"function": "histogram", "of": a, "edges": [-10, 0, 2.5]})),
        ("TOP_K(a, 3)", json!({"function": "top_k", "of": a, "k": 3})),
        ("STDDEV(a)", json!({"function": "stddev", "of": a, "sample": true})),
        ("VAR_POP(a)", json!({"function": "variance", "of": a, "sample": false})),
        ("LAST(LOWER(a))", json!({"function": "last", "of": {"lower": a}})),
    ] {
        let text = format!("SELECT {sql} AS x FROM TUMBLE(t, ts, '1h') GROUP BY window_start");
        let mut found = section(&text, "aggregates")[0].take();
        assert_eq!(found["name"].take(), json!("x"));
        found.as_object_mut().unwrap().remove("name");
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn a_row_is_what_select_lists() {
    let text = "SELECT LOWER(origin) AS airport, window_start, window_end AS till, SUM(a) / COUNT(*) AS mean, COUNT(*),
                       CASE WHEN carrier = 'UA' THEN 1 ELSE 0 END AS united
                FROM TUMBLE(t, ts, '1h') GROUP BY airport, carrier, window_start, window_end
                HAVING mean > 2 AND MIN(a) < 3 AND airport <> 'x' ORDER BY count(*) DESC, airport LIMIT 2 PER WINDOW";
    assert_eq!(
        section(text, "group_by"),
        json!([{"name": "airport", "value": {"lower": {"field": "origin"}}}, {"name": "carrier", "value": {"field": "carrier"}}])
    );
    let sum_name = "sum(a)";
    assert_eq!(
        section(text, "aggregates"),
        json!([
            {"name": "count", "function": "count"},
            {"name": sum_name, "function": "sum", "of": {"field": "a"}},
            {"name": "min(a)", "function": "min", "of": {"field": "a"}},
        ])
    );
    let mean = json!({"/": [{"column": sum_name}, {"column": "count"}]});
    assert_eq!(
        section(text, "columns"),
        json!([
            "airport",
            {"name": "till", "value": {"column": "window_end"}},
            {"name": "mean", "value": mean},
            "count",
            {"name": "united", "value": {"case": [[{"=": [{"column": "carrier"}, "UA"]}, 1]], "else": 0}},
        ])
    );
    assert_eq!(
        section(text, "having"),
        json!({"and": [{">": [mean, 2]}, {"<": [{"column": "min(a)"}, 3]}, {"<>": [{"column": "airport"}, "x"]}]})
    );
    assert_eq!(
        section(text, "top")["by"],
        json!([{"value": {"column": "count"}, "order": "descending"}, {"value": {"column": "airport"}, "order": "ascending"}])
    );
}

#[test]
fn options_go_where_they_belong() {
    let text = "CREATE MATERIALIZED VIEW v WITH (emit = 'final+updates', update_interval = '5s', max_future = 'none',
                    time_format = 'seconds', fill = 'zero', fill_forget_after = INTERVAL '2' DAY, memory = '1GiB',
                    start = '2013-01-01T00:00:00Z', stop = 'latest', on_gap = 'skip', retain = 60000,
                    late_output = 'v.side') AS
                SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start";
    assert_eq!(section(text, "emit"), json!({"mode": "final+updates", "interval": "5s"}));
    assert_eq!(section(text, "fill"), json!({"mode": "zero", "forget_after": "2d"}));
    assert_eq!(section(text, "time")["source"], json!({"field": "ts", "format": "seconds"}));
    assert_eq!(section(text, "time")["max_future"], json!("none"));
    assert_eq!(section(text, "output"), json!({"topic": "v", "late_topic": "v.side", "retain": "1m"}));
    assert_eq!(section(text, "limits"), json!({"memory": "1GiB"}));
    assert_eq!(section(text, "start"), json!({"time": 1_356_998_400_000_i64}));
    assert_eq!((section(text, "stop"), section(text, "on_gap")), (json!("latest"), json!("skip")));
}

#[test]
fn long_chains_and_deep_brackets_do_not_overflow_the_stack() {
    let with = |condition: &str| {
        compile(&format!("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') WHERE {condition} GROUP BY window_start"), "q")
    };
    assert!(with(&vec!["a = 1"; 300].join(" AND ")).is_ok(), "a chain is no nesting");
    for condition in [
        vec!["a"; 900].join(" - "),
        vec!["a"; 900].join(" -> "),
        "NOT ".repeat(900) + "a",
        "(".repeat(900) + "a" + &")".repeat(900),
        "- ".repeat(900) + "a",
        "CASE WHEN ".repeat(300),
        vec!["a"; 5_000].join(" AND "),
        "a".repeat(100_000),
        // Each doubles what comes before.
        "a".to_owned() + &" BETWEEN 1 AND 2".repeat(28),
    ] {
        assert!(with(&condition).is_err(), "{}", &condition[..10]);
    }
    let doubled: String = (1..30).map(|n| format!(", c{} + c{} AS c{n}", n - 1, n - 1)).collect();
    let names = format!("SELECT COUNT(*) AS c0{doubled} FROM TUMBLE(t, ts, '1h') GROUP BY window_start");
    let refused = compile(&names, "q").unwrap_err().to_string();
    assert!(refused.contains("parts"), "{refused}");
}

/// Words from which something like SQL can fall together.
fn words() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "TUMBLE(t, ts, '1h')",
        "HOP",
        "SESSION",
        "WHERE",
        "GROUP BY",
        "window_start",
        "HAVING",
        "ORDER BY",
        "LIMIT",
        "PER WINDOW",
        "COUNT(*)",
        "SUM(a)",
        "AS",
        "n",
        "(",
        ")",
        ",",
        "'x'",
        "1",
        "=",
        "->",
        "-",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "INTERVAL",
        "'1' HOUR",
        "CREATE MATERIALIZED VIEW",
        "WITH",
        "FILTER",
        "a.b",
        "DISTINCT",
        "NOT",
        "IN",
        "BETWEEN",
        "AND",
        "LIKE",
        "IS NULL",
        "CAST",
        "EXTRACT",
        "=>",
        "\u{e9}",
        ";",
        "--",
        "/*",
    ]);
    prop::collection::vec(known, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn whatever_is_said_nothing_panics_and_complaints_have_a_place(
        text in prop_oneof![words(), words().prop_map(|w| format!("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') WHERE {w}")), any::<String>()]
    ) {
        if let Err(error) = compile(&text, "query") {
            let line = text.split('\n').nth(usize::try_from(error.line).unwrap() - 1);
            prop_assert!(error.line >= 1 && error.column >= 1, "{error}");
            prop_assert!(line.is_some() || text.is_empty(), "{error}\n{text:?}");
        }
    }
}
