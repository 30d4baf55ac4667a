//! Records as JSON: one object a record, written straight into the reply.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use pubg1_model::{Offset, PartitionId, TopicName, record_batch::RecordView};

use crate::{
    error::{ApiError, Cause},
    json_text,
    media_type::Embedded,
};

/// Where the records come from, and how they are shown.
pub(crate) struct Renderer<'t> {
    topic: &'t TopicName,
    partition: PartitionId,
    format: Embedded,
    /// Each record stands on one line, and one that the format cannot show is shown as base64
    /// under another name: a stream must not stop at it.
    line: bool,
}

/// A part of a record that can be absent.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

impl<'t> Renderer<'t> {
    /// For lists: a record that the format cannot show is an error that names it.
    pub(crate) const fn list(topic: &'t TopicName, partition: PartitionId, format: Embedded) -> Self {
        Self { topic, partition, format, line: false }
    }

    /// For NDJSON and event streams.
    pub(crate) const fn line(topic: &'t TopicName, partition: PartitionId, format: Embedded) -> Self {
        Self { topic, partition, format, line: true }
    }

    /// Appends `record` as one JSON object; on an error nothing is appended.
    pub(crate) fn write(&self, record: &RecordView<'_>, output: &mut Vec<u8>) -> Result<(), ApiError> {
        let start = output.len();
        let written = self.write_members(record, output);
        if written.is_err() {
            output.truncate(start);
        }
        written
    }

    fn write_members(&self, record: &RecordView<'_>, output: &mut Vec<u8>) -> Result<(), ApiError> {
        output.extend_from_slice(b"{\"topic\":\"");
        // Topic names need no escapes: the allow-list has no quote, backslash or control character.
        output.extend_from_slice(self.topic.as_str().as_bytes());
        output.push(b'"');
        self.write_part(Part::Key, record, record.key, output)?;
        self.write_part(Part::Value, record, record.value, output)?;
        number(output, ",\"partition\":", i64::from(self.partition.0));
        number(output, ",\"offset\":", record.offset.to_wire());
        number(output, ",\"timestamp\":", record.timestamp_ms);
        if record.header_count() > 0 {
            self.write_headers(record, output)?;
        }
        output.push(b'}');
        Ok(())
    }

    fn write_part(
        &self,
        part: Part,
        record: &RecordView<'_>,
        bytes: Option<&[u8]>,
        output: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let member = |output: &mut Vec<u8>, suffix: &str| {
            output.extend_from_slice(b",\"");
            output.extend_from_slice(part.name().as_bytes());
            output.extend_from_slice(suffix.as_bytes());
            output.extend_from_slice(b"\":");
        };
        let Some(bytes) = bytes else {
            member(output, "");
            output.extend_from_slice(b"null");
            return Ok(());
        };
        let text = match self.format {
            Embedded::Binary => None,
            Embedded::Text | Embedded::Json => std::str::from_utf8(bytes).ok(),
        };
        let Some(text) = text else {
            if self.format != Embedded::Binary && !self.line {
                return Err(self.undecodable(part, record.offset));
            }
            member(output, if self.format == Embedded::Binary { "" } else { "_base64" });
            base64_string(bytes, output);
            return Ok(());
        };
        member(output, "");
        if self.format == Embedded::Json && json_text::is_json(bytes) {
            if self.line {
                json_text::compact(text, output);
            } else {
                output.extend_from_slice(bytes);
            }
            return Ok(());
        }
        // What is no JSON, such as a key that is plain text, appears as a string.
        json_text::quote(text, output)
    }

    fn write_headers(&self, record: &RecordView<'_>, output: &mut Vec<u8>) -> Result<(), ApiError> {
        output.extend_from_slice(b",\"headers\":[");
        for (index, header) in record.headers().enumerate() {
            let (name, value) = header.map_err(|error| {
                let place = format!("{}-{} at offset {}", self.topic, self.partition, record.offset);
                ApiError::new(Cause::Undecodable, format!("the headers of {place}: {error}"))
            })?;
            output.extend_from_slice(if index == 0 { b"{\"key\":" } else { b",{\"key\":" });
            json_text::quote(name, output)?;
            output.extend_from_slice(b",\"value\":");
            match value {
                Some(value) => base64_string(value, output),
                None => output.extend_from_slice(b"null"),
            }
            output.push(b'}');
        }
        output.push(b']');
        Ok(())
    }

    fn undecodable(&self, part: Part, offset: Offset) -> ApiError {
        let message = format!(
            "the {} of {}-{} at offset {offset} is no text; read it with format=binary, or go on at offset {}",
            part.name(),
            self.topic,
            self.partition,
            offset.plus(1),
        );
        ApiError::new(Cause::Undecodable, message)
            .with("topic", self.topic.as_str())
            .with("partition", self.partition.0)
            .with("offset", offset.get())
    }
}

/// Appends a stored value as the simple surface shows it: JSON as it is, anything else as a
/// string, with the replacement character for what is no UTF-8.
pub(crate) fn write_simple_value(value: Option<&[u8]>, output: &mut Vec<u8>) -> Result<(), ApiError> {
    match value {
        None => output.extend_from_slice(b"null"),
        Some(bytes) if json_text::is_json(bytes) => output.extend_from_slice(bytes),
        Some(bytes) => {
            let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
            json_text::quote(&text, output)?;
        }
    }
    Ok(())
}

fn base64_string(bytes: &[u8], output: &mut Vec<u8>) {
    output.push(b'"');
    let start = output.len();
    let length = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    output.resize(start + length, 0);
    if STANDARD.encode_slice(bytes, &mut output[start..]).is_err() {
        // The slice has the length that base64 itself computed.
        output.truncate(start);
    }
    output.push(b'"');
}

fn number(output: &mut Vec<u8>, name: &str, value: i64) {
    use std::io::Write as _;
    output.extend_from_slice(name.as_bytes());
    // Writing to a vector cannot fail.
    write!(output, "{value}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        compression::Compression,
        record_batch::{BatchBuilder, NewRecord},
    };
    use serde_json::{Value, json};

    use super::*;

    fn render(record: &NewRecord<'_>, format: Embedded, line: bool) -> Result<String, ApiError> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(record).unwrap();
        let batch = builder.finish(None).unwrap();
        let decoded = batch.as_batch().decode(1000).unwrap();
        let view = decoded.records().next().unwrap().unwrap();
        let topic: TopicName = "t".parse().unwrap();
        let renderer = Renderer { topic: &topic, partition: PartitionId(2), format, line };
        let mut output = b"before".to_vec();
        let result = renderer.write(&view, &mut output);
        if result.is_err() {
            assert_eq!(output, b"before", "an error leaves nothing behind");
        }
        result.map(|()| String::from_utf8(output[6..].to_vec()).unwrap())
    }

    #[test]
    fn each_format_shows_the_same_record() {
        let headers: &[(&str, Option<&[u8]>)] = &[("h\"", Some(b"x")), ("n", None)];
        let record = NewRecord { timestamp_ms: 9, key: Some(b"k"), value: Some(b"{\"a\":\n1.50}"), headers };
        let shown = json!([{"key": "h\"", "value": "eA=="}, {"key": "n", "value": null}]);
        let of = |format| serde_json::from_str::<Value>(&render(&record, format, false).unwrap()).unwrap();
        let expect = |key: &str, value: Value| json!({"topic": "t", "key": key, "value": value, "partition": 2, "offset": 0, "timestamp": 9, "headers": shown});
        assert_eq!(of(Embedded::Json), expect("k", json!({"a": 1.5})));
        assert_eq!(of(Embedded::Text), expect("k", json!("{\"a\":\n1.50}")));
        assert_eq!(of(Embedded::Binary), expect("aw==", json!("eyJhIjoKMS41MH0=")));
        assert!(render(&record, Embedded::Json, true).unwrap().contains("{\"a\":1.50}"), "one line, digits kept");
    }

    #[test]
    fn bytes_that_are_no_text_stop_a_list_but_not_a_stream() {
        let record = NewRecord { value: Some(b"\xff"), ..NewRecord::default() };
        for format in [Embedded::Json, Embedded::Text] {
            let error = render(&record, format, false).unwrap_err();
            assert_eq!(error.cause(), Cause::Undecodable);
            assert_eq!(error.to_json()["offset"], 0);
            let line: Value = serde_json::from_str(&render(&record, format, true).unwrap()).unwrap();
            assert_eq!((&line["key"], &line["value_base64"]), (&Value::Null, &json!("/w==")));
        }
    }

    #[test]
    fn simple_values_are_always_json() {
        for (value, expected) in [
            (None, json!(null)),
            (Some(&b"{\"a\": 1}"[..]), json!({"a": 1})),
            (Some(b"plain"), json!("plain")),
            (Some(b"a\xff"), json!("a\u{fffd}")),
        ] {
            let mut output = Vec::new();
            write_simple_value(value, &mut output).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&output).unwrap(), expected);
        }
    }
}
