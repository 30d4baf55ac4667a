//! Dashboards, alert rules, runbooks and the operator's table speak of the metrics that exist, of all of them, and read
//! each as its type allows.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]

mod dashboards;
mod expressions;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pubg1_metrics::{Group, catalogue};

const OPERATIONS: &str = "docs/OPERATIONS.md";

/// Every expression of dashboards and rules with its place.
fn all_expressions() -> Vec<(String, String)> {
    let found: Vec<(String, String)> = dashboards::expressions().into_iter().chain(rules::expressions()).collect();
    assert!(found.len() > 100, "only {} expressions were read", found.len());
    found
}

#[test]
fn every_expression_parses_and_reads_the_catalogue() {
    let mut problems = Vec::new();
    for (place, expression) in all_expressions() {
        problems.extend(expressions::misreadings(&expression).into_iter().map(|problem| format!("{place}: {problem}")));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_metric_is_shown_or_watched() {
    let used: BTreeSet<&str> =
        all_expressions().iter().flat_map(|(_, expression)| expressions::families(expression)).collect();
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
fn the_table_for_operators_is_the_catalogue() {
    let mut wanted = String::from("| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for family in catalogue() {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [family.kind.as_str(), family.unit.as_str(), &labels.join(", "), family.help].join(" | ");
        wanted.push_str(&format!("| `{}` | {} |\n", family.name, row.replace("|  |", "| – |")));
    }
    assert!(read(OPERATIONS).contains(&wanted), "{OPERATIONS} needs this table:\n{wanted}");
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

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
