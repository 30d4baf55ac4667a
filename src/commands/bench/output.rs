//! Where a finished report goes.

use std::{fs, path::Path};

use pubg1_bench::report::Report;

use super::BenchArgs;
use crate::{
    commands::report::{files, text},
    error::CommandError,
    terminal::Terminal,
};

/// Prints the report, and writes the files that were asked for.
pub(super) fn write(report: &Report, args: &BenchArgs, terminal: Terminal) -> Result<(), CommandError> {
    terminal.print(report, |report| text::text(report, terminal))?;
    if let Some(path) = &args.save {
        let document = serde_json::to_vec_pretty(report)
            .map_err(|error| CommandError::Failed(format!("the report cannot be written as JSON: {error}")))?;
        write_file(path, &document)?;
        terminal.note(&format!("wrote {}", path.display()));
    }
    if let Some(page) = &args.html {
        for path in files::write_files(std::slice::from_ref(report), page)? {
            terminal.note(&format!("wrote {}", path.display()));
        }
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    fs::write(path, bytes).map_err(|source| {
        let path = path.to_owned();
        CommandError::File { action: "write", path, source }
    })
}
