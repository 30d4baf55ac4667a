//! The body of a v2 produce request: `{"records":[{"key","value","partition","timestamp","headers"}]}`.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    error::{ApiError, Cause},
    json_text::{self, Object},
    media_type::Embedded,
};

/// One record of a request, its key and value in the form that is stored.
#[derive(Debug)]
pub(crate) struct IncomingRecord<'a> {
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) headers: Vec<(Cow<'a, str>, Option<Vec<u8>>)>,
}

/// The envelope, its records not yet read. Members of schema formats are tolerated.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    records: Option<&'a RawValue>,
}

/// One record as it is written.
pub(crate) struct RawRecord<'a> {
    pub(crate) key: Option<&'a RawValue>,
    pub(crate) value: Option<&'a RawValue>,
    pub(crate) has_value: bool,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) headers: Vec<RawHeader<'a>>,
    /// A member that no record has: most likely a slip of the pen, so it is refused.
    pub(crate) unknown: Option<Cow<'a, str>>,
}

/// A header: its value is base64, or null.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHeader<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
}

/// A member's name, borrowed where the text has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for RawRecord<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;
        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = RawRecord<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record, which is a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut record = RawRecord::empty();
                let mut seen = 0_u8;
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    let bit = match &*name {
                        "key" => {
                            record.key = map.next_value()?;
                            1
                        }
                        "value" => {
                            record.value = map.next_value()?;
                            record.has_value = true;
                            2
                        }
                        "partition" => {
                            record.partition = map.next_value()?;
                            4
                        }
                        "timestamp" => {
                            record.timestamp_ms = map.next_value()?;
                            8
                        }
                        "headers" => {
                            let headers: Option<Vec<Object<RawHeader<'de>>>> = map.next_value()?;
                            record.headers = headers.unwrap_or_default().into_iter().map(|header| header.0).collect();
                            16
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            record.unknown.get_or_insert(name);
                            continue;
                        }
                    };
                    if seen & bit != 0 {
                        return Err(A::Error::custom(format_args!("the record has {name:?} twice")));
                    }
                    seen |= bit;
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(RecordVisitor)
    }
}

impl<'a> RawRecord<'a> {
    fn empty() -> Self {
        Self {
            key: None,
            value: None,
            has_value: false,
            partition: None,
            timestamp_ms: None,
            headers: Vec::new(),
            unknown: None,
        }
    }

    /// Turns key, value and headers into what is stored. `what` names the record in errors.
    pub(crate) fn decode(
        self,
        key: fn(&'a RawValue) -> Result<Cow<'a, [u8]>, String>,
        value: fn(&'a RawValue) -> Result<Cow<'a, [u8]>, String>,
    ) -> Result<IncomingRecord<'a>, ApiError> {
        let unprocessable = |message: String| Err(ApiError::new(Cause::Unprocessable, message));
        if let Some(unknown) = self.unknown {
            let known = "key, value, partition, timestamp and headers";
            return unprocessable(format!("a record has no member {unknown:?}; its members are {known}"));
        }
        if !self.has_value {
            return unprocessable("a record needs a value; write null to delete its key".to_owned());
        }
        if self.timestamp_ms.is_some_and(|timestamp| timestamp < 0) {
            return unprocessable("a timestamp is in milliseconds since 1970 and not negative".to_owned());
        }
        let bad =
            |name: &'static str| move |error: String| ApiError::malformed(format!("the {name} of a record: {error}"));
        let headers = self.headers.into_iter().map(|header| {
            let value = header.value.map(|value| base64(&value).map_err(bad("header value"))).transpose()?;
            Ok((header.key, value))
        });
        Ok(IncomingRecord {
            key: self.key.map(key).transpose().map_err(bad("key"))?,
            value: self.value.map(value).transpose().map_err(bad("value"))?,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            headers: headers.collect::<Result<_, ApiError>>()?,
        })
    }
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| {
        format!("not base64 ({error}); to send JSON values use the content type {}", Embedded::Json.media_type())
    })
}

fn string(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    serde_json::from_str::<Name<'_>>(raw.get()).map(|name| name.0).map_err(|_| {
        format!("must be a string; to send JSON values use the content type {}", Embedded::Json.media_type())
    })
}

fn binary_form(raw: &RawValue) -> Result<Cow<'_, [u8]>, String> {
    base64(&string(raw)?).map(Cow::Owned)
}

pub(crate) fn text_form(raw: &RawValue) -> Result<Cow<'_, [u8]>, String> {
    Ok(match string(raw)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// The compact serialisation, which is the text itself when that is compact.
// The signature is the one of the other forms.
#[allow(clippy::unnecessary_wraps, reason = "one signature for all forms")]
pub(crate) fn json_form(raw: &RawValue) -> Result<Cow<'_, [u8]>, String> {
    let text = raw.get();
    if !text.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut compact = Vec::with_capacity(text.len());
    json_text::compact(text, &mut compact);
    Ok(Cow::Owned(compact))
}

/// A key as people mean it: a string is its text, anything else its compact JSON.
pub(crate) fn natural_key(raw: &RawValue) -> Result<Cow<'_, [u8]>, String> {
    if raw.get().starts_with('"') { text_form(raw) } else { json_form(raw) }
}

/// Reads the body. An unreadable one is 400; one without records, or with records that make no
/// sense, is 422.
pub(crate) fn parse(body: &[u8], format: Embedded) -> Result<Vec<IncomingRecord<'_>>, ApiError> {
    let envelope: Object<Envelope<'_>> = json_text::parse(body)?;
    let Some(records) = envelope.0.records else {
        return Err(ApiError::new(Cause::Unprocessable, "the body has no records"));
    };
    let records: Vec<RawRecord<'_>> = serde_json::from_str(records.get())
        .map_err(|error| ApiError::malformed(format!("records must be a list of objects: {error}")))?;
    if records.is_empty() {
        return Err(ApiError::new(Cause::Unprocessable, "the list of records is empty"));
    }
    let form = match format {
        Embedded::Binary => binary_form,
        Embedded::Json => json_form,
        Embedded::Text => text_form,
    };
    records.into_iter().map(|record| record.decode(form, form)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(body: &str, format: Embedded) -> Cause {
        parse(body.as_bytes(), format).unwrap_err().cause()
    }

    #[test]
    fn each_format_stores_what_it_says() {
        let body = br#"{"records":[{"key":"aw==","value":"dg==","headers":[{"key":"h","value":"eA=="},{"key":"n"}]}]}"#;
        let record = &parse(body, Embedded::Binary).unwrap()[0];
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!(record.headers, [("h".into(), Some(b"x".to_vec())), ("n".into(), None)]);

        let body = br#"{"records":[{"key":"k","value":{"b": 1.10, "a":[ ]},"partition":3,"timestamp":17}],"key_schema_id":null}"#;
        let record = &parse(body, Embedded::Json).unwrap()[0];
        assert_eq!(record.key.as_deref(), Some(&br#""k""#[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"b":1.10,"a":[]}"#[..]), "order and digits are kept");
        assert_eq!((record.partition, record.timestamp_ms), (Some(3), Some(17)));

        let record = &parse("{\"records\":[{\"value\":\"\\u00e9\\n\"}]}".as_bytes(), Embedded::Text).unwrap()[0];
        assert_eq!(record.value.as_deref(), Some("é\n".as_bytes()));
        let record = &parse(br#"{"records":[{"key":"a","value":null}]}"#, Embedded::Text).unwrap()[0];
        assert_eq!(record.value, None);
    }

    #[test]
    fn what_cannot_be_read_is_400_and_what_makes_no_sense_is_422() {
        for body in [
            "",
            "[]",
            "{",
            "{\"records\":{}}",
            "{\"records\":[1]}",
            "{\"records\":[[null,1]]}",
            "{\"records\":[{\"value\":1,\"value\":2}]}",
            "{\"records\":[{\"value\":1,\"partition\":-1}]}",
        ] {
            assert_eq!(cause(body, Embedded::Json), Cause::Malformed, "{body}");
        }
        for body in ["{\"records\":[{\"value\":\"not base64!\"}]}", "{\"records\":[{\"value\":{}}]}"] {
            assert_eq!(cause(body, Embedded::Binary), Cause::Malformed, "{body}");
        }
        for body in [
            "{}",
            "{\"records\":[]}",
            "{\"records\":null}",
            "{\"records\":[{\"vlaue\":1}]}",
            "{\"records\":[{\"key\":\"k\"}]}",
            "{\"records\":[{\"value\":1,\"timestamp\":-5}]}",
        ] {
            assert_eq!(cause(body, Embedded::Json), Cause::Unprocessable, "{body}");
        }
    }

    #[test]
    fn a_natural_key_is_the_text_of_a_string() {
        let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
        assert_eq!(&*natural_key(&raw("\"a\\u0062\"")).unwrap(), b"ab");
        assert_eq!(&*natural_key(&raw("[1, 2]")).unwrap(), b"[1,2]");
    }
}
