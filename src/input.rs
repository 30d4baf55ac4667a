//! Records from a file or from standard input: lines, NDJSON, or CSV with a header.

pub mod timestamp;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    thread,
};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::error::CommandError;

/// Records that travel together from the reading thread.
const CHUNK_RECORDS: usize = 512;
/// The longest line that is read; a broker takes no batch of this size.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// How records are separated and what they look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InputFormat {
    /// Every line is a value, as it is.
    Lines,
    /// Every line is a JSON document; empty lines are skipped.
    Ndjson,
    /// The first row names the columns, every other row becomes a JSON object.
    Csv,
}

impl InputFormat {
    /// What the file's name says; lines when it says nothing. `.gz` at the end is looked through.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit('.').next() {
            Some("csv") => Self::Csv,
            Some("ndjson" | "jsonl" | "json") => Self::Ndjson,
            _ => Self::Lines,
        }
    }
}

/// What makes a record of a line.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// What lines look like.
    pub format: InputFormat,
    /// The field or column whose value becomes the key.
    pub key_field: Option<String>,
    /// What separates key and value of a line.
    pub key_separator: Option<String>,
    /// The field or column that holds the time.
    pub timestamp_field: Option<String>,
    /// CSV: numbers, `true` and `false` become JSON's, empty cells `null`.
    pub infer_types: bool,
    /// NDJSON: a line that is no JSON, or lacks the key or a time, is a record without them instead of an error.
    pub keep_broken: bool,
}

/// A record of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRecord {
    /// Its position in the input, from 0.
    pub position: u64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Vec<u8>,
    /// Milliseconds since 1970, when the input says so.
    pub timestamp_ms: Option<i64>,
}

/// What a reading thread sends: records, or the error that ended it.
pub type Chunk = Result<Vec<InputRecord>, CommandError>;

/// Starts a thread that reads the file, or standard input when there is none. It ends with the
/// input, after an error, or when the receiver is gone.
///
/// # Errors
/// [`CommandError::File`] when the file cannot be opened.
pub fn start(path: Option<&Path>, options: InputOptions) -> Result<mpsc::Receiver<Chunk>, CommandError> {
    let source: Box<dyn Read + Send> = match path {
        Some(path) => Box::new(File::open(path).map_err(|source| CommandError::File {
            action: "open",
            path: path.to_owned(),
            source,
        })?),
        None => Box::new(io::stdin()),
    };
    let (sender, receiver) = mpsc::channel(8);
    let spawned = thread::Builder::new().name("input".to_owned()).spawn(move || {
        let send = sender.clone();
        if let Err(error) = read(source, &options, &mut |chunk| send.blocking_send(Ok(chunk)).is_ok()) {
            // A receiver that is gone has no use for the error.
            let _closed = sender.blocking_send(Err(error));
        }
    });
    spawned.map_err(|error| CommandError::Failed(format!("cannot start a thread for the input: {error}")))?;
    Ok(receiver)
}

/// Reads everything, in chunks, until `take` says that it wants no more.
///
/// # Errors
/// [`CommandError::Input`] with the record that breaks the format.
pub fn read(
    source: impl Read,
    options: &InputOptions,
    take: &mut dyn FnMut(Vec<InputRecord>) -> bool,
) -> Result<(), CommandError> {
    let mut plain = BufReader::with_capacity(READ_BUFFER_BYTES, source);
    let magic = plain.fill_buf().map_err(|error| broken(0, &error))?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = BufReader::with_capacity(READ_BUFFER_BYTES, MultiGzDecoder::new(plain));
        return read_plain(&mut unpacked, options, take);
    }
    read_plain(&mut plain, options, take)
}

fn broken(record: u64, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Input { record, reason: error.to_string() }
}

fn read_plain<R: Read>(
    source: &mut BufReader<R>,
    options: &InputOptions,
    take: &mut dyn FnMut(Vec<InputRecord>) -> bool,
) -> Result<(), CommandError> {
    match options.format {
        InputFormat::Csv => read_csv(source, options, take),
        InputFormat::Lines | InputFormat::Ndjson => read_lines(source, options, take),
    }
}

fn read_lines<R: Read>(
    source: &mut BufReader<R>,
    options: &InputOptions,
    take: &mut dyn FnMut(Vec<InputRecord>) -> bool,
) -> Result<(), CommandError> {
    let mut chunk = Vec::new();
    let mut line = Vec::new();
    let mut position = 0;
    loop {
        line.clear();
        let read =
            source.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(|error| broken(position, &error))?;
        let terminated = line.last() == Some(&b'\n');
        if !terminated && read as u64 == LINE_BYTES_MAX {
            return Err(broken(position, &format!("the line is longer than {LINE_BYTES_MAX} bytes")));
        }
        if terminated {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        let blank = options.format == InputFormat::Ndjson && line.trim_ascii().is_empty();
        if read > 0 && !blank {
            chunk.push(record_of_line(&line, position, options)?);
            position += 1;
        }
        // What is there is passed on before waiting for more, so that typed lines go out at once.
        let waits = read == 0 || source.buffer().is_empty();
        if !chunk.is_empty() && (waits || chunk.len() >= CHUNK_RECORDS) && !take(std::mem::take(&mut chunk)) {
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn record_of_line(line: &[u8], position: u64, options: &InputOptions) -> Result<InputRecord, CommandError> {
    if options.format == InputFormat::Ndjson {
        let (key, timestamp_ms) = described_line(line, position, options)?;
        return Ok(InputRecord { position, key, value: line.trim_ascii().to_vec(), timestamp_ms });
    }
    let separator = options.key_separator.as_deref().filter(|separator| !separator.is_empty()).map(str::as_bytes);
    let split = separator.and_then(|s| Some((line.windows(s.len()).position(|window| window == s)?, s.len())));
    Ok(match split {
        Some((at, length)) => InputRecord {
            position,
            key: Some(line[..at].to_vec()),
            value: line[at + length..].to_vec(),
            timestamp_ms: None,
        },
        None => InputRecord { position, key: None, value: line.to_vec(), timestamp_ms: None },
    })
}

/// Key and time of a line of NDJSON.
fn described_line(
    line: &[u8],
    position: u64,
    options: &InputOptions,
) -> Result<(Option<Vec<u8>>, Option<i64>), CommandError> {
    if options.keep_broken && options.key_field.is_none() && options.timestamp_field.is_none() {
        return Ok((None, None));
    }
    let document: Result<Value, _> = serde_json::from_slice(line);
    if !options.keep_broken {
        return described(&document.map_err(|error| broken(position, &error))?, position, options);
    }
    let document = document.unwrap_or_default();
    let key = options.key_field.as_deref().and_then(|name| key_of(document.get(name)?));
    let time = options.timestamp_field.as_deref().and_then(|name| document.get(name));
    Ok((key, time.and_then(|value| timestamp::of_json(value).ok().flatten())))
}

/// The key that a field's value makes.
fn key_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

/// Key and time that a document holds in its fields.
fn described(
    document: &Value,
    position: u64,
    options: &InputOptions,
) -> Result<(Option<Vec<u8>>, Option<i64>), CommandError> {
    let key = match options.key_field.as_deref().map(|name| (name, document.get(name))) {
        None => None,
        Some((_, Some(value))) => key_of(value),
        Some((name, None)) => return Err(broken(position, &format!("there is no field {name:?} for the key"))),
    };
    let Some(name) = options.timestamp_field.as_deref() else { return Ok((key, None)) };
    let value =
        document.get(name).ok_or_else(|| broken(position, &format!("there is no field {name:?} for the timestamp")))?;
    let timestamp_ms = timestamp::of_json(value).map_err(|reason| broken(position, &format!("{name}: {reason}")))?;
    Ok((key, timestamp_ms))
}

fn read_csv<R: Read>(
    source: &mut BufReader<R>,
    options: &InputOptions,
    take: &mut dyn FnMut(Vec<InputRecord>) -> bool,
) -> Result<(), CommandError> {
    let mut reader = csv::ReaderBuilder::new().from_reader(source);
    let columns = reader.headers().map_err(|error| broken(0, &error))?.clone();
    for name in [&options.key_field, &options.timestamp_field].into_iter().flatten() {
        if !columns.iter().any(|column| column == name) {
            let known: Vec<&str> = columns.iter().collect();
            return Err(CommandError::Usage(format!("there is no column {name:?}; there are {}", known.join(", "))));
        }
    }
    let mut chunk = Vec::new();
    for (position, row) in (0..).zip(reader.records()) {
        let row = row.map_err(|error| broken(position, &error))?;
        let cells = columns.iter().zip(row.iter());
        let object: Map<String, Value> =
            cells.map(|(column, cell)| (column.to_owned(), cell_value(cell, options.infer_types))).collect();
        let object = Value::Object(object);
        let (key, timestamp_ms) = described(&object, position, options)?;
        let value = csv_object(&columns, &row, options.infer_types).into_bytes();
        chunk.push(InputRecord { position, key, value, timestamp_ms });
        if chunk.len() >= CHUNK_RECORDS && !take(std::mem::take(&mut chunk)) {
            return Ok(());
        }
    }
    if !chunk.is_empty() {
        take(chunk);
    }
    Ok(())
}

fn cell_value(cell: &str, infer_types: bool) -> Value {
    if !infer_types {
        return Value::String(cell.to_owned());
    }
    match cell {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        // Only numbers that JSON writes the same way: `007` and `1e999` stay text.
        _ => serde_json::from_str(cell)
            .ok()
            .filter(|value: &Value| value.is_number() && written_alike(value, cell))
            .unwrap_or_else(|| Value::String(cell.to_owned())),
    }
}

fn written_alike(value: &Value, cell: &str) -> bool {
    let written = value.to_string();
    written == cell
}

/// A row as an object, its members in the order of the columns.
fn csv_object(columns: &csv::StringRecord, row: &csv::StringRecord, infer_types: bool) -> String {
    let mut out = String::with_capacity(columns.as_slice().len() + row.as_slice().len() + 8 * columns.len() + 2);
    out.push('{');
    for (index, (column, cell)) in columns.iter().zip(row.iter()).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&Value::from(column).to_string());
        out.push(':');
        out.push_str(&cell_value(cell, infer_types).to_string());
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests;
