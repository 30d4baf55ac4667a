//! The alert rules, their runbooks and their unit tests. promtool runs the latter; here it is looked that there are some.

use std::collections::BTreeSet;

use crate::{expressions::misreadings, read};

const RULES: &str = "metrics/dashboards/alerts.yml";
const TESTS: &str = "metrics/dashboards/alerts.test.yml";
const RUNBOOKS: &str = "docs/ALERTS.md";

/// The rules as they stand in the file, each from its name on.
fn rules(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.split("- alert: ").skip(1).map(|rule| (rule.lines().next().unwrap_or_default().trim(), rule))
}

/// The expressions of the rules, each with its place.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let file = read(RULES);
    let expression = |(name, rule): (&str, &str)| {
        let expression = rule.split("expr:").nth(1).expect("expr");
        let end = ["\n        for:", "\n        keep_firing_for:", "\n        labels:"]
            .iter()
            .filter_map(|next| expression.find(next))
            .min()
            .expect("labels");
        (format!("{RULES}: {name}"), expression[..end].trim_start_matches([' ', '|']).to_owned())
    };
    rules(&file).map(expression).collect()
}

#[test]
fn the_expression_of_a_rule_is_cut_out_of_the_file() {
    let expressions = expressions();
    let of = |name: &str| expressions.iter().find(|(place, _)| place.ends_with(name)).map(|(_, it)| it.trim());
    assert_eq!(of(": BrokerDown"), Some("up{job=\"pubg1\"} == 0"));
    assert!(of(": ProduceSlow").is_some_and(|it| it.starts_with("histogram_quantile(") && it.ends_with("> 1")));
    assert!(expressions.iter().all(|(_, it)| misreadings(it).is_empty()));
}

#[test]
fn every_alert_has_a_severity_and_a_summary() {
    let file = read(RULES);
    let mut names = BTreeSet::new();
    for (name, rule) in rules(&file) {
        assert!(names.insert(name), "{name} stands twice");
        assert!(["severity: critical", "severity: warning"].iter().any(|severity| rule.contains(severity)), "{name}");
        assert!(rule.contains("summary:"), "{name}");
        assert!(rule.contains(&format!("runbook: {RUNBOOKS}#{}\n", name.to_lowercase())), "{name}: runbook");
    }
    assert!(names.len() > 20, "{names:?}");
}

#[test]
fn every_alert_has_a_runbook_of_four_lines() {
    let (file, runbooks) = (read(RULES), read(RUNBOOKS));
    let written: Vec<(&str, &str)> =
        runbooks.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a text")).collect();
    let headings: Vec<&str> = written.iter().map(|(heading, _)| *heading).collect();
    let names: Vec<&str> = rules(&file).map(|(name, _)| name).collect();
    assert_eq!(headings, names, "{RUNBOOKS} has the alerts of {RULES}, in their order");
    for (name, text) in written {
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let starts = ["- **Meaning**: ", "- **Check**: ", "- **Causes**: ", "- **Action**: "];
        assert_eq!(lines.len(), starts.len(), "{name}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start) && line.len() > start.len() + 10, "{name}: {line}");
        }
    }
}

/// One look at an alert in a unit test: when, in minutes, and whether it fires then.
fn looks(test: &str, alert: &str) -> Vec<(u32, bool)> {
    let minutes = |text: &str| {
        let time: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
        time.strip_suffix('m').map_or(0, |minutes| minutes.parse().expect("minutes"))
    };
    test.split("eval_time: ")
        .skip(1)
        .filter(|look| look.split(['\n', ',']).nth(1).is_some_and(|it| it.trim() == format!("alertname: {alert}")))
        .map(|look| (minutes(look), look.contains("exp_labels")))
        .collect()
}

#[test]
fn every_alert_is_tested_before_while_and_after() {
    let (file, tests) = (read(RULES), read(TESTS));
    for (name, _) in rules(&file) {
        let test = tests.split("\n  - name: ").find(|test| !looks(test, name).is_empty());
        let looks = looks(test.unwrap_or_else(|| panic!("{name}: no test")), name);
        let fires: Vec<bool> = looks.iter().map(|(_, fires)| *fires).collect();
        assert_eq!(fires, [false, true, false], "{name}: quiet, firing, resolved");
        assert!(looks.is_sorted_by_key(|(at, _)| *at), "{name}: {looks:?}");
    }
}

#[test]
fn a_rolling_restart_fires_nothing() {
    let tests = read(TESTS);
    let restart = tests.split("\n  - name: ").find(|test| test.starts_with("a drained rolling restart\n"));
    let restart = restart.expect("a test of a rolling restart");
    let nothing = r#"{ expr: 'count_over_time(ALERTS{alertstate="firing"}[30m])', eval_time: 24m, exp_samples: [] }"#;
    assert!(restart.contains(nothing));
    // An alert that reads what is not there cannot fire.
    let read_by_rules = expressions();
    let families = read_by_rules.iter().flat_map(|(_, expression)| crate::expressions::families(expression));
    let absent: BTreeSet<&str> = families.filter(|family| !restart.contains(family)).collect();
    assert!(absent.is_empty(), "the restart has no series of {absent:?}");
}
