//! Every dependency's licence is on the list of `deny.toml`. The expression is SPDX; an alternative counts when one
//! side is on the list, a conjunction when both are.

use super::crates::Metadata;
use super::{assert_none, deny_toml};

#[test]
fn every_dependency_has_an_allowed_licence() {
    let listed = deny_toml();
    let listed = listed["licenses"]["allow"].as_array().expect("deny.toml lists licences");
    let listed: Vec<&str> = listed.iter().filter_map(toml::Value::as_str).collect();
    assert!(listed.contains(&"MIT"));
    let metadata = Metadata::read();
    let problems = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let licence = package.licence.as_deref().unwrap_or("(none stated)");
            (!allowed(licence, &listed)).then(|| format!("{} {}: licence {licence}", package.name, package.version))
        })
        .collect();
    assert_none(problems);
}

fn allowed(expression: &str, listed: &[&str]) -> bool {
    // `A/B` is how crates wrote `A OR B` before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut rest = Expression { words: spaced.split_whitespace().peekable(), listed };
    rest.alternative() == Some(true) && rest.words.next().is_none()
}

/// What is left to read of an SPDX expression. Each method answers `None` where it is malformed.
struct Expression<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    listed: &'a [&'a str],
}

impl Expression<'_> {
    fn alternative(&mut self) -> Option<bool> {
        let mut verdict = self.conjunction()?;
        while self.words.next_if_eq(&"OR").is_some() {
            // Not `||`, which would leave the right side unread.
            verdict |= self.conjunction()?;
        }
        Some(verdict)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut verdict = self.term()?;
        while self.words.next_if_eq(&"AND").is_some() {
            verdict &= self.term()?;
        }
        Some(verdict)
    }

    fn term(&mut self) -> Option<bool> {
        let word = self.words.next()?;
        if word == "(" {
            let verdict = self.alternative()?;
            return self.words.next_if_eq(&")").map(|_| verdict);
        }
        if self.words.next_if_eq(&"WITH").is_some() {
            let exception = self.words.next()?;
            return Some(self.listed.contains(&format!("{word} WITH {exception}").as_str()));
        }
        Some(self.listed.contains(&word))
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let listed = ["MIT", "ISC", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
    for good in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        "GPL-3.0-only AND MIT OR ISC",
    ] {
        assert!(allowed(good, &listed), "{good}");
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
        assert!(!allowed(bad, &listed), "{bad}");
    }
}
