//! Where a query comes from: the command line or a file, SQL or a document.

use std::{fs, path::PathBuf};

use clap::Args;
use pubg1_model::{StreamName, streams::document::StreamDocument};

use crate::error::CommandError;

/// What a SELECT without CREATE is called.
const DEFAULT_NAME: &str = "query";

/// The query, in one of two ways.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct QueryArgs {
    /// The query: a SELECT, or CREATE MATERIALIZED VIEW … AS SELECT
    #[arg(long, value_name = "TEXT")]
    pub sql: Option<String>,
    /// A file with the query: SQL, or a JSON document
    #[arg(long, value_name = "FILE")]
    pub query: Option<PathBuf>,
}

impl QueryArgs {
    /// The document that the query is, or is compiled to.
    ///
    /// # Errors
    /// [`CommandError::File`] when the file cannot be read, [`CommandError::Usage`] when the query is refused.
    pub fn document(&self) -> Result<StreamDocument, CommandError> {
        let (source, text) = self.text()?;
        document_of(&source, &text, Some(DEFAULT_NAME))
    }

    /// The same, for a stream that must have a name: that of the view or of the document, else this one.
    ///
    /// # Errors
    /// As [`QueryArgs::document`].
    pub fn named_document(&self, name: Option<&StreamName>) -> Result<StreamDocument, CommandError> {
        let (source, text) = self.text()?;
        let document = document_of(&source, &text, name.map(StreamName::as_str))?;
        match name.filter(|name| **name != document.name) {
            None => Ok(document),
            Some(name) => {
                let message = format!("{source} calls the stream {}, --name calls it {name}", document.name);
                Err(CommandError::Usage(message))
            }
        }
    }

    /// Where the query comes from, and the query.
    fn text(&self) -> Result<(String, String), CommandError> {
        Ok(match (&self.sql, &self.query) {
            (Some(text), _) => ("the query".to_owned(), text.clone()),
            (None, Some(path)) => {
                let read = fs::read_to_string(path);
                let text = read.map_err(|source| CommandError::File { action: "read", path: path.clone(), source })?;
                (path.display().to_string(), text)
            }
            (None, None) => return Err(CommandError::Usage("say --sql or --query".to_owned())),
        })
    }
}

fn document_of(source: &str, text: &str, name: Option<&str>) -> Result<StreamDocument, CommandError> {
    if text.trim_start().starts_with('{') {
        let document = StreamDocument::parse(text.as_bytes());
        return document.map_err(|error| CommandError::Usage(format!("{source}: {error}")));
    }
    let compiled = match name {
        Some(name) => pubg1_sql::compile(text, name),
        None => pubg1_sql::compile_view(text),
    };
    compiled.map_err(|error| {
        let line = usize::try_from(error.line).ok().and_then(|line| text.split('\n').nth(line.saturating_sub(1)));
        let column = usize::try_from(error.column).unwrap_or(1).saturating_sub(1);
        let shown = line.map_or_else(String::new, |line| format!("\n  {line}\n  {}^", " ".repeat(column)));
        CommandError::Usage(format!("{source}:{error}{shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECT: &str = "SELECT COUNT(*) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start";

    #[test]
    fn sql_and_documents_are_told_apart() {
        let sql = document_of("q", SELECT, Some("query")).unwrap();
        let json = document_of("q", &format!(" \n{}", sql.pretty()), None).unwrap();
        assert_eq!(sql, json);
    }

    #[test]
    fn a_stream_has_one_name() {
        let of = |sql: &str, name: Option<&str>| {
            let args = QueryArgs { sql: Some(sql.to_owned()), query: None };
            args.named_document(name.map(|name| name.parse().unwrap()).as_ref())
        };
        let view = format!("CREATE MATERIALIZED VIEW v AS {SELECT}");
        assert_eq!(of(SELECT, Some("s")).unwrap().name.as_str(), "s");
        assert_eq!(of(&view, None).unwrap().name.as_str(), "v");
        assert_eq!(of(&view, Some("v")).unwrap().name.as_str(), "v");
        for refused in [of(SELECT, None), of(&view, Some("s"))] {
            assert_eq!(refused.unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_refusal_shows_the_place() {
        let error = document_of("q.sql", "SELECT a\nFROM nowhere(b)", Some("q")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.starts_with("q.sql:2:6: NOWHERE is no window"), "{text}");
        assert!(text.ends_with("\n  FROM nowhere(b)\n       ^"), "{text}");
        let error = document_of("q.json", "{\"version\": 3}", None).unwrap_err().to_string();
        assert!(error.starts_with("q.json: $.version: "), "{error}");
    }
}
