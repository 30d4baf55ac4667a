//! Where a stream starts, where it stops, and what it does when records are gone.

use super::{
    DocumentError,
    json::{At, Json},
    reading::one_of,
};
use crate::PartitionId;

/// Where the reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Earliest,
    /// After the newest one.
    Latest,
    /// At the first record of this time, in milliseconds since 1970, or later.
    Time(i64),
    /// At these offsets; partitions that are not listed, at the oldest.
    Offsets(Vec<(PartitionId, u64)>),
}

/// Where the reading ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It goes on.
    Never,
    /// At the end that the log has when the stream is made; then all windows are closed.
    Latest,
}

/// What happens when records were deleted before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The stream stops and says so.
    Fail,
    /// It goes on after them; they are counted.
    Skip,
}

/// Where the reading begins.
pub(super) fn read_start(at: Option<At<'_>>) -> Result<Start, DocumentError> {
    let Some(at) = at else { return Ok(Start::Earliest) };
    if let Json::String(_) = at.json {
        return match at.string()? {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            other => at.refuse(format!(
                "there is no start {other:?}; write \"earliest\", \"latest\", {{\"time\": ms}} or {{\"offsets\": {{…}}}}"
            )),
        };
    }
    let mut members = at.members()?;
    let (time, offsets) = (members.optional("time"), members.optional("offsets"));
    members.finish()?;
    match (time, offsets) {
        (Some(time), None) => match time.number()?.as_i64() {
            Some(ms) => Ok(Start::Time(ms)),
            None => time.refuse("must be milliseconds since 1970"),
        },
        (None, Some(offsets)) => read_offsets(&offsets).map(Start::Offsets),
        _ => at.refuse("must have either \"time\" or \"offsets\""),
    }
}

fn read_offsets(at: &At<'_>) -> Result<Vec<(PartitionId, u64)>, DocumentError> {
    let Json::Object(members) = at.json else { return at.refuse("must be an object of partitions and offsets") };
    let mut offsets = Vec::with_capacity(members.len());
    for (name, json) in members {
        let inner = At { path: format!("{}.{name}", at.path), json };
        // `+1` and `01` are other spellings of a partition that may be there already.
        match name.parse::<u32>() {
            Ok(partition) if partition.to_string() == *name => offsets.push((PartitionId(partition), inner.whole()?)),
            _ => return inner.refuse("must be called as a partition, such as \"0\""),
        }
    }
    offsets.sort_unstable();
    Ok(offsets)
}

pub(super) fn write_start(start: &Start) -> Json {
    match start {
        Start::Earliest => Json::String("earliest".to_owned()),
        Start::Latest => Json::String("latest".to_owned()),
        Start::Time(ms) => Json::object([("time", Json::Number((*ms).into()))]),
        Start::Offsets(offsets) => {
            let member =
                |(partition, offset): &(PartitionId, u64)| (partition.0.to_string(), Json::Number((*offset).into()));
            let offsets = Json::Object(offsets.iter().map(member).collect());
            Json::object([("offsets", offsets)])
        }
    }
}

pub(super) const STOPS: [(&str, Stop); 2] = [("never", Stop::Never), ("latest", Stop::Latest)];
pub(super) const GAPS: [(&str, OnGap); 2] = [("fail", OnGap::Fail), ("skip", OnGap::Skip)];

pub(super) fn read_stop(at: Option<At<'_>>) -> Result<Stop, DocumentError> {
    at.map_or(Ok(Stop::Never), |at| one_of(&at, "stop", STOPS))
}

pub(super) fn read_on_gap(at: Option<At<'_>>) -> Result<OnGap, DocumentError> {
    at.map_or(Ok(OnGap::Fail), |at| one_of(&at, "answer to a gap", GAPS))
}

pub(super) fn write_stop(stop: Stop) -> Json {
    Json::String(STOPS.iter().find(|(_, known)| *known == stop).map_or("", |(name, _)| name).to_owned())
}

pub(super) fn write_on_gap(on_gap: OnGap) -> Json {
    Json::String(GAPS.iter().find(|(_, known)| *known == on_gap).map_or("", |(name, _)| name).to_owned())
}
