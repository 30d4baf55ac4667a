//! The sections that name things: groups, aggregates, columns of a row, topics, limits.

use super::{
    DocumentError, aggregates,
    expression::{self, Names, ROW_PARTS, Scope},
    json::{At, Json, Members},
    limits, parsed,
    reading::length,
};
use crate::{
    TopicName,
    ids::StreamName,
    streams::plan::{Aggregate, Expr, GroupColumn, OutputColumn},
};

/// Names that every row has, so that no column of a stream may take them.
const RESERVED: [&str; 5] = ["window_start", "window_end", "rev", "final", "records"];
/// How long a closed window can be read and corrected, unless the document says it.
const RETAIN_MS: i64 = 600_000;
/// What a stream's state may take, unless the document says it.
const MEMORY_BYTES: usize = 256 << 20;
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A name that is not taken yet.
fn read_name<'a>(at: &At<'a>, mut taken: impl Iterator<Item = &'a String>) -> Result<String, DocumentError> {
    let name = at.string()?;
    if name.is_empty() || name.len() > limits::NAME_BYTES || name.chars().any(char::is_control) {
        return at.refuse(format!("a name has 1 to {} bytes and no control characters", limits::NAME_BYTES));
    }
    if RESERVED.contains(&name) {
        return at.refuse(format!("every row has a {name:?} of its own; choose another name"));
    }
    if taken.any(|known| known == name) {
        return at.refuse(format!("the name {name:?} is taken"));
    }
    Ok(name.to_owned())
}

fn at_most<'a>(at: &At<'a>, most: usize) -> Result<Vec<At<'a>>, DocumentError> {
    let items = at.items()?;
    if items.len() > most { at.refuse(format!("has {} items, at most {most}", items.len())) } else { Ok(items) }
}

/// The columns of the group, and their names.
pub(super) fn read_groups(at: Option<At<'_>>) -> Result<(Vec<GroupColumn>, Vec<String>), DocumentError> {
    let Some(at) = at else { return Ok((Vec::new(), Vec::new())) };
    if let Json::String(text) = at.json {
        return match text.as_str() {
            "record_key" => {
                let column = GroupColumn { name: "key".to_owned(), expr: Expr::Key };
                Ok((vec![column], vec!["key".to_owned()]))
            }
            _ => at.refuse("must be a list of columns, or \"record_key\""),
        };
    }
    let (mut group, mut names) = (Vec::new(), Vec::new());
    for item in at_most(&at, limits::GROUP_COLUMNS)? {
        let mut members = item.members()?;
        let name = read_name(&members.required("name")?, names.iter())?;
        let expr = expression::read(&members.required("value")?, Scope::Record)?;
        members.finish()?;
        names.push(name.clone());
        group.push(GroupColumn { name, expr });
    }
    Ok((group, names))
}

pub(super) fn write_groups(group: &[GroupColumn], names: &Names) -> Json {
    let column = |column: &GroupColumn| {
        Json::object([("name", Json::String(column.name.clone())), ("value", expression::write(&column.expr, names))])
    };
    Json::Array(group.iter().map(column).collect())
}

/// The aggregates, and the names of everything that a row has.
pub(super) fn read_aggregates(
    at: Option<At<'_>>,
    groups: Vec<String>,
) -> Result<(Vec<Aggregate>, Names), DocumentError> {
    let mut names = Names { groups, aggregates: Vec::new() };
    let mut found = Vec::new();
    for item in at.map_or(Ok(Vec::new()), |at| at_most(&at, limits::COLUMNS))? {
        let mut members = item.members()?;
        let name = read_name(&members.required("name")?, names.groups.iter().chain(&names.aggregates))?;
        found.push(aggregates::read(members)?);
        names.aggregates.push(name);
    }
    Ok((found, names))
}

pub(super) fn write_aggregates(aggregates: &[Aggregate], names: &Names) -> Json {
    let named = names.aggregates.iter().zip(aggregates);
    Json::Array(named.map(|(name, aggregate)| aggregates::write(name, aggregate, names)).collect())
}

/// The columns of a row; unless they are listed, the groups and then the aggregates.
pub(super) fn read_columns(at: Option<At<'_>>, names: &Names) -> Result<Vec<OutputColumn>, DocumentError> {
    let Some(at) = at else {
        let groups = names.groups.iter().enumerate().map(|(place, name)| (name, Expr::Group(place)));
        let aggregates = names.aggregates.iter().enumerate().map(|(place, name)| (name, Expr::Aggregate(place)));
        let column = |(name, expr): (&String, Expr)| OutputColumn { name: name.clone(), expr };
        return Ok(groups.chain(aggregates).map(column).collect());
    };
    let mut taken: Vec<String> = Vec::new();
    let mut columns = Vec::new();
    for item in at_most(&at, limits::COLUMNS)? {
        let (name, expr) = match item.json {
            Json::String(_) => {
                let json = Json::object([("column", item.json.clone())]);
                let expr = expression::read(&At { path: item.path.clone(), json: &json }, Scope::Row(names))?;
                (read_name(&item, taken.iter())?, expr)
            }
            _ => {
                let mut members: Members<'_> = item.members()?;
                let name = read_name(&members.required("name")?, taken.iter())?;
                let expr = expression::read(&members.required("value")?, Scope::Row(names))?;
                members.finish()?;
                (name, expr)
            }
        };
        taken.push(name.clone());
        columns.push(OutputColumn { name, expr });
    }
    Ok(columns)
}

pub(super) fn write_columns(columns: &[OutputColumn], names: &Names) -> Json {
    let column = |column: &OutputColumn| {
        let itself = names.find(&column.name).is_some_and(|part| part == column.expr);
        if itself && !ROW_PARTS.iter().any(|(_, part)| *part == column.expr) {
            return Json::String(column.name.clone());
        }
        Json::object([("name", Json::String(column.name.clone())), ("value", expression::write(&column.expr, names))])
    };
    Json::Array(columns.iter().map(column).collect())
}

/// Where rows go.
pub(super) struct Sink {
    pub(super) topic: TopicName,
    pub(super) late_topic: TopicName,
    pub(super) retain_ms: i64,
}

pub(super) fn read_output(at: Option<At<'_>>, name: &StreamName, input: &TopicName) -> Result<Sink, DocumentError> {
    let path = at.as_ref().map_or_else(|| "$.output".to_owned(), |at| at.path.clone());
    let mut members = at.as_ref().map(At::members).transpose()?;
    let mut member = |name| members.as_mut().and_then(|members| members.optional(name));
    let named = |at: Option<At<'_>>, default: String| match at {
        Some(at) => parsed(&at),
        None => default.parse().map_err(|error: crate::InvalidName| DocumentError::new("$.name", error.to_string())),
    };
    let topic: TopicName = named(member("topic"), name.as_str().to_owned())?;
    let late_topic: TopicName = named(member("late_topic"), format!("{name}.late"))?;
    let retain_ms = member("retain").map_or(Ok(RETAIN_MS), |at| length(&at, 0))?;
    members.map_or(Ok(()), Members::finish)?;
    for (member, topic) in [("topic", &topic), ("late_topic", &late_topic)] {
        if topic.is_internal() {
            return Err(DocumentError::new(&format!("{path}.{member}"), format!("{topic} is the brokers' own")));
        }
    }
    for (member, one, other) in
        [("topic", &topic, input), ("late_topic", &late_topic, input), ("late_topic", &late_topic, &topic)]
    {
        if one == other {
            let reason = format!("{one} is the stream's input or another of its outputs already");
            return Err(DocumentError::new(&format!("{path}.{member}"), reason));
        }
    }
    Ok(Sink { topic, late_topic, retain_ms })
}

pub(super) fn write_output(topic: &TopicName, late_topic: &TopicName, retain_ms: i64) -> Json {
    Json::object([
        ("topic", Json::String(topic.as_str().to_owned())),
        ("late_topic", Json::String(late_topic.as_str().to_owned())),
        ("retain", Json::String(super::format_duration(retain_ms))),
    ])
}

/// How much memory the state may take.
pub(super) fn read_limits(at: Option<At<'_>>) -> Result<usize, DocumentError> {
    let Some(at) = at else { return Ok(MEMORY_BYTES) };
    let mut members = at.members()?;
    let memory = members.optional("memory").map_or(Ok(MEMORY_BYTES), |at| read_size(&at))?;
    members.finish()?;
    Ok(memory)
}

fn read_size(at: &At<'_>) -> Result<usize, DocumentError> {
    let bytes = match at.json {
        Json::String(text) => {
            let unit = SIZES.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
            unit.and_then(|(number, unit)| number.trim_end().parse::<u64>().ok()?.checked_mul(*unit))
        }
        _ => Some(at.whole()?),
    };
    let (least, most) = limits::MEMORY_BYTES;
    let fits = bytes.filter(|bytes| (least..=most).contains(bytes)).and_then(|bytes| usize::try_from(bytes).ok());
    let reason = || format!("must be {} to {}, as a text like 256MiB or in bytes", size_text(least), size_text(most));
    fits.map_or_else(|| at.refuse(reason()), Ok)
}

/// A size in the largest unit that it is a whole number of.
pub(super) fn size_text(bytes: u64) -> String {
    let (name, unit) = SIZES.iter().find(|(_, unit)| bytes.is_multiple_of(*unit)).copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

pub(super) fn write_limits(memory: usize) -> Json {
    Json::object([("memory", Json::String(size_text(memory as u64)))])
}
