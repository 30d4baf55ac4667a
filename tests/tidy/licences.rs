//! Every dependency's licence is on the list. The expression is SPDX; an alternative counts when one side is on
//! the list, a conjunction when both are.

use super::assert_none;
use super::crates::Metadata;

/// Licences that ask for no more than their text and notice.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_dependency_has_an_allowed_licence() {
    let metadata = Metadata::read();
    let problems = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let licence = package.licence.as_deref().unwrap_or("(none stated)");
            (!allowed(licence)).then(|| format!("{} {}: licence {licence}", package.name, package.version))
        })
        .collect();
    assert_none(problems);
}

fn allowed(expression: &str) -> bool {
    // `A/B` is how crates wrote `A OR B` before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = alternative(&mut words);
    verdict == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternative(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = conjunction(words)?;
    while words.next_if_eq(&"OR").is_some() {
        // Not `||`, which would leave the right side unread.
        verdict |= conjunction(words)?;
    }
    Some(verdict)
}

fn conjunction(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = term(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= term(words)?;
    }
    Some(verdict)
}

fn term(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let verdict = alternative(words)?;
        return words.next_if_eq(&")").map(|_| verdict);
    }
    if words.next_if_eq(&"WITH").is_some() {
        let exception = words.next()?;
        return Some(ALLOWED.contains(&format!("{word} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(&word))
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for good in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        "GPL-3.0-only AND MIT OR ISC",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MIT AND (GPL-3.0-only OR AGPL-3.0-only)",
        "MIT WITH Unknown-exception",
        "(MIT",
        "MIT MIT",
        "MIT OR",
        "(none stated)",
    ] {
        assert!(!allowed(bad), "{bad}");
    }
}
