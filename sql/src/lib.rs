//! The small SQL that declares streams. It is compiled to the JSON document of a stream, which is the truth; nothing
//! can be said here that cannot be said there.
//!
//! ```sql
//! CREATE MATERIALIZED VIEW late_by_origin WITH (max_out_of_order = '10m') AS
//! SELECT origin, window_start, COUNT(*) AS n, AVG(dep_delay) AS delay
//! FROM TUMBLE(flights, ts, INTERVAL '1' HOUR)
//! WHERE dest <> 'LAX'
//! GROUP BY origin, window_start
//! ```
//!
//! What is not supported is refused with its line and column. So is what the document refuses: every part of it
//! remembers which part of the text it came from.

mod aggregates;
mod expression;
mod functions;
mod interval;
mod options;
mod place;
mod select;
mod source;
mod statement;

use std::thread;

use pubg1_model::streams::document::StreamDocument;
use sqlparser::tokenizer::Location;

pub use place::SqlError;

/// The longest text that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The most words, numbers and signs that it may consist of. The parser's trees are as deep as a chain of operators
/// is long, and are walked recursively.
pub const TOKENS_MAX: usize = 2_000;

/// What a query is called while everything else about it is judged.
const UNNAMED: &str = "unnamed";

/// The stack of the thread that compiles. The parser recurses up to 50 deep with large frames: more than the usual
/// 2 MiB in an unoptimised build.
const STACK_BYTES: usize = 16 << 20;

/// The document of a `SELECT` or of a `CREATE MATERIALIZED VIEW … AS SELECT`. The name of the former is
/// `default_name`.
///
/// # Errors
/// What is not understood or not supported, and where.
pub fn compile(text: &str, default_name: &str) -> Result<StreamDocument, SqlError> {
    compile_aside(text, Some(default_name))
}

/// The document of a `CREATE MATERIALIZED VIEW … AS SELECT`: a `SELECT` that nobody has named is refused.
///
/// # Errors
/// As [`compile`].
pub fn compile_view(text: &str) -> Result<StreamDocument, SqlError> {
    compile_aside(text, None)
}

/// Compiles on a thread with a stack that is large enough.
fn compile_aside(text: &str, default_name: Option<&str>) -> Result<StreamDocument, SqlError> {
    let failed = || SqlError::new(Location::new(1, 1), "no thread could be started that compiles");
    thread::scope(|scope| {
        let compiler = thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
        let compiler = compiler.spawn_scoped(scope, || compile_here(text, default_name)).map_err(|_| failed())?;
        compiler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn compile_here(text: &str, default_name: Option<&str>) -> Result<StreamDocument, SqlError> {
    let statement = statement::read(text)?;
    let (document, places) = select::document(&statement, default_name.unwrap_or(UNNAMED))?;
    let document = StreamDocument::from_value(&document).map_err(|error| places.refusal(&error))?;
    if statement.name.is_none() && default_name.is_none() {
        let error = SqlError::new(Location::new(1, 1), "the query has no name");
        return Err(error.hint("CREATE MATERIALIZED VIEW name AS SELECT …"));
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
