//! The law of this repository, executable: which crate may use which, under which licences, and what a source
//! file, a test and a document look like. Each test names every offender at once.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lists that cargo-deny reads too.
fn deny_toml() -> toml::Table {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    text.parse().expect("deny.toml is TOML")
}

/// Fails with all problems, one a line.
#[track_caller]
fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// A text file of the repository: tracked, or new and not ignored.
struct SourceFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    /// Every file whose name ends in one of `endings`; an empty ending takes all text files.
    fn all(endings: &[&str]) -> Vec<SourceFile> {
        repository_paths()
            .into_iter()
            .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
            .filter_map(|path| {
                // A deleted file is still listed by git until the deletion is staged; a binary file is not UTF-8.
                let text = std::fs::read_to_string(root().join(&path)).ok()?;
                Some(SourceFile { path, text })
            })
            .collect()
    }

    /// The directory it stands in.
    fn directory(&self) -> PathBuf {
        root().join(&self.path).parent().map(Path::to_path_buf).expect("a file has a directory")
    }
}

fn repository_paths() -> Vec<String> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("tidy asks git for the repository's files");
    assert!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let paths = String::from_utf8(listing.stdout).expect("paths are UTF-8");
    let paths: Vec<String> = paths.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "this is not the repository's root");
    paths
}
