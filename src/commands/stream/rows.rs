//! Where the rows of a local run go: lines of JSON at once, or a table at the end.

use std::{
    fs::File,
    io::{self, BufWriter, StdoutLock, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use pubg1_model::streams::{
    engine::{Reason, Row},
    plan::Plan,
};
use serde_json::{Value, json};

use crate::{
    error::CommandError,
    input::InputRecord,
    terminal::{Terminal, print_text},
};

/// Takes rows and prints them.
pub(super) enum RowWriter {
    /// One line each, as they come.
    Lines { out: BufWriter<StdoutLock<'static>>, count: u64 },
    /// All at the end.
    Table { rows: Vec<Vec<String>>, numbers: Vec<bool> },
}

impl RowWriter {
    pub(super) fn new(terminal: Terminal, plan: &Plan) -> Self {
        if terminal.json() {
            return Self::Lines { out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()), count: 0 };
        }
        Self::Table { rows: Vec::new(), numbers: vec![true; plan.output.len()] }
    }

    pub(super) fn write(&mut self, rows: &[Row], plan: &Plan) -> Result<(), CommandError> {
        for row in rows {
            let json = row.to_json(plan);
            match self {
                Self::Lines { out, count } => {
                    out.write_all(json.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(CommandError::Stdout)?;
                    *count += 1;
                }
                Self::Table { rows, numbers } => {
                    let object: Value = serde_json::from_str(&json)
                        .map_err(|error| CommandError::Failed(format!("a row is no JSON: {error}")))?;
                    let cells = plan.output.iter().map(|column| &object[column.name.as_str()]);
                    for (number, cell) in numbers.iter_mut().zip(cells.clone()) {
                        *number &= cell.is_number() || cell.is_null();
                    }
                    let mut shown = vec![time_cell(row.window_start_ms), time_cell(row.window_end_ms)];
                    shown.extend(cells.map(cell));
                    shown.push(row.records.to_string());
                    if plan.emit.has_updates() {
                        let state = if row.is_final { "final" } else { "open" };
                        shown.extend([row.rev.to_string(), state.to_owned()]);
                    }
                    rows.push(shown);
                }
            }
        }
        // Who reads the lines does not wait for more of them.
        match self {
            Self::Lines { out, .. } if !rows.is_empty() => out.flush().map_err(CommandError::Stdout),
            _ => Ok(()),
        }
    }

    /// Prints what is left; how many rows there were.
    pub(super) fn finish(self, terminal: Terminal, plan: &Plan) -> Result<u64, CommandError> {
        match self {
            Self::Lines { mut out, count } => {
                out.flush().map_err(CommandError::Stdout)?;
                Ok(count)
            }
            Self::Table { rows, numbers } => {
                let count = rows.len() as u64;
                let mut columns = vec!["window_start", "window_end"];
                columns.extend(plan.output.iter().map(|column| column.name.as_str()));
                columns.push("records");
                if plan.emit.has_updates() {
                    columns.extend(["rev", "state"]);
                }
                let right = plan.output.iter().zip(&numbers).filter(|(_, number)| **number);
                let mut right: Vec<&str> = right.map(|(column, _)| column.name.as_str()).collect();
                right.extend(["records", "rev"]);
                print_text(&terminal.table(&columns, rows, &right))?;
                Ok(count)
            }
        }
    }
}

/// A time for people: without milliseconds when there are none.
pub(super) fn time_cell(ms: i64) -> String {
    let magnitude = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { UNIX_EPOCH.checked_sub(magnitude) } else { UNIX_EPOCH.checked_add(magnitude) };
    // Years before 1970 and after 9999 are no RFC 3339 to humantime.
    let Some(time) = time.filter(|_| (0..253_402_300_800_000).contains(&ms)) else { return ms.to_string() };
    if ms % 1_000 == 0 {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        humantime::format_rfc3339_millis(time).to_string()
    }
}

/// A value for people.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        // Three places are enough to look at; lines of JSON have all of them.
        Value::Number(number) if number.is_f64() => {
            let text = format!("{:.3}", number.as_f64().unwrap_or_default());
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}

/// The file of records that are in no window.
pub(super) struct LateWriter {
    out: Option<BufWriter<File>>,
}

impl LateWriter {
    pub(super) fn create(path: Option<&Path>) -> Result<Self, CommandError> {
        let file = path.map(|path| {
            File::create(path).map_err(|source| CommandError::File { action: "create", path: path.to_owned(), source })
        });
        Ok(Self { out: file.transpose()?.map(BufWriter::new) })
    }

    pub(super) fn write(
        &mut self,
        partition: u32,
        offset: u64,
        reason: Reason,
        record: &InputRecord,
    ) -> Result<(), CommandError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = json!({
            "partition": partition,
            "offset": offset,
            "reason": reason_name(reason),
            "key": record.key.as_deref().map(text),
            "value": text(&record.value),
        });
        writeln!(out, "{line}").map_err(|error| late_failed(&error))
    }

    pub(super) fn finish(self) -> Result<(), CommandError> {
        self.out.map_or(Ok(()), |mut out| out.flush().map_err(|error| late_failed(&error)))
    }
}

fn late_failed(error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot write the file of late records: {error}"))
}

const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Late => "late",
        Reason::Future => "future",
        Reason::Malformed => "malformed",
        Reason::NoTime => "no_time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_short_as_they_are() {
        assert_eq!(time_cell(1_357_034_400_000), "2013-01-01T10:00:00Z");
        assert_eq!(time_cell(1_357_034_400_007), "2013-01-01T10:00:00.007Z");
        assert_eq!(time_cell(-1), "-1");
        assert_eq!(time_cell(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn cells_are_short() {
        assert_eq!(cell(&json!(17.483_552_631)), "17.484");
        assert_eq!(cell(&json!(100.0)), "100");
        assert_eq!(cell(&json!(100)), "100");
        assert_eq!(cell(&json!(null)), "-");
        assert_eq!(cell(&json!("x")), "x");
        assert_eq!(cell(&json!([1, 2])), "[1,2]");
    }
}
