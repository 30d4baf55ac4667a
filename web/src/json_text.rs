//! JSON as text: values that are checked and kept as they came, without a tree in between.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::error::{ApiError, Cause};

/// The deepest nesting that is accepted, serde_json's own limit. It must be checked here because
/// serde_json does not count levels in values that it skips or keeps raw.
const NESTING_MAX: usize = 128;

/// Whether brackets nest deeper than the limit. `json` need not be valid.
fn nests_too_deep(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

/// Reads `bytes` as one JSON document: UTF-8, not nested too deep, nothing after it.
pub(crate) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ApiError::malformed(format!("the JSON is not UTF-8 from byte {} on", error.valid_up_to())))?;
    if nests_too_deep(text) {
        return Err(ApiError::malformed(format!("the JSON nests deeper than {NESTING_MAX} levels")));
    }
    serde_json::from_str(text)
        .map_err(|error| ApiError::malformed(format!("the body is not what is expected: {error}")))
}

/// Reads `bytes` as one JSON object into `T`.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    parse::<Object<T>>(bytes).map(|object| object.0)
}

/// Whether `bytes` are one JSON document that can be shown as it is.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    parse::<&RawValue>(bytes).is_ok()
}

/// Appends `json`, which must be valid, without the white space between its tokens. Numbers,
/// strings and the order of keys stay as they are. The result has no line break.
pub(crate) fn compact(json: &str, output: &mut Vec<u8>) {
    let bytes = json.as_bytes();
    let (mut from, mut in_string, mut escaped) = (0, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if byte == b'"' {
            in_string = true;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            output.extend_from_slice(&bytes[from..at]);
            from = at + 1;
        }
    }
    output.extend_from_slice(&bytes[from..]);
}

/// Appends `text` as a JSON string.
pub(crate) fn quote(text: &str, output: &mut Vec<u8>) -> Result<(), ApiError> {
    serde_json::to_writer(output, text)
        .map_err(|error| ApiError::new(Cause::Internal, format!("cannot write a JSON string: {error}")))
}

/// A `T` that must be written as a JSON object. Derived structs accept arrays, too.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }

    #[test]
    fn objects_are_objects_and_raw_values_are_kept() {
        let named: Object<Named<'_>> = parse(br#" {"value": [1.0,  2] , "other": null} "#).unwrap();
        assert_eq!(named.0.value.get(), "[1.0,  2]");
        assert!(parse::<Object<Named<'_>>>(b"[[1]]").is_err());
        assert!(parse::<Object<Named<'_>>>(br#"{"value":1,"value":2}"#).is_err(), "a key twice is an error");
    }

    #[test]
    fn nesting_is_limited_in_skipped_values_too() {
        let nested = |levels: usize| format!("{{\"value\":1,\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse::<Object<Named<'_>>>(nested(127).as_bytes()).is_ok());
        assert!(parse::<Object<Named<'_>>>(nested(128).as_bytes()).is_err());
        let brackets_in_text = format!("\"{}\\\"{}\"", "[".repeat(300), "{".repeat(300));
        assert!(is_json(brackets_in_text.as_bytes()));
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for text in ["", "nul", "{", "1 2", "{'a':1}", "NaN", "\u{feff}1"] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(!is_json(b"\"\xff\""));
        assert!(is_json(b" {\"a\": [1, \"\\u00e9\"]} "));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}|[ \"\\\\\n\t]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-z \"\n]{0,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compacting_is_serde_jsons_compact_form(value in any_json()) {
            let mut output = Vec::new();
            compact(&serde_json::to_string_pretty(&value).unwrap(), &mut output);
            prop_assert_eq!(String::from_utf8(output).unwrap(), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_json(&bytes);
        }
    }
}
