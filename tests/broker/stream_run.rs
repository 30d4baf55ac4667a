//! `pubg1 stream run` and `explain`: no broker, but the real program.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::run;

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/flights-2013-01.csv.gz");

fn stream(arguments: &[&str], input: &str) -> Output {
    let mut all = vec!["stream"];
    all.extend(arguments);
    run(&all, &[], input.as_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The rows of a run, and the last line of standard error.
fn rows(arguments: &[&str], input: &str) -> (Vec<Value>, Value) {
    let mut all = vec!["run", "-o", "json"];
    all.extend(arguments);
    let output = stream(&all, input);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let rows = text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let counts = errors.lines().last().expect("counts");
    (rows, serde_json::from_str(counts).expect(counts))
}

const EVENTS: &str = "\
{\"user\":\"a\",\"at\":1000,\"n\":1.5}
{\"user\":\"b\",\"at\":2000,\"n\":2}
no JSON at all
{\"user\":\"a\",\"at\":12000,\"n\":3}
{\"user\":\"a\"}
{\"user\":\"a\",\"at\":9000,\"n\":0.25}
{\"user\":\"b\",\"at\":500,\"n\":100}
";
const SUMS: &str = "CREATE MATERIALIZED VIEW sums WITH (max_out_of_order = '2s') AS
    SELECT user, SUM(n) AS total FROM TUMBLE(events, at, INTERVAL '10' SECOND)
    GROUP BY user, window_start, window_end";

#[test]
fn rows_are_lines_and_every_record_is_accounted_for() {
    let late = tempfile::tempdir().expect("a directory");
    let file = late.path().join("late.ndjson");
    let file = file.to_str().expect("UTF-8");
    let (found, counts) = rows(&["--input", "-", "--sql", SUMS, "--late", file], EVENTS);
    let row = |user: &str, total: Value, start: i64, records: u64| {
        json!({"user": user, "total": total, "window_start": start, "window_end": start + 10_000,
               "rev": 0, "final": true, "records": records})
    };
    let a = row("a", json!(1.5), 0, 1);
    assert_eq!(found, [a, row("b", json!(2), 0, 1), row("a", json!(3), 10_000, 1)], "{counts}");
    let expected = json!({"read": 7, "accepted": 3, "filtered": 0, "late": 2, "future": 0, "malformed": 1,
                          "no_time": 1, "late_pairs": 2, "late_merges": 0, "partitions": 1, "rows": 3});
    assert_eq!(counts, expected);
    let side = std::fs::read_to_string(file).expect("the file of late records");
    let side: Vec<Value> = side.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let told: Vec<_> = side.iter().map(|record| (record["offset"].clone(), record["reason"].clone())).collect();
    let expected = [(2, "malformed"), (4, "no_time"), (5, "late"), (6, "late")];
    assert_eq!(told, expected.map(|(offset, reason)| (json!(offset), json!(reason))));
    assert_eq!(side[0]["value"], "no JSON at all");
}

#[test]
fn keys_choose_partitions_and_each_has_its_own_time() {
    // In a partition of its own, the other key's time makes nothing late.
    let arguments = ["--input", "-", "--sql", SUMS, "--key-field", "user", "--partitions", "64"];
    let (found, counts) = rows(&arguments, EVENTS);
    assert_eq!((&counts["late"], &counts["partitions"]), (&json!(1), &json!(64)), "{counts}");
    let b = found.iter().find(|row| row["user"] == "b").expect("b");
    assert_eq!(b["total"], json!(102));
}

#[test]
fn a_document_and_the_sql_that_it_comes_from_give_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let query = "SELECT carrier, COUNT(*) AS n, AVG(arr_delay) AS delay, MAX(distance) AS far
                 FROM HOP(flights, time, INTERVAL '4' HOUR, INTERVAL '1' DAY)
                 WHERE origin = 'JFK' GROUP BY carrier, window_start HAVING COUNT(*) > 10";
    let explained = stream(&["explain", "--sql", query], "");
    let explained = text(&explained.stdout);
    let (words, document) = explained.split_once("\n\n").expect("words and a document");
    assert!(words.contains("where") && words.contains("origin = 'JFK'"), "{words}");
    let file = directory.path().join("query.json");
    std::fs::write(&file, document).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let with = |query: [&str; 2], more: &[&str]| {
        let mut arguments = vec!["run", "-o", "json", "--input", FLIGHTS, query[0], query[1]];
        arguments.extend(more);
        let output = stream(&arguments, "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let from_sql = with(["--sql", query], &[]);
    assert_eq!(with(["--query", file], &[]), from_sql);
    assert!(from_sql.lines().count() > 1_000);
    // In the order of their time, records are late nowhere: partitions change nothing.
    assert_eq!(with(["--sql", query], &["--key-field", "tailnum", "--partitions", "4"]), from_sql);
}

#[test]
fn a_table_is_for_people() {
    let query = "SELECT origin, COUNT(*) AS flights, AVG(dep_delay) AS delay
                 FROM TUMBLE(flights, time, INTERVAL '1' MONTH, timezone => 'America/New_York')
                 GROUP BY origin, window_start";
    let output = stream(&["run", "--input", FLIGHTS, "--sql", query], "");
    let table = text(&output.stdout);
    let lines: Vec<String> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "window_start window_end origin flights delay records");
    assert_eq!(lines[1], "2013-01-01T05:00:00Z 2013-02-01T05:00:00Z EWR 9891 14.877 9891");
    assert!(text(&output.stderr).contains("27,004 records: 27,004 in windows; 6 rows"), "{}", text(&output.stderr));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let refused = |arguments: &[&str], code: i32, message: &str| {
        let output = stream(arguments, EVENTS);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(message), "{errors}");
        assert!(output.stdout.is_empty());
    };
    refused(&["run", "--input", "-", "--sql", "SELECT x\nFROM y"], 2, "the query:2:6: Y is no window");
    refused(&["explain", "--sql", "{\"version\": 1, \"nam\": 2}"], 2, "$.name: is missing");
    refused(&["run", "--input", "/nowhere", "--sql", SUMS], 1, "cannot open /nowhere");
    refused(&["run", "--input", "-", "--sql", SUMS, "--format", "lines", "-k", "a"], 2, "lines have no fields");
    let by_record_time = SUMS.replace("at,", "record_time,");
    refused(&["run", "--input", "-", "--sql", &by_record_time], 2, "--timestamp-field");
    refused(&["run", "--input", "-"], 2, "--sql");
}
