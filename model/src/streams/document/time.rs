//! The section `time`: what time a record has, and how long it is waited for.

use super::{
    DocumentError,
    duration::format_duration,
    expression,
    json::{At, Json},
    reading::{length, length_or_none, one_of},
};
use crate::streams::plan::{TimeFormat, TimeRule, TimeSource};

pub(super) const FORMATS: [(&str, TimeFormat); 6] = [
    ("auto", TimeFormat::Auto),
    ("seconds", TimeFormat::Seconds),
    ("millis", TimeFormat::Millis),
    ("micros", TimeFormat::Micros),
    ("nanos", TimeFormat::Nanos),
    ("rfc3339", TimeFormat::Rfc3339),
];

pub(super) fn read_time(at: Option<At<'_>>) -> Result<TimeRule, DocumentError> {
    let mut rule = TimeRule::default();
    let Some(at) = at else { return Ok(rule) };
    let mut members = at.members()?;
    if let Some(source) = members.optional("source") {
        rule.source = read_source(&source)?;
    }
    if let Some(at) = members.optional("max_out_of_order") {
        rule.max_out_of_order_ms = length(&at, 0)?;
    }
    if let Some(at) = members.optional("allowed_lateness") {
        rule.allowed_lateness_ms = length(&at, 0)?;
    }
    for (name, place) in [
        ("max_future", &mut rule.max_future_ms),
        ("idle_timeout", &mut rule.idle_timeout_ms),
        ("max_skew", &mut rule.max_skew_ms),
    ] {
        if let Some(at) = members.optional(name) {
            *place = length_or_none(&at)?;
        }
    }
    members.finish()?;
    Ok(rule)
}

fn read_source(at: &At<'_>) -> Result<TimeSource, DocumentError> {
    if let Json::String(_) = at.json {
        let known = [("record_time", TimeSource::RecordTime), ("append_time", TimeSource::AppendTime)];
        let given = at.string()?;
        let found = known.iter().find(|(name, _)| *name == given).map(|(_, source)| source.clone());
        let hint = "write \"record_time\", \"append_time\", or {\"field\": \"name\"}";
        return found.map_or_else(|| at.refuse(format!("there is no time {given:?}; {hint}")), Ok);
    }
    let mut members = at.members()?;
    let path = expression::read_field(&members.required("field")?)?;
    let format = members.optional("format").map_or(Ok(TimeFormat::Auto), |at| one_of(&at, "format", FORMATS))?;
    members.finish()?;
    Ok(TimeSource::Field { path, format })
}

pub(super) fn write_time(rule: &TimeRule) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    let length = |ms: i64| Json::String(format_duration(ms));
    let or_none = |ms: Option<i64>| ms.map_or_else(|| text("none"), length);
    let source = match &rule.source {
        TimeSource::RecordTime => text("record_time"),
        TimeSource::AppendTime => text("append_time"),
        TimeSource::Field { path, format } => Json::object([
            ("field", expression::write_field(path)),
            ("format", text(FORMATS.iter().find(|(_, known)| known == format).map_or("", |(name, _)| name))),
        ]),
    };
    Json::object([
        ("source", source),
        ("max_out_of_order", length(rule.max_out_of_order_ms)),
        ("allowed_lateness", length(rule.allowed_lateness_ms)),
        ("idle_timeout", or_none(rule.idle_timeout_ms)),
        ("max_future", or_none(rule.max_future_ms)),
        ("max_skew", or_none(rule.max_skew_ms)),
    ])
}
