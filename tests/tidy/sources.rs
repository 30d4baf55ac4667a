//! What a source file looks like: a head that says what it is for, a length that one can read, nothing unfinished,
//! no sleeping test, no trace of the machine that it was written on.

use super::{SourceFile, assert_none};

const LINES_MAX: usize = 600;

/// The only file that may lift `unsafe_code`.
const UNSAFE_FILE: &str = "storage/src/mapped_file.rs";

#[test]
fn every_rust_file_opens_with_its_purpose() {
    let problems = rust_files().into_iter().filter_map(|file| {
        let head = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
        let said = head.and_then(|line| line.strip_prefix("//! ")).is_some_and(|purpose| purpose.len() >= 12);
        (!said).then(|| format!("{}: the first line is not `//! what this file is for`", file.path))
    });
    assert_none(problems.collect());
}

#[test]
fn modules_are_named_files_of_readable_length() {
    let mut problems = Vec::new();
    for file in rust_files() {
        if file.path.ends_with("/mod.rs") {
            problems.push(format!("{}: name the file after its module", file.path));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{}: {lines} lines; more than {LINES_MAX} are more than one idea", file.path));
        }
    }
    assert_none(problems);
}

#[test]
fn nothing_is_left_unfinished() {
    // Written in two halves, so that this file does not accuse itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("HA", "CK"),
        concat!("TO", "DO"),
    ];
    let mut problems = Vec::new();
    for file in SourceFile::all(&[".rs", ".sh", ".toml", ".ci/run", ".md"]) {
        for (number, line) in numbered(&file.text) {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                problems.push(format!("{}:{number}: {mark}", file.path));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let sleep = concat!("sle", "ep(");
    let ignore = concat!("#[ig", "nore");
    let mut problems = Vec::new();
    for file in rust_files() {
        for (number, line) in test_lines(&file) {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            if code.contains(sleep) {
                problems.push(format!("{}:{number}: wait for the condition, not for time", file.path));
            }
            if code.starts_with(ignore) {
                problems.push(format!("{}:{number}: an ignored test protects nothing", file.path));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn raw_memory_is_touched_in_one_file() {
    let keyword = concat!("uns", "afe");
    let mut problems = Vec::new();
    for file in rust_files() {
        if file.path == UNSAFE_FILE {
            continue;
        }
        for (number, line) in numbered(&file.text) {
            let code = line.split("//").next().unwrap_or_default();
            let used = ["{", "fn", "impl", "trait", "extern", "_code"]
                .iter()
                .any(|next| code.contains(&format!("{keyword}{}{next}", if *next == "_code" { "" } else { " " })));
            if used {
                problems.push(format!("{}:{number}: only {UNSAFE_FILE} may do this", file.path));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn no_file_speaks_of_the_machine_it_was_written_on() {
    let paths = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("bash_", "jobs"),
    ];
    let mut problems = Vec::new();
    for file in SourceFile::all(&[""]) {
        for (number, line) in numbered(&file.text) {
            if let Some(path) = paths.iter().find(|path| line.contains(*path)) {
                problems.push(format!("{}:{number}: a path of one machine, `{path}`", file.path));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn text_ends_clean() {
    let mut problems = Vec::new();
    for file in SourceFile::all(&[".rs", ".sh", ".toml", ".md", ".yml", ".json", ".ci/run"]) {
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            problems.push(format!("{}: the last line has no end", file.path));
        }
        for (number, line) in numbered(&file.text) {
            if line.ends_with([' ', '\t', '\r']) {
                problems.push(format!("{}:{number}: white space at the end", file.path));
            }
        }
    }
    assert_none(problems);
}

fn rust_files() -> Vec<SourceFile> {
    let files = SourceFile::all(&[".rs"]);
    assert!(files.len() > 10, "only {} Rust files were found", files.len());
    files
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The lines of a file that are tests: all of a test file, else what follows `#[cfg(test)]` before a `mod … {`.
fn test_lines(file: &SourceFile) -> Vec<(usize, &str)> {
    let lines: Vec<(usize, &str)> = numbered(&file.text).collect();
    let whole = file.path.starts_with("tests/")
        || file.path.contains("/tests/")
        || file.path.ends_with("/tests.rs")
        || file.path.ends_with("_tests.rs");
    if whole {
        return lines;
    }
    let module = lines.windows(2).position(|pair| {
        pair[0].1.trim() == "#[cfg(test)]" && pair[1].1.trim_start().starts_with("mod ") && pair[1].1.ends_with('{')
    });
    module.map_or_else(Vec::new, |start| lines[start..].to_vec())
}
