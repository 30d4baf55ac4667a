//! `pubg1 report`.

pub mod files;
pub mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use pubg1_bench::report::Report;

use crate::{
    error::CommandError,
    terminal::{Terminal, print_text},
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Reads what `pubg1 bench --output json` and `pubg1 drill --output json` wrote and shows it again: as
text, as one page that loads nothing from anywhere, as plots. Several reports are compared to the
first one. A file may hold one report or a JSON array of them.

Examples:
  pubg1 bench -o json > one.json
  pubg1 report one.json
  pubg1 report one.json --html one.html        the page, and beside it one-throughput.svg, …
  pubg1 report before.json after.json --html compared.html
  pubg1 report drill.json --svg plots          the plots alone";

/// `pubg1 report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Reports as JSON; of several, each is compared to the first
    #[arg(value_name = "FILE.json", required = true)]
    pub files: Vec<PathBuf>,
    /// Write a page that holds everything, and its plots as SVG beside it
    #[arg(long, value_name = "OUT.html")]
    pub html: Option<PathBuf>,
    /// Write the plots as SVG into this directory
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// Shows saved reports.
///
/// # Errors
/// [`CommandError::File`] and [`CommandError::Usage`] when a file is not there or not a report.
pub fn run(terminal: Terminal, args: &ReportArgs) -> Result<(), CommandError> {
    let mut reports = Vec::new();
    for path in &args.files {
        reports.extend(read(path)?);
    }
    let mut written = Vec::new();
    if let Some(page) = &args.html {
        written.extend(files::write_files(&reports, page)?);
    }
    if let Some(directory) = &args.svg {
        let name = args.files.first().and_then(|file| file.file_stem()).map(|name| name.to_string_lossy());
        written.extend(files::write_plots(&reports, directory, &name.unwrap_or("report".into()))?);
    }
    if terminal.json() {
        terminal.print(&reports, |_| String::new())?;
    } else {
        print_text(&all(&reports, terminal))?;
    }
    for path in written {
        terminal.note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// The reports one below the other, then beside each other.
fn all(reports: &[Report], terminal: Terminal) -> String {
    let mut parts: Vec<String> = reports.iter().map(|report| text::text(report, terminal)).collect();
    parts.push(text::compared(reports, terminal));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n\n")
}

fn read(path: &Path) -> Result<Vec<Report>, CommandError> {
    let text = fs::read(path).map_err(|source| CommandError::File { action: "read", path: path.to_owned(), source })?;
    let several = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let reports =
        if several { serde_json::from_slice(&text) } else { serde_json::from_slice(&text).map(|report| vec![report]) };
    reports.map_err(|error| CommandError::Usage(format!("{} holds no report: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_or_several_are_read_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report.json");
        let report = Report { title: "a run".to_owned(), ..Report::default() };
        fs::write(&path, serde_json::to_vec_pretty(&report).expect("JSON")).expect("written");
        assert_eq!(read(&path).expect("one"), [report.clone()]);
        fs::write(&path, serde_json::to_vec(&[&report, &report]).expect("JSON")).expect("written");
        assert_eq!(read(&path).expect("two").len(), 2);
        for text in ["", "{", "{}", "[1]", "no"] {
            fs::write(&path, text).expect("written");
            let error = read(&path).expect_err("it is none");
            assert!(error.exit_code() == crate::error::USAGE && error.to_string().contains("report.json"), "{error}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(matches!(read(&path), Err(CommandError::File { action: "read", .. })));
    }
}
