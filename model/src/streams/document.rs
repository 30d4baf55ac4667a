//! The declaration of a stream: a versioned JSON document. It is what is stored, shown, compared and hashed; SQL is
//! compiled to it.
//!
//! [`StreamDocument::parse`] reads one and refuses what it does not know: every complaint names the path of the
//! place, as in `$.aggregates[2].of`. What was read is a [`Plan`] that can be executed, and what surrounds it: topics,
//! where to start and to stop. [`StreamDocument::canonical`] writes the one text that all spellings of a stream
//! share, defaults included.

mod aggregates;
mod bounds;
mod columns;
mod duration;
mod explain;
mod expression;
mod json;
pub mod limits;
mod operators;
mod reading;
mod rows;
mod time;
mod window;

use serde::de::Deserialize;
use uuid::Uuid;

pub use bounds::{OnGap, Start, Stop};
pub use duration::{format_duration, parse_duration};
pub use operators::function_names;

use super::plan::{BinaryOp, Expr, Plan, Stages, Top, UnaryOp};
use crate::{
    TopicName,
    ids::{InvalidName, StreamName},
};
use expression::{Names, Scope};
use json::{At, Json};

/// The version of the documents that are understood.
pub const VERSION: u64 = 1;
/// What the fingerprints of documents are made in.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f0d_5f0a_6f0b_4c0d_9d5e_2b7a_51c3_e604);

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DocumentError {
    /// The place, from the document's root `$`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl DocumentError {
    fn new(path: &str, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// A stream, as it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamDocument {
    /// What it is called.
    pub name: StreamName,
    /// The topic that it reads.
    pub input: TopicName,
    /// The topic of its rows.
    pub output: TopicName,
    /// The topic of the records that are in no window, with the reason.
    pub late_output: TopicName,
    /// Where it begins to read.
    pub start: Start,
    /// Where it ends.
    pub stop: Stop,
    /// What it does when records were deleted before it read them.
    pub on_gap: OnGap,
    /// What it computes.
    pub plan: Plan,
    /// The names of the plan's groups and aggregates, by which rows are spoken of.
    names: Names,
}

impl StreamDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > limits::TEXT_BYTES {
            return Err(DocumentError::new("$", format!("is longer than {} bytes", limits::TEXT_BYTES)));
        }
        let mut source = serde_json::Deserializer::from_slice(text);
        let json = Json::deserialize(&mut source).and_then(|json| source.end().map(|()| json));
        let json = json.map_err(|error| DocumentError::new("$", format!("is not JSON: {error}")))?;
        Self::read(&json)
    }

    /// Reads a document that has been parsed already.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, DocumentError> {
        Self::read(&Json::from(value))
    }

    fn read(json: &Json) -> Result<Self, DocumentError> {
        let root = At::root(json);
        let mut members = root.members()?;
        let version = members.required("version")?;
        if version.whole()? != VERSION {
            return version.refuse(format!("must be {VERSION}; no other version of the document is known"));
        }
        let name: StreamName = parsed(&members.required("name")?)?;
        let input = members.required("input")?;
        let (topic, filter) = read_input(&input)?;
        let window = window::read_window(&members.required("window")?)?;
        let time = time::read_time(members.optional("time"))?;
        let (group, group_names) = columns::read_groups(members.optional("group_by"))?;
        let (aggregates, names) = columns::read_aggregates(members.optional("aggregates"), group_names)?;
        let output = columns::read_columns(members.optional("columns"), &names)?;
        let row = |at: At<'_>| expression::read(&at, Scope::Row(&names));
        let having = members.optional("having").map(row).transpose()?;
        let top = members.optional("top").map(|at| rows::read_top_rows(&at, &names, &window)).transpose()?;
        let emit = rows::read_emit(members.optional("emit"))?;
        let fill = rows::read_fill(members.optional("fill"), &window)?;
        let sink = columns::read_output(members.optional("output"), &name, &topic)?;
        let memory_max_bytes = columns::read_limits(members.optional("limits"))?;
        let start = bounds::read_start(members.optional("start"))?;
        let stop = bounds::read_stop(members.optional("stop"))?;
        let on_gap = bounds::read_on_gap(members.optional("on_gap"))?;
        members.finish()?;
        let stages = stages(filter.as_ref(), group.iter().map(|column| &column.expr), top.as_ref());
        let retain_ms = sink.retain_ms;
        let plan = Plan {
            window,
            time,
            filter,
            group,
            aggregates,
            output,
            having,
            top,
            emit,
            fill,
            retain_ms,
            stages,
            memory_max_bytes,
        };
        plan.check().map_err(|error| DocumentError::new(&format!("$.{}", error.part), error.problem))?;
        let (output, late_output) = (sink.topic, sink.late_topic);
        let document = Self { name, input: topic, output, late_output, start, stop, on_gap, plan, names };
        // The canonical text, which says all defaults, is what is kept.
        let bytes = document.canonical().len();
        if bytes > limits::DOCUMENT_BYTES {
            let most = limits::DOCUMENT_BYTES;
            return Err(DocumentError::new("$", format!("is {bytes} bytes in its canonical form, at most {most}")));
        }
        Ok(document)
    }

    /// The one text of this stream, without white space. Two documents are the same declaration when these are equal.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.json().compact()
    }

    /// The canonical document with line ends, for people.
    #[must_use]
    pub fn pretty(&self) -> String {
        self.json().pretty()
    }

    /// A number that stands for the canonical text.
    #[must_use]
    pub fn fingerprint(&self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, self.canonical().as_bytes())
    }

    /// The document, everything spelled out, in the order in which [`StreamDocument::read`] asks.
    fn json(&self) -> Json {
        let text = |text: &str| Json::String(text.to_owned());
        let plan = &self.plan;
        let mut input = vec![("topic", text(self.input.as_str()))];
        input.extend(plan.filter.iter().map(|filter| ("where", expression::write(filter, &self.names))));
        let mut members = vec![
            ("version", Json::Number(VERSION.into())),
            ("name", text(self.name.as_str())),
            ("input", Json::object(input)),
            ("window", window::write_window(&plan.window)),
            ("time", time::write_time(&plan.time)),
            ("group_by", columns::write_groups(&plan.group, &self.names)),
            ("aggregates", columns::write_aggregates(&plan.aggregates, &self.names)),
            ("columns", columns::write_columns(&plan.output, &self.names)),
        ];
        members.extend(plan.having.iter().map(|having| ("having", expression::write(having, &self.names))));
        members.extend(plan.top.iter().map(|top| ("top", rows::write_top(top, &self.names))));
        members.extend([
            ("emit", rows::write_emit(plan.emit)),
            ("fill", rows::write_fill(plan.fill)),
            ("output", columns::write_output(&self.output, &self.late_output, plan.retain_ms)),
            ("limits", columns::write_limits(plan.memory_max_bytes)),
            ("start", bounds::write_start(&self.start)),
            ("stop", bounds::write_stop(self.stop)),
            ("on_gap", bounds::write_on_gap(self.on_gap)),
        ]);
        Json::object(members)
    }
}

/// A name of some kind.
fn parsed<T: std::str::FromStr<Err = InvalidName>>(at: &At<'_>) -> Result<T, DocumentError> {
    at.string()?.parse().or_else(|error: InvalidName| at.refuse(error.to_string()))
}

fn read_input(at: &At<'_>) -> Result<(TopicName, Option<Expr>), DocumentError> {
    let mut members = at.members()?;
    let topic = parsed(&members.required("topic")?)?;
    let filter = members.optional("where").map(|at| expression::read(&at, Scope::Record)).transpose()?;
    members.finish()?;
    Ok((topic, filter))
}

/// Whether the partitions' results have to meet. A key stays in its partition, so a group that contains it needs no
/// second stage; but records without a key are anywhere, so they must have been left out. The first rows of a window
/// are chosen from all partitions'.
fn stages<'a>(filter: Option<&Expr>, mut group: impl Iterator<Item = &'a Expr>, top: Option<&Top>) -> Stages {
    if top.is_none() && group.any(|expr| *expr == Expr::Key) && filter.is_some_and(requires_key) {
        return Stages::PerPartition;
    }
    Stages::Merged
}

fn requires_key(filter: &Expr) -> bool {
    match filter {
        Expr::Binary(BinaryOp::And, left, right) => requires_key(left) || requires_key(right),
        Expr::Unary(UnaryOp::Not, inner) => matches!(&**inner, Expr::IsNull(value) if **value == Expr::Key),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
