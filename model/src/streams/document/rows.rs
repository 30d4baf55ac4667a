//! The sections about rows: `emit`, `fill` and `top`.

use super::{
    DocumentError,
    aggregates::read_top,
    duration::format_duration,
    expression::{self, Names, Scope},
    json::{At, Json},
    limits,
    reading::{length, one_of},
};
use crate::streams::plan::{Emit, Fill, OrderBy, Top, Window};

/// The default of how often changed rows come out.
const UPDATE_INTERVAL_MS: i64 = 1_000;
/// The default of how long a group without records is filled up.
const FORGET_AFTER_MS: i64 = 86_400_000;

/// When rows come out.
pub(super) fn read_emit(at: Option<At<'_>>) -> Result<Emit, DocumentError> {
    let Some(at) = at else { return Ok(Emit::Final) };
    let (mode, interval) = match at.json {
        Json::String(_) => (at.clone(), None),
        _ => {
            let mut members = at.members()?;
            let parts = (members.required("mode")?, members.optional("interval"));
            members.finish()?;
            parts
        }
    };
    let ms = interval.as_ref().map(|at| length(at, limits::UPDATE_INTERVAL_MIN_MS)).transpose()?;
    let interval_ms = ms.unwrap_or(UPDATE_INTERVAL_MS);
    let emit = one_of(
        &mode,
        "mode",
        [
            ("final", Emit::Final),
            ("updates", Emit::Updates { interval_ms }),
            ("final+updates", Emit::FinalAndUpdates { interval_ms }),
        ],
    )?;
    if let (Emit::Final, Some(interval)) = (emit, &interval) {
        return interval.refuse("final rows come out when their window closes; only updates have an interval");
    }
    Ok(emit)
}

pub(super) fn write_emit(emit: Emit) -> Json {
    let (mode, interval) = match emit {
        Emit::Final => ("final", None),
        Emit::Updates { interval_ms } => ("updates", Some(interval_ms)),
        Emit::FinalAndUpdates { interval_ms } => ("final+updates", Some(interval_ms)),
    };
    let mut members = vec![("mode", Json::String(mode.to_owned()))];
    members.extend(interval.map(|ms| ("interval", Json::String(format_duration(ms)))));
    Json::object(members)
}

/// Rows for windows without records.
pub(super) fn read_fill(at: Option<At<'_>>, window: &Window) -> Result<Option<Fill>, DocumentError> {
    let Some(at) = at else { return Ok(None) };
    let (mode, forget) = match at.json {
        Json::String(_) => (at.clone(), None),
        _ => {
            let mut members = at.members()?;
            let parts = (members.required("mode")?, members.optional("forget_after"));
            members.finish()?;
            parts
        }
    };
    let forget_after_ms = forget.as_ref().map_or(Ok(FORGET_AFTER_MS), |at| length(at, 0))?;
    let fill = one_of(&mode, "mode", [("none", None), ("zero", Some(Fill { forget_after_ms }))])?;
    match (&fill, forget) {
        (None, Some(forget)) => forget.refuse("says nothing without \"mode\": \"zero\""),
        (Some(_), _) if window.is_session() => at.refuse("a session without records does not exist"),
        _ => Ok(fill),
    }
}

pub(super) fn write_fill(fill: Option<Fill>) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    match fill {
        None => Json::object([("mode", text("none"))]),
        Some(fill) => Json::object([
            ("mode", text("zero")),
            ("forget_after", Json::String(format_duration(fill.forget_after_ms))),
        ]),
    }
}

pub(super) fn read_top_rows(at: &At<'_>, names: &Names, window: &Window) -> Result<Top, DocumentError> {
    if window.is_session() {
        return at.refuse("every session is a window of its own, so there is nothing to choose from");
    }
    let mut members = at.members()?;
    let limit = read_top(&members.required("limit")?)?;
    let by = members.required("by")?;
    members.finish()?;
    let keys = by.items()?;
    if keys.is_empty() || keys.len() > limits::ORDER_KEYS {
        return by.refuse(format!("must have 1 to {} keys", limits::ORDER_KEYS));
    }
    let mut order = Vec::with_capacity(keys.len());
    for key in keys {
        let mut members = key.members()?;
        let expr = expression::read(&members.required("value")?, Scope::Row(names))?;
        let direction = members.optional("order");
        members.finish()?;
        let known = [("ascending", false), ("descending", true)];
        let descending = direction.map_or(Ok(true), |at| one_of(&at, "order", known))?;
        order.push(OrderBy { expr, descending });
    }
    Ok(Top { order, limit })
}

pub(super) fn write_top(top: &Top, names: &Names) -> Json {
    let key = |key: &OrderBy| {
        let order = if key.descending { "descending" } else { "ascending" };
        Json::object([("value", expression::write(&key.expr, names)), ("order", Json::String(order.to_owned()))])
    };
    Json::object([("limit", Json::Number(top.limit.into())), ("by", Json::Array(top.order.iter().map(key).collect()))])
}
