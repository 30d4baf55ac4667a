//! What goes to the terminal: data on standard output, everything else on standard error; colour,
//! bars and box drawing only where a person looks.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::error::CommandError;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// The terminal as the command line asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// How answers are printed.
    pub format: OutputFormat,
    /// Whether colour is welcome.
    pub color: bool,
}

impl Terminal {
    /// Whether JSON was asked for.
    #[must_use]
    pub fn json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints a document as JSON, or as the text that `human` makes of it.
    ///
    /// # Errors
    /// [`CommandError::Stdout`].
    pub fn print<T: Serialize>(&self, document: &T, human: impl FnOnce(&T) -> String) -> Result<(), CommandError> {
        let text = if self.json() {
            serde_json::to_string_pretty(document)
                .map_err(|error| CommandError::Failed(format!("the answer cannot be written as JSON: {error}")))?
        } else {
            human(document)
        };
        print_text(&text)
    }

    /// Says something beside the data, on standard error.
    pub fn note(&self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(io::stderr(), "{text}"));
    }

    /// A table with these columns; the ones named in `right` hold numbers.
    #[must_use]
    pub fn table(&self, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>, right: &[&str]) -> String {
        let mut table = Table::new();
        let style = if io::stdout().is_terminal() { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING };
        table.load_style(style);
        table.set_header(columns.iter().map(|column| Cell::new(*column)).collect::<Vec<_>>());
        for row in rows {
            table.add_row(row);
        }
        for (index, name) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index).filter(|_| right.contains(name)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    /// A bar on standard error; hidden when that is no terminal. `length` 0: unknown.
    #[must_use]
    pub fn progress(&self, length: u64, unit: &str) -> ProgressBar {
        let bar = if length == 0 { ProgressBar::no_length() } else { ProgressBar::new(length) };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let color = if self.color { ".cyan" } else { "" };
        let template = if length == 0 {
            format!("{{spinner}} {{human_pos}} {unit}  {{rate}}  {{elapsed_precise}}  {{msg}}")
        } else {
            format!("{{bar:30{color}}} {{human_pos}}/{{human_len}} {unit}  {{rate}}  {{msg}}")
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                // A bar that cannot be drawn is no error.
                let _undrawn = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar
    }
}

/// Writes a text and a line end to standard output.
///
/// # Errors
/// [`CommandError::Stdout`].
pub fn print_text(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .map_err(CommandError::Stdout)
}

/// A number with its thousands apart: `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
