//! What a consumer instance is told when it is created. Numbers and switches may be text, as the
//! older clients of the dialect write them.

use pubg1_actors::NewInstance;
use pubg1_model::{
    InstanceName,
    consumer_instance::{InstanceDefinition, OffsetReset, RecordFormat},
};
use serde_json::{Map, Value};

use crate::error::{ApiError, Cause};

/// A poll that waits for more bytes than this would wait for ever.
const FETCH_MIN_BYTES_MAX: i64 = 10_000_000;
/// The longest a poll can wait.
const REQUEST_TIMEOUT_MS_MAX: i64 = 60_000;
/// How often an instance commits by itself that does not say.
const AUTO_COMMIT_INTERVAL_MS: u64 = 5_000;
/// No interval is longer.
const INTERVAL_MS_MAX: i64 = 86_400_000;
/// A session may be as short or as long as this.
const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<i64> = 1_000..=1_800_000;

/// Reads the body of `POST /consumers/{group}`.
pub(super) fn read(body: Map<String, Value>) -> Result<NewInstance, ApiError> {
    let mut new = NewInstance::default();
    let mut older_name = None;
    let mut auto_commit = (true, AUTO_COMMIT_INTERVAL_MS);
    for (name, value) in body {
        if value.is_null() {
            continue;
        }
        let option = Given { name: &name, value: &value };
        match name.as_str() {
            "name" => new.name = Some(option.instance_name()?),
            "id" => older_name = Some(option.instance_name()?),
            "auto.commit.enable" | "enable.auto.commit" => auto_commit.0 = option.switch()?,
            "auto.commit.interval.ms" => auto_commit.1 = option.count(0..=INTERVAL_MS_MAX)?,
            _ => option.define(&mut new.definition)?,
        }
    }
    new.name = older_name.or(new.name);
    new.definition.auto_commit_interval_ms = auto_commit.0.then_some(auto_commit.1);
    Ok(new)
}

/// One option as it was sent.
struct Given<'a> {
    name: &'a str,
    value: &'a Value,
}

impl Given<'_> {
    fn define(&self, definition: &mut InstanceDefinition) -> Result<(), ApiError> {
        match self.name {
            "format" => {
                definition.format = match self.word()?.as_str() {
                    "binary" => RecordFormat::Binary,
                    "json" => RecordFormat::Json,
                    "text" => RecordFormat::Text,
                    _ => return Err(self.refuse("binary, json or text")),
                }
            }
            "auto.offset.reset" => {
                definition.auto_offset_reset = match self.word()?.as_str() {
                    "earliest" | "smallest" => OffsetReset::Earliest,
                    "latest" | "largest" => OffsetReset::Latest,
                    "none" => OffsetReset::None,
                    _ => return Err(self.refuse("earliest, latest or none")),
                }
            }
            // -1 is the dialect's way to say: none.
            "fetch.min.bytes" | "responseMinBytes" => {
                definition.fetch_min_bytes = match self.number(-1..=FETCH_MIN_BYTES_MAX)? {
                    ..1 => 1,
                    bytes => bytes.unsigned_abs(),
                }
            }
            "consumer.request.timeout.ms" | "requestWaitMs" => {
                definition.request_timeout_ms = self.count(0..=REQUEST_TIMEOUT_MS_MAX)?;
            }
            "session.timeout.ms" => definition.session_timeout_ms = self.count(SESSION_TIMEOUT_MS)?,
            "consumer.instance.timeout.ms" => {
                definition.instance_timeout_ms = self.count(1_000..=INTERVAL_MS_MAX)?;
            }
            "group.instance.id" => definition.group_instance_id = Some(self.instance_name()?.into()),
            "partition.assignment.strategy" => definition.assignors = self.assignors()?,
            // There are no transactions, so both levels show the same.
            "isolation.level" => match self.word()?.as_str() {
                "read_uncommitted" | "read_committed" => {}
                _ => return Err(self.refuse("read_uncommitted or read_committed")),
            },
            _ => {
                let message = format!("there is no option {:?}", self.name);
                return Err(ApiError::new(Cause::InvalidConsumer, message));
            }
        }
        Ok(())
    }

    fn refuse(&self, allowed: &str) -> ApiError {
        let message = format!("{}={} is not possible; {allowed} is", self.name, self.value);
        ApiError::new(Cause::InvalidConsumer, message)
    }

    fn word(&self) -> Result<String, ApiError> {
        self.value.as_str().map(str::to_ascii_lowercase).ok_or_else(|| self.refuse("a word"))
    }

    fn switch(&self) -> Result<bool, ApiError> {
        match self.value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.refuse("true or false")),
        }
    }

    fn number(&self, range: std::ops::RangeInclusive<i64>) -> Result<i64, ApiError> {
        let number = match self.value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let allowed = || self.refuse(&format!("a number from {} to {}", range.start(), range.end()));
        number.filter(|number| range.contains(number)).ok_or_else(allowed)
    }

    fn count(&self, range: std::ops::RangeInclusive<i64>) -> Result<u64, ApiError> {
        self.number(range).map(i64::unsigned_abs)
    }

    /// A name that is made of the characters of names.
    fn instance_name(&self) -> Result<InstanceName, ApiError> {
        let text = self.value.as_str().ok_or_else(|| self.refuse("text"))?;
        text.parse().map_err(|error| ApiError::new(Cause::InvalidName, format!("{} {text:?}: {error}", self.name)))
    }

    /// Assignors as a list or as text with commas, by their names or by Kafka's class names.
    fn assignors(&self) -> Result<Vec<String>, ApiError> {
        let names: Vec<&str> = match self.value {
            Value::String(text) => text.split(',').map(str::trim).collect(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let known = |name: &str| match name.rsplit('.').next().unwrap_or(name) {
            "range" | "RangeAssignor" => Some("range"),
            "roundrobin" | "RoundRobinAssignor" => Some("roundrobin"),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Some("cooperative-sticky"),
            _ => None,
        };
        let assignors: Option<Vec<String>> = names.iter().map(|name| known(name).map(str::to_owned)).collect();
        let allowed = || self.refuse("range, roundrobin or cooperative-sticky");
        assignors.filter(|assignors| !assignors.is_empty()).ok_or_else(allowed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: &Value) -> Result<NewInstance, ApiError> {
        read(body.as_object().unwrap().clone())
    }

    #[test]
    fn without_options_it_is_binary_from_the_earliest_record_and_commits_by_itself() {
        let new = of(&json!({"name": null})).unwrap();
        let auto_commit_interval_ms = Some(AUTO_COMMIT_INTERVAL_MS);
        let definition = InstanceDefinition { auto_commit_interval_ms, ..InstanceDefinition::default() };
        assert_eq!(new, NewInstance { name: None, definition });
        assert_eq!((new.definition.format, new.definition.auto_offset_reset), Default::default());
    }

    #[test]
    fn numbers_and_switches_may_be_text() {
        for (enable, bytes, timeout) in
            [(json!("false"), json!("5"), json!("3000")), (json!(false), json!(5), json!(3000))]
        {
            let new = of(&json!({"name": "n", "id": "i", "format": "JSON", "auto.offset.reset": "latest",
                "auto.commit.enable": enable, "fetch.min.bytes": bytes, "consumer.request.timeout.ms": timeout,
                "session.timeout.ms": 1000, "partition.assignment.strategy": "org.apache.kafka.RoundRobinAssignor,range"}));
            let NewInstance { name, definition } = new.unwrap();
            assert_eq!(name.unwrap().as_str(), "i", "the older name wins");
            assert_eq!((definition.format, definition.auto_offset_reset), (RecordFormat::Json, OffsetReset::Latest));
            assert_eq!((definition.auto_commit_interval_ms, definition.fetch_min_bytes), (None, 5));
            assert_eq!((definition.request_timeout_ms, definition.session_timeout_ms), (3000, 1000));
            assert_eq!(definition.assignors, ["roundrobin", "range"]);
        }
        assert_eq!(of(&json!({"fetch.min.bytes": "-1"})).unwrap().definition.fetch_min_bytes, 1);
        let every = json!({"enable.auto.commit": true, "auto.commit.interval.ms": "0"});
        assert_eq!(of(&every).unwrap().definition.auto_commit_interval_ms, Some(0));
    }

    #[test]
    fn options_that_cannot_be_honoured_are_refused() {
        for body in [
            json!({"format": "avro"}),
            json!({"format": 1}),
            json!({"auto.offset.reset": "somewhere"}),
            json!({"auto.commit.enable": "maybe"}),
            json!({"fetch.min.bytes": -2}),
            json!({"fetch.min.bytes": 10_000_001}),
            json!({"fetch.min.bytes": "many"}),
            json!({"consumer.request.timeout.ms": -1}),
            json!({"session.timeout.ms": 999}),
            json!({"partition.assignment.strategy": []}),
            json!({"partition.assignment.strategy": "sticky"}),
            json!({"auto.offset.rest": "latest"}),
        ] {
            assert_eq!(of(&body).unwrap_err().cause(), Cause::InvalidConsumer, "{body}");
        }
        for name in ["a\u{7}b", "", "a/b"] {
            assert_eq!(of(&json!({"name": name})).unwrap_err().cause(), Cause::InvalidName, "{name:?}");
        }
    }
}
