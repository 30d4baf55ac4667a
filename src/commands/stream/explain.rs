//! `pubg1 stream explain`: what a query does, and its document.

use pubg1_model::streams::document::StreamDocument;
use serde_json::{Value, json};

use super::QueryArgs;
use crate::{error::CommandError, terminal::Terminal};

/// Prints the explanation.
///
/// # Errors
/// The query's.
pub(super) fn run(terminal: Terminal, args: &QueryArgs) -> Result<(), CommandError> {
    let document = args.document()?;
    let as_value: Value = serde_json::from_str(&document.canonical())
        .map_err(|error| CommandError::Failed(format!("the document cannot be read back: {error}")))?;
    let lines: Vec<Value> = document.explain().into_iter().map(|(word, text)| json!([word, text])).collect();
    let answer = json!({ "fingerprint": document.fingerprint(), "document": as_value, "explanation": lines });
    terminal.print(&answer, |_| text(&document))
}

/// The explanation in two columns, and the document.
fn text(document: &StreamDocument) -> String {
    let lines = document.explain();
    let width = lines.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    let lines: Vec<String> = lines.iter().map(|(word, text)| format!("{word:width$}  {text}")).collect();
    format!("{}\n\n{}", lines.join("\n"), document.pretty())
}
