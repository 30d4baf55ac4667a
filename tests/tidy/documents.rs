//! Documents point at things that exist: links, their anchors, and paths in backticks.

use std::collections::BTreeSet;

use super::{SourceFile, assert_none, root};

/// Hosts that a tracked file may name. Anything else is a slip of the machine it was written on, or a link that
/// should be looked at before it is added.
const HOSTS: &[&str] = &[
    "127.0.0.1",
    "localhost",
    "0.0.0.0",
    "broker.example",
    "example.com",
    "github.com",
    "cwiki.apache.org",
    "kafka.apache.org",
    "no-color.org",
    "www.apache.org",
    "creativecommons.org",
    "docs.rs",
    "json-schema.org",
    "prometheus.io",
    "pypi.org",
    "rustsec.org",
    "spec.openapis.org",
    "www.rfc-editor.org",
    // The name of SVG's own vocabulary, which every such file carries.
    "www.w3.org",
];

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    for file in SourceFile::all(&[".md"]) {
        let prose = without_code(&file.text);
        for target in link_targets(&prose) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if path.is_empty() { root().join(&file.path) } else { file.directory().join(path) };
            match linked.try_exists() {
                Ok(true) if anchor.is_empty() => {}
                Ok(true) => {
                    let text = std::fs::read_to_string(&linked).unwrap_or_default();
                    if !anchors(&text).contains(anchor) {
                        problems.push(format!("{}: {target}: no such heading", file.path));
                    }
                }
                _ => problems.push(format!("{}: {target}: no such file", file.path)),
            }
        }
    }
    assert_none(problems);
}

#[test]
fn paths_in_backticks_exist() {
    let endings = [".rs", ".md", ".toml", ".sh", ".yml"];
    let mut problems = Vec::new();
    for file in SourceFile::all(&[".md"]) {
        for path in file.text.split('`').skip(1).step_by(2) {
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            if !plain || !path.contains('/') || path.starts_with(['/', '.']) {
                continue;
            }
            let a_path = endings.iter().any(|ending| path.ends_with(ending));
            if a_path && !root().join(path).is_file() {
                problems.push(format!("{}: `{path}` does not exist", file.path));
            }
        }
    }
    assert_none(problems);
}

/// In a row of a table, names that follow a path in backticks stand in that file: the tests that guard an invariant.
#[test]
fn names_beside_a_path_stand_in_that_file() {
    let mut problems = Vec::new();
    let mut names = 0;
    for file in SourceFile::all(&[".md"]) {
        for row in file.text.lines().filter(|line| line.starts_with('|')) {
            let mut source: Option<(&str, String)> = None;
            for word in row.split('`').skip(1).step_by(2) {
                if word.ends_with(".rs") {
                    source = std::fs::read_to_string(root().join(word)).ok().map(|text| (word, text));
                } else if let Some((path, text)) = source.as_ref().filter(|_| word.matches('_').count() >= 2) {
                    names += 1;
                    if !text.contains(&format!("fn {word}(")) {
                        problems.push(format!("{}: `{path}` has no `{word}`", file.path));
                    }
                }
            }
        }
    }
    assert!(names > 10, "only {names} names were found");
    assert_none(problems);
}

#[test]
fn hosts_are_known() {
    let mut problems = Vec::new();
    for file in SourceFile::all(&[""]) {
        // The licence's own text, and cargo's own file.
        if file.path == "LICENSE" || file.path == "Cargo.lock" {
            continue;
        }
        for scheme in ["http://", "https://"] {
            for rest in file.text.split(scheme).skip(1) {
                let host: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.' || *c == '-').collect();
                if !host.is_empty() && host.contains('.') && !HOSTS.contains(&host.trim_end_matches('.')) {
                    problems.push(format!("{}: {scheme}{host}", file.path));
                }
            }
        }
    }
    assert_none(problems);
}

/// Fenced blocks and code spans left out: what stands there is not a link.
fn without_code(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

fn link_targets(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim())
}

/// Anchors of a document's headings, made as code hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_are_found_outside_of_code_only() {
    let text = "See [a](one.md) and `[b](two.md)`.\n```\n[c](three.md)\n```\n[d](#a-heading--b)\n# A heading — b!\n";
    let prose = without_code(text);
    assert_eq!(link_targets(&prose).collect::<Vec<_>>(), ["one.md", "#a-heading--b"]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-heading--b"]);
}
