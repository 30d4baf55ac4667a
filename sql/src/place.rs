//! Where things stand in the text, and errors that say so.

use pubg1_model::streams::document::DocumentError;
use sqlparser::{
    ast::{Expr, Spanned},
    tokenizer::Location,
};

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}{}", hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})")))]
pub struct SqlError {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl SqlError {
    /// A complaint about a place.
    pub(crate) fn new(at: Location, message: impl Into<String>) -> Self {
        Self { line: at.line.max(1), column: at.column.max(1), message: message.into(), hint: None }
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The beginning of an expression.
pub(crate) fn start_of(expr: &Expr) -> Location {
    // Down the left side by hand: a chain of operators may be long.
    let mut leftmost = expr;
    loop {
        leftmost = match leftmost {
            Expr::BinaryOp { left, .. } => left,
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => inner,
            Expr::Between { expr, .. } | Expr::Like { expr, .. } | Expr::ILike { expr, .. } | Expr::In { expr, .. } => {
                expr
            }
            Expr::Nested(inner) => inner,
            other => return other.span().start,
        };
    }
}

/// Which part of a document came from where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<(String, Location)>);

impl Places {
    /// Notes that what is at `path` came from `at`.
    pub(crate) fn note(&mut self, path: &str, at: Location) {
        if at.line > 0 {
            self.0.push((path.to_owned(), at));
        }
    }

    /// The document's complaint at its place in the text: that of the part which shares most of its path.
    pub(crate) fn refusal(&self, error: &DocumentError) -> SqlError {
        let steps =
            |path: &str| path.split(['.', '[', ']']).filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let wanted = steps(&error.path);
        let shared = |path: &str| steps(path).iter().zip(&wanted).take_while(|(own, wanted)| own == wanted).count();
        // Of two that share as much, the shorter one is around the place, the longer one beside it.
        let nearest = self.0.iter().max_by_key(|(path, _)| (shared(path), std::cmp::Reverse(path.len())));
        let at = nearest.filter(|(path, _)| shared(path) > 1).map_or(Location::new(1, 1), |(_, at)| *at);
        SqlError::new(at, error.reason.clone()).hint(format!("in the document: {}", error.path))
    }
}
