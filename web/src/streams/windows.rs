//! `GET /streams/{stream}/windows`: windows as they are, those that are open and those that are closed and kept.

use pubg1_actors::{WindowsAnswer, WindowsQuery};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    call::Call,
    dto::{
        ErrorBody,
        streams::{StreamWindows, WindowsAsOfEntry, document},
    },
    edge::ApiResult,
    error::ApiError,
    reply,
    time_text::timestamp_ms,
};

/// How many rows an answer has unless it is said.
const ROWS: usize = 1_000;
/// How many rows an answer has at most.
const ROWS_MAX: usize = 10_000;

/// The query of `GET …/windows`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadQuery {
    /// Only the group whose rows have this key: its text or number, of several columns their JSON list.
    key: Option<String>,
    /// Only windows that end at this time or later: milliseconds since 1970, or `2026-11-26T06:24:00Z`.
    from: Option<String>,
    /// Only windows that begin at this time or earlier.
    to: Option<String>,
    /// Which windows; all when absent.
    #[param(inline)]
    state: Option<WindowState>,
    /// What they are made from; what is committed when absent.
    #[param(inline)]
    read: Option<ReadLevel>,
    /// How many rows at most.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// Which windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WindowState {
    /// Those that records may still come to.
    Open,
    /// Those whose rows are final, as long as they are kept.
    Closed,
    #[default]
    All,
}

/// What windows are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadLevel {
    /// What will not be taken back.
    #[default]
    Committed,
    /// Everything that was read; the death of a broker may take the last of it back for a moment.
    Latest,
}

impl ReadQuery {
    fn wanted(self) -> Result<WindowsQuery, ApiError> {
        let limit = self.limit.unwrap_or(ROWS);
        if !(1..=ROWS_MAX).contains(&limit) {
            return Err(ApiError::malformed(format!("limit must be from 1 to {ROWS_MAX}")));
        }
        let state = self.state.unwrap_or_default();
        Ok(WindowsQuery {
            key: self.key.map(String::into_bytes),
            from_ms: time("from", self.from.as_deref())?.unwrap_or(i64::MIN),
            to_ms: time("to", self.to.as_deref())?.unwrap_or(i64::MAX),
            closed: state != WindowState::Open,
            open: state != WindowState::Closed,
            latest: self.read == Some(ReadLevel::Latest),
            limit,
        })
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    let read = text.map(|text| timestamp_ms(&Value::from(text))).transpose();
    read.map_err(|error| ApiError::new(error.cause(), format!("{name}: {}", error.message())))
}

/// Reads windows of a stream, on any broker. `as_of` tells which records they are made from.
#[utoipa::path(
    get, path = "/streams/{stream}/windows", tag = "streams",
    params(("stream" = String, Path, description = "The stream"), ReadQuery),
    responses(
        (status = 200, description = "The windows", body = StreamWindows),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let name = call.stream()?;
    let query = call.query::<ReadQuery>()?.wanted()?;
    let WindowsAnswer { rows, is_cut, as_of, missing } = call.state.broker.streams().windows(&name, query).await?;
    reply::json(&StreamWindows {
        stream: name.into(),
        windows: rows.iter().map(|row| document(&row.json)).collect(),
        more: is_cut,
        as_of: as_of.into_iter().map(WindowsAsOfEntry::from).collect(),
        missing,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::web::Query;

    use super::*;
    use crate::error::Cause;

    fn wanted(query: &str) -> Result<WindowsQuery, ApiError> {
        Query::<ReadQuery>::from_query(query).unwrap().into_inner().wanted()
    }

    #[test]
    fn a_query_chooses_windows_and_has_bounds() {
        assert_eq!(wanted("").unwrap(), WindowsQuery { limit: ROWS, ..WindowsQuery::default() });
        let query = wanted("key=EWR&from=1970-01-01T00:00:01Z&to=7&state=open&read=latest&limit=10000").unwrap();
        assert_eq!((query.key.as_deref(), query.from_ms, query.to_ms), (Some(&b"EWR"[..]), 1_000, 7));
        assert_eq!((query.closed, query.open, query.latest, query.limit), (false, true, true, ROWS_MAX));
        let closed = wanted("state=closed").unwrap();
        assert_eq!((closed.closed, closed.open, closed.latest), (true, false, false));
        for limit in ["limit=0", "limit=10001"] {
            assert_eq!(wanted(limit).unwrap_err().cause(), Cause::Malformed, "{limit}");
        }
        for name in ["from", "to"] {
            let error = wanted(&format!("{name}=soon")).unwrap_err();
            assert_eq!(error.cause(), Cause::Unprocessable);
            assert!(error.to_string().contains(&format!("{name}: ")), "{error}");
        }
    }
}
