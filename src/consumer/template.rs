//! How a record is printed: by a template such as `%t %p %o %k %v\n`, or as a JSON object.

use base64::{Engine, engine::general_purpose::STANDARD};
use pubg1_model::{
    Offset, PartitionId, TopicName,
    record_batch::{BatchError, RecordView},
};
use serde_json::{Value, value::RawValue};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
}

/// A record as it is printed, whichever way it came.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its time in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What it is about.
    pub key: Option<&'a [u8]>,
    /// What it says.
    pub value: Option<&'a [u8]>,
    /// What else it says.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> TryFrom<&RecordView<'a>> for Shown<'a> {
    type Error = BatchError;
    fn try_from(record: &RecordView<'a>) -> Result<Self, BatchError> {
        Ok(Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers().collect::<Result<_, _>>()?,
        })
    }
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a template: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` value, `%T`
    /// timestamp in milliseconds, `%h` headers as `name=value,…`, `%%` a percent sign; `\n`, `\t`,
    /// `\r`, `\0` and `\\`.
    ///
    /// # Errors
    /// The first thing in it that means nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => match chars.next() {
                    Some('%') => {
                        plain.push(b'%');
                        continue;
                    }
                    Some('t') => Piece::Topic,
                    Some('p') => Piece::Partition,
                    Some('o') => Piece::Offset,
                    Some('k') => Piece::Key,
                    Some('v') => Piece::Value,
                    Some('T') => Piece::Timestamp,
                    Some('h') => Piece::Headers,
                    Some(other) => return Err(format!("%{other} means nothing; there are %t %p %o %k %v %T %h %%")),
                    None => return Err("a % at the end; %% is a percent sign".to_owned()),
                },
                '\\' => {
                    plain.push(escape(chars.next())?);
                    continue;
                }
                other => {
                    plain.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Appends a record as the template shows it. An absent key or value prints as nothing.
    pub fn write(&self, out: &mut Vec<u8>, topic: &TopicName, partition: PartitionId, record: &Shown<'_>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(topic.as_str().as_bytes()),
                Piece::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
                Piece::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Piece::Timestamp => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Piece::Key => out.extend_from_slice(record.key.unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value.unwrap_or_default()),
                Piece::Headers => write_headers(out, record),
            }
        }
    }
}

fn escape(c: Option<char>) -> Result<u8, String> {
    match c {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some(other) => Err(format!("\\{other} means nothing; there are \\n \\t \\r \\0 \\\\")),
        None => Err("a \\ at the end; \\\\ is a backslash".to_owned()),
    }
}

fn write_headers(out: &mut Vec<u8>, record: &Shown<'_>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or_default());
    }
}

/// Appends a record as one line of JSON. A value that is a JSON object or array stands as itself,
/// other text as a string, and bytes that are no text in base64 under `value_base64`; keys and
/// headers likewise, but always as text.
pub fn write_json(out: &mut Vec<u8>, topic: &TopicName, partition: PartitionId, record: &Shown<'_>) {
    let start = format!(
        "{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":{},\"timestamp\":{},",
        record.offset, record.timestamp_ms
    );
    out.extend_from_slice(start.as_bytes());
    write_member(out, "key", record.key);
    out.push(b',');
    match record.value.filter(|value| is_document(value)) {
        Some(document) => {
            out.extend_from_slice(b"\"value\":");
            // Line ends in a valid document are white space, never part of a string.
            out.extend(document.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        }
        None => write_member(out, "value", record.value),
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",{\"key\":" } else { b"{\"key\":" });
        out.extend_from_slice(Value::from(*name).to_string().as_bytes());
        out.push(b',');
        write_member(out, "value", *value);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn is_document(value: &[u8]) -> bool {
    let first = value.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'[')) && serde_json::from_slice::<&RawValue>(value).is_ok()
}

fn write_member(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    let text = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => format!("\"{name}\":null"),
        Some((_, Ok(text))) => format!("\"{name}\":{}", Value::from(text)),
        Some((bytes, Err(_))) => format!("\"{name}_base64\":\"{}\"", STANDARD.encode(bytes)),
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        compression::Compression,
        record_batch::{BatchBuilder, NewRecord},
    };

    use super::*;

    fn printed(record: &NewRecord<'_>, print: impl FnOnce(&mut Vec<u8>, &TopicName, &Shown<'_>)) -> String {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(record).unwrap();
        let batch = builder.finish(None).unwrap();
        let decoded = batch.as_batch().decode(usize::MAX).unwrap();
        let view = decoded.records().next().unwrap().unwrap();
        let mut out = Vec::new();
        print(&mut out, &"flights".parse().unwrap(), &Shown::try_from(&view).unwrap());
        String::from_utf8(out).unwrap()
    }

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> NewRecord<'a> {
        NewRecord { timestamp_ms: 1_000, key, value, headers: &[("h", Some(b"1")), ("g", None)] }
    }

    #[test]
    fn a_template_prints_what_it_names() {
        let template = Template::parse("%t/%p@%o %T %k=%v [%h] 100%%\\t\\\\\\n").unwrap();
        let text = printed(&record(Some(b"UA"), Some(b"x")), |out, topic, view| {
            template.write(out, topic, PartitionId(3), view);
        });
        assert_eq!(text, "flights/3@0 1000 UA=x [h=1,g=] 100%\t\\\n");
    }

    #[test]
    fn a_template_that_means_nothing_is_refused() {
        for text in ["%x", "%", "\\q", "\\"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_keeps_documents_text_and_bytes_apart() {
        let json = |key, value| {
            let text = printed(&record(key, value), |out, topic, view| {
                write_json(out, topic, PartitionId(3), view);
            });
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let document = json(Some(b"UA"), Some(b"{\"a\":\n[1]}"));
        assert_eq!(document["value"]["a"][0], 1);
        assert_eq!(document["key"], "UA");
        assert_eq!(document["headers"][0], serde_json::json!({"key": "h", "value": "1"}));
        assert_eq!(json(None, Some(b"12"))["value"], "12");
        assert_eq!(json(None, Some(b"{oops"))["value"], "{oops");
        assert_eq!(json(None, Some(b"\xff"))["value_base64"], "/w==");
        assert_eq!(json(None, None)["value"], Value::Null);
        assert_eq!(json(Some(b"\xff"), None)["key_base64"], "/w==");
    }
}
