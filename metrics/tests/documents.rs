//! Dashboards, alert rules and the operator's table speak of the metrics that exist, of all of them, and read each
//! as its type allows.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pubg1_metrics::{Group, MetricDescription, MetricKind, catalogue};
use serde_json::Value;

const DASHBOARDS: [&str; 1] = ["metrics/dashboards/overview.json"];
const RULES: &str = "metrics/dashboards/alerts.yml";
const OPERATIONS: &str = "docs/OPERATIONS.md";

#[test]
fn every_expression_reads_the_catalogue() {
    let mut problems = Vec::new();
    for (place, expression) in expressions() {
        problems.extend(misreadings(&expression).into_iter().map(|problem| format!("{place}: {problem}")));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_metric_is_shown_or_watched() {
    let used: BTreeSet<String> = expressions()
        .iter()
        .flat_map(|(_, expression)| words(expression).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|word| family(&word).map(|family| family.name.to_owned()))
        .collect();
    // The broker's own start time is shown; the process's is the same to a second.
    let unused: Vec<&str> = catalogue()
        .iter()
        .map(|family| family.name)
        .filter(|name| !used.contains(*name) && *name != "process_start_time_seconds")
        .filter(|name| *name != "process_virtual_memory_bytes")
        .collect();
    assert!(unused.is_empty(), "no panel and no rule uses {unused:?}");
}

#[test]
fn panels_say_what_they_show() {
    for path in DASHBOARDS {
        let dashboard = read_json(path);
        assert!(dashboard["uid"].is_string() && dashboard["schemaVersion"].as_u64() >= Some(39), "{path}");
        let panels = dashboard["panels"].as_array().expect("panels");
        let mut ids = BTreeSet::new();
        for panel in panels {
            assert!(ids.insert(panel["id"].as_u64().expect("id")), "{path}: id {} twice", panel["id"]);
            if panel["type"] == "row" {
                continue;
            }
            let title = panel["title"].as_str().expect("title");
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}: description");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}: the data source is chosen by the user");
            let x = panel["gridPos"]["x"].as_u64().expect("x");
            assert!(x + panel["gridPos"]["w"].as_u64().expect("w") <= 24, "{title}: wider than the page");
        }
    }
}

#[test]
fn every_alert_has_a_severity_and_a_page_to_turn_to() {
    let rules = read(RULES);
    let operations = read(OPERATIONS);
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 5);
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().expect("name").trim();
        assert!(names.insert(name), "{name} stands twice");
        assert!(["severity: critical", "severity: warning"].iter().any(|severity| alert.contains(severity)), "{name}");
        assert!(alert.contains("summary:"), "{name}");
        assert!(alert.contains(&format!("runbook: {OPERATIONS}#{}", name.to_lowercase())), "{name}: runbook");
        let heading = format!("### {name}\n");
        assert!(operations.contains(&heading), "{OPERATIONS} has no `{}`", heading.trim());
        assert!(read("metrics/dashboards/alerts.test.yml").contains(&format!("alertname: {name}")), "{name}: no test");
    }
}

#[test]
fn the_table_for_operators_is_the_catalogue() {
    let mut wanted = String::from("| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for family in catalogue() {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [family.kind.as_str(), family.unit.as_str(), &labels.join(", "), family.help].join(" | ");
        wanted.push_str(&format!("| `{}` | {} |\n", family.name, row.replace("|  |", "| – |")));
    }
    assert!(read(OPERATIONS).contains(&wanted), "{OPERATIONS} needs this table:\n{wanted}");
}

/// What is wrong with an expression: unknown metrics, unknown labels, a counter read as if it were a gauge.
fn misreadings(expression: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for word in words(expression).filter(|word| word.starts_with("pubg1_") || word.starts_with("process_")) {
        if family(word).is_none() {
            problems.push(format!("{word} is not in the catalogue"));
        }
    }
    for (position, name) in selectors(expression) {
        let Some(family) = family(name) else { continue };
        let rest = &expression[position + name.len()..];
        let (matchers, after) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((matchers, after)) => (matchers, after),
            None => ("", rest),
        };
        for label in labels_matched(matchers) {
            let of_scrape = ["job", "instance", "le"].contains(&label);
            if !of_scrape && !family.labels.contains(&label) {
                problems.push(format!("{name} has no label {label}"));
            }
        }
        let counts = family.kind == MetricKind::Counter || name != family.name;
        if counts && !after.starts_with('[') {
            problems.push(format!("{name} only grows; read it through rate() or increase()"));
        }
        if !counts && after.starts_with('[') && !expression.contains("predict_linear") {
            problems.push(format!("{name} goes up and down; rate() of it says nothing"));
        }
    }
    problems
}

/// The family that a name in an expression belongs to.
fn family(name: &str) -> Option<&'static MetricDescription> {
    catalogue().iter().find(|family| match family.kind {
        MetricKind::Histogram => {
            name.strip_prefix(family.name).is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix))
        }
        MetricKind::Counter | MetricKind::Gauge => name == family.name,
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|c| !is_name(c)).filter(|word| !word.is_empty())
}

/// Names of metrics with their positions.
fn selectors(expression: &str) -> Vec<(usize, &str)> {
    let starts = |prefix: &str| expression.match_indices(prefix).map(|(at, _)| at).collect::<Vec<_>>();
    let all = starts("pubg1_").into_iter().chain(starts("process_"));
    all.filter(|&at| at == 0 || !expression[..at].ends_with(is_name))
        .map(|at| (at, expression[at..].split(|c| !is_name(c)).next().unwrap_or_default()))
        .collect()
}

fn labels_matched(matchers: &str) -> Vec<&str> {
    // A comma inside of a quoted value would split it; no rule of ours has one.
    matchers
        .split(',')
        .filter_map(|matcher| matcher.split(['=', '!']).next())
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect()
}

/// Every expression of the dashboards and rules, with its place.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in DASHBOARDS {
        let dashboard = read_json(path);
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().map_or(&[][..], Vec::as_slice) {
                let expression = target["expr"].as_str().expect("expr").to_owned();
                found.push((format!("{path}: {}", panel["title"]), expression));
            }
        }
    }
    let rules = read(RULES);
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let expression = alert.split("expr:").nth(1).expect("expr");
        let end = ["\n        for:", "\n        keep_firing_for:", "\n        labels:"]
            .iter()
            .filter_map(|next| expression.find(next))
            .min()
            .expect("labels");
        found.push((format!("{RULES}: {name}"), expression[..end].trim_start_matches([' ', '|']).to_owned()));
    }
    assert!(found.len() > 30);
    found
}

fn read(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_json(path: &str) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

#[test]
fn misread_expressions_are_found() {
    let count = |expression: &str| misreadings(expression).len();
    assert_eq!(count("rate(pubg1_requests_total{api=\"publish\"}[5m])"), 0);
    assert_eq!(count("rate(pubg1_request_duration_seconds_bucket[5m])"), 0);
    assert_eq!(count("pubg1_requests_total"), 1, "a counter without a rate");
    assert_eq!(count("rate(pubg1_requests_total{topic=\"t\"}[5m])"), 1, "a label that it does not have");
    assert_eq!(count("pubg1_no_such_thing"), 1);
    assert_eq!(count("rate(pubg1_requests_in_flight[5m])"), 1, "a rate of a gauge");
    assert_eq!(count("pubg1_request_duration_seconds"), 1, "a histogram without a suffix");
}

#[test]
fn groups_stand_together_in_the_catalogue() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last: Option<Group> = None;
    for family in catalogue() {
        if last != Some(family.group) {
            *seen.entry(family.group.as_str()).or_default() += 1;
            last = Some(family.group);
        }
    }
    assert!(seen.values().all(|&runs| runs == 1), "{seen:?}");
}
