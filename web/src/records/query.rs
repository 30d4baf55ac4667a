//! What a read asks for: where to begin, how much, how long to wait, in which form.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    error::{ApiError, Cause},
    limits::Limits,
    media_type::{EVENTS, Embedded, JSON, NDJSON, Offer, V2_BINARY, V2_JSON, V2_TEXT, negotiate},
};

/// The query of `GET …/records`. `offset`, `timestamp` and `tail` exclude one another; without
/// them a read begins where the partition begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadQuery {
    /// Begin with this record. At the end of the log the answer is empty; outside it is 416.
    pub(crate) offset: Option<u64>,
    /// Begin with the first record at or after this time, in milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    /// Begin this many records before the end.
    pub(crate) tail: Option<u64>,
    /// Stop when about this much was read, but not before one record. At most 16 MiB.
    pub(crate) max_bytes: Option<usize>,
    /// Stop after this many records.
    #[param(minimum = 1)]
    pub(crate) max_records: Option<usize>,
    /// When there is nothing yet, wait this long: `5s`, `500ms`, or a number of seconds. At most 60 s.
    #[param(pattern = "^[0-9]{1,9}(ms|s)?$")]
    pub(crate) wait: Option<String>,
    /// The same in milliseconds.
    pub(crate) timeout: Option<u64>,
    /// How keys and values are shown, if `Accept` shall not decide.
    #[param(inline)]
    pub(crate) format: Option<FormatName>,
}

/// The name of an embedded format.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatName {
    /// base64 strings
    Binary,
    /// JSON values; what is no JSON appears as a string
    Json,
    /// strings
    Text,
}

impl From<FormatName> for Embedded {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Binary => Self::Binary,
            FormatName::Json => Self::Json,
            FormatName::Text => Self::Text,
        }
    }
}

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    Offset(u64),
    Timestamp(i64),
    Tail(u64),
}

impl ReadQuery {
    pub(crate) fn start(&self) -> Result<Start, ApiError> {
        match (self.offset, self.timestamp, self.tail) {
            (None, None, None) => Ok(Start::Beginning),
            (Some(offset), None, None) => Ok(Start::Offset(offset)),
            (None, Some(timestamp), None) => Ok(Start::Timestamp(timestamp)),
            (None, None, Some(tail)) => Ok(Start::Tail(tail)),
            _ => Err(ApiError::malformed("offset, timestamp and tail exclude one another: give one of them")),
        }
    }

    pub(crate) fn max_bytes(&self, limits: &Limits) -> usize {
        self.max_bytes.unwrap_or(limits.read_bytes_default).min(limits.read_bytes_max)
    }

    pub(crate) fn max_records(&self, limits: &Limits) -> Result<usize, ApiError> {
        match self.max_records {
            Some(0) => Err(ApiError::malformed("max_records must be at least 1")),
            asked => Ok(asked.unwrap_or(usize::MAX).min(limits.read_records_max)),
        }
    }

    pub(crate) fn wait(&self, limits: &Limits) -> Result<Duration, ApiError> {
        let wait = match (&self.wait, self.timeout) {
            (Some(wait), _) => parse_wait(wait)?,
            (None, timeout) => Duration::from_millis(timeout.unwrap_or(0)),
        };
        Ok(wait.min(limits.wait_max))
    }
}

/// Reads `5s`, `500ms` or `5` (seconds).
pub(crate) fn parse_wait(text: &str) -> Result<Duration, ApiError> {
    let (digits, unit): (&str, fn(u64) -> Duration) = match text.strip_suffix("ms") {
        Some(digits) => (digits, Duration::from_millis),
        None => (text.strip_suffix('s').unwrap_or(text), Duration::from_secs),
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| all_digits);
    number.map(unit).ok_or_else(|| ApiError::malformed(format!("wait={text:?}: write 5s or 500ms")))
}

/// How records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation {
    /// One JSON list.
    List,
    /// One JSON object a line.
    Lines,
    /// Server-sent events that go on as records come.
    Events,
}

/// A representation, its embedded format and its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) representation: Representation,
    pub(crate) format: Embedded,
    pub(crate) media_type: &'static str,
}

const OFFERS: &[Offer<(Representation, Embedded)>] = &[
    Offer {
        media_type: V2_BINARY,
        aliases: &["application/vnd.kafka.v2+json", "application/vnd.kafka+json", "application/vnd.kafka.binary+json"],
        meaning: (Representation::List, Embedded::Binary),
    },
    Offer {
        media_type: V2_JSON,
        aliases: &["application/vnd.kafka.json+json"],
        meaning: (Representation::List, Embedded::Json),
    },
    Offer { media_type: V2_TEXT, aliases: &[], meaning: (Representation::List, Embedded::Text) },
    Offer { media_type: JSON, aliases: &[], meaning: (Representation::List, Embedded::Json) },
    Offer { media_type: NDJSON, aliases: &["application/jsonl"], meaning: (Representation::Lines, Embedded::Json) },
    Offer { media_type: EVENTS, aliases: &[], meaning: (Representation::Events, Embedded::Json) },
];

/// What `Accept` and `format` ask for together. Without both it is a list with base64.
pub(crate) fn form(accept: Option<&str>, format: Option<FormatName>) -> Result<Form, ApiError> {
    let offer = negotiate(accept, OFFERS).ok_or_else(|| {
        let message =
            format!("cannot send records as {:?}; accept {V2_JSON}, {NDJSON} or {EVENTS}", accept.unwrap_or(""));
        ApiError::new(Cause::NotAcceptable, message)
    })?;
    let (representation, embedded) = offer.meaning;
    let format = format.map_or(embedded, Embedded::from);
    let media_type = match (representation, offer.media_type) {
        (Representation::List, JSON) => JSON,
        (Representation::List, _) => format.media_type(),
        (_, media_type) => media_type,
    };
    Ok(Form { representation, format, media_type })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_unless_they_say_otherwise() {
        assert_eq!(parse_wait("5").unwrap(), Duration::from_secs(5));
        assert_eq!(parse_wait("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(parse_wait("500ms").unwrap(), Duration::from_millis(500));
        for refused in ["", "s", "ms", "-1", "+1", "1m", "1.5s", "99999999999999999999"] {
            assert!(parse_wait(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn forms_follow_accept_and_format() {
        use Embedded::{Binary, Json, Text};
        use Representation::{Events, Lines, List};
        for (accept, name, representation, format, media_type) in [
            (None, None, List, Binary, V2_BINARY),
            (Some("*/*"), None, List, Binary, V2_BINARY),
            (Some("*/*"), Some(FormatName::Json), List, Json, V2_JSON),
            (Some("application/vnd.kafka.v2+json"), None, List, Binary, V2_BINARY),
            (Some("application/vnd.kafka.json.v2+json"), None, List, Json, V2_JSON),
            (Some("application/json"), None, List, Json, JSON),
            (Some("application/json"), Some(FormatName::Text), List, Text, JSON),
            (Some("application/x-ndjson"), None, Lines, Json, NDJSON),
            (Some("text/event-stream"), Some(FormatName::Binary), Events, Binary, EVENTS),
        ] {
            assert_eq!(form(accept, name).unwrap(), Form { representation, format, media_type }, "{accept:?} {name:?}");
        }
        assert_eq!(form(Some("image/png"), None).unwrap_err().cause(), Cause::NotAcceptable);
    }
}
