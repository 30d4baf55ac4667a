//! The dashboards as Grafana reads them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{path, read};

const DIRECTORY: &str = "metrics/dashboards";

/// The dashboards, each with its path.
fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(path(DIRECTORY)).expect("a directory");
    let names = files.filter_map(|file| file.expect("a file").file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    let dashboard = |name: String| {
        let path = format!("{DIRECTORY}/{name}");
        let dashboard = serde_json::from_str(&read(&path)).expect("JSON");
        (path, dashboard)
    };
    names.into_iter().map(dashboard).collect()
}

fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}

/// The expressions of panels and annotations, each with its place.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, dashboard) in dashboards() {
        let panels = list(&dashboard, "panels");
        let targets =
            panels.iter().flat_map(|panel| list(panel, "targets").iter().map(|it| (text(panel, "title"), it)));
        let annotations = list(&dashboard["annotations"], "list").iter().map(|it| (text(it, "name"), it));
        for (title, target) in targets.chain(annotations) {
            found.push((format!("{path}: {title}"), text(target, "expr").to_owned()));
        }
    }
    found
}

#[test]
fn there_are_five_dashboards_and_each_has_a_uid_of_its_own() {
    let uids: Vec<String> = dashboards().iter().map(|(_, dashboard)| text(dashboard, "uid").to_owned()).collect();
    assert_eq!(
        uids,
        ["pubg1-fault-drill", "pubg1-node-internals", "pubg1-overview", "pubg1-streams", "pubg1-topics-and-groups"]
    );
}

#[test]
fn dashboards_can_be_provisioned() {
    for (path, dashboard) in dashboards() {
        assert_eq!(dashboard["schemaVersion"], 39, "{path}");
        // A dashboard with inputs has to be imported by hand.
        assert!(dashboard["__inputs"].is_null() && !dashboard.to_string().contains("DS_PROMETHEUS"), "{path}");
        let variables = list(&dashboard["templating"], "list");
        let names: BTreeSet<&str> = variables.iter().map(|variable| text(variable, "name")).collect();
        assert!(["datasource", "cluster", "instance"].iter().all(|name| names.contains(name)), "{path}: {names:?}");
        // Every variable that an expression uses is one that can be chosen.
        let used = expressions().into_iter().filter(|(place, _)| place.starts_with(&path));
        for (place, expression) in used {
            for variable in expression.split('$').skip(1) {
                let name: String = variable.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(name == "__rate_interval" || names.contains(name.as_str()), "{place}: ${name}");
            }
        }
    }
}

#[test]
fn panels_say_what_they_show() {
    for (path, dashboard) in dashboards() {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().expect("id")), "{path}: id {} twice", panel["id"]);
            if panel["type"] == "row" {
                continue;
            }
            assert!(titles.insert(title), "{path}: {title} twice");
            assert!(text(panel, "description").ends_with('.'), "{title}: description");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}: unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}: the data source is chosen by the user");
            assert!(!list(panel, "targets").is_empty(), "{title}: nothing to show");
            for target in list(panel, "targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                assert!(!text(target, "legendFormat").is_empty(), "{title}: a name for each line");
            }
            // What may be empty says when, in words that the test with a Prometheus reads.
            let says_when = text(panel, "description").split(". ").filter(|part| part.starts_with("Empty "));
            assert!(says_when.clone().all(|part| part.starts_with("Empty while ")), "{title}");
        }
    }
}

#[test]
fn panels_do_not_overlap() {
    for (path, dashboard) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            assert!(side("x") + side("w") <= 24, "{path}: {} is wider than the page", panel["title"]);
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(taken.insert((x, y)), "{path}: {} lies over another", panel["title"]);
                }
            }
        }
    }
}
