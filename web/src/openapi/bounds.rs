//! What the types of parameters and bodies do not say and the generator therefore leaves out: how large a number may
//! be, which letters a name may have, and that the members of a JSON object are text even when they count.

use serde_json::{Map, Value, json};

/// Names of topics, as [`pubg1_model::TopicName`] accepts them.
const TOPIC: &str = "^[A-Za-z0-9._-]{1,249}$";
/// Names of consumer groups, of their instances, of those members that are instances, and of streams.
const NAME: &str = "^[A-Za-z0-9._-]{1,200}$";
/// Consumer tokens.
const TOKEN: &str = "^1[A-Za-z0-9_-]{1,4000}$";
/// Names of the viewer's files.
const FILE: &str = "^[A-Za-z0-9._-]{1,100}$";
/// A number as the name of a member.
const NUMBER: &str = "^(0|[1-9][0-9]{0,9})$";

/// Adds the bounds to the whole document.
pub(super) fn complete(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("in") && members.contains_key("schema") {
                complete_parameter(members);
            }
            if let Some(names) = members.get_mut("propertyNames").filter(|names| is_integer(names)) {
                *names = json!({"type": "string", "pattern": NUMBER});
            }
            bound_integer(members);
            members.values_mut().for_each(complete);
        }
        Value::Array(items) => items.iter_mut().for_each(complete),
        _ => {}
    }
}

fn complete_parameter(parameter: &mut Map<String, Value>) {
    let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let header = parameter.get("in").and_then(Value::as_str) == Some("header");
    let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut) else { return };
    if let Some(kinds) = schema.get("type").filter(|kinds| header && kinds.is_array()) {
        // A header is there or not; there is no null.
        if is_text(kinds) {
            schema.insert("type".to_owned(), "string".into());
        } else {
            schema.insert("type".to_owned(), "integer".into());
            schema.insert("minimum".to_owned(), 0.into());
        }
    }
    match name.as_str() {
        "Consumer-Token" => drop(schema.insert("pattern".to_owned(), TOKEN.into())),
        "Last-Event-ID" if schema.get("type").is_some_and(is_text) && !schema.contains_key("pattern") => {
            schema.insert("pattern".to_owned(), TOKEN.into());
        }
        "topic" => drop(schema.insert("pattern".to_owned(), TOPIC.into())),
        "group" | "instance" | "member" | "stream" => drop(schema.insert("pattern".to_owned(), NAME.into())),
        "file" => drop(schema.insert("pattern".to_owned(), FILE.into())),
        "Producer-Epoch" => drop(schema.insert("maximum".to_owned(), i16::MAX.into())),
        _ => {}
    }
    // Numbers of a query are read as far as 64 bits go and then cut to what there is.
    let unsigned = schema.get("minimum").is_some();
    let long = schema.get("format").is_none_or(|format| format == "int64");
    if unsigned && long && schema.get("type").is_some_and(|kind| kind == "integer") && !header {
        schema.insert("maximum".to_owned(), u64::MAX.into());
    }
}

fn bound_integer(schema: &mut Map<String, Value>) {
    let integer = match schema.get("type") {
        Some(Value::String(kind)) => kind == "integer",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "integer"),
        _ => false,
    };
    if !integer {
        return;
    }
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    schema.entry("minimum").or_insert(least.into());
    schema.entry("maximum").or_insert(most.into());
}

/// Whether a type is text, or text and null.
fn is_text(kind: &Value) -> bool {
    kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string"))
}

fn is_integer(schema: &Value) -> bool {
    schema["type"] == "integer"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_members_are_bounded() {
        let mut document = json!({
            "parameters": [
                {"in": "path", "name": "topic", "schema": {"type": "string"}},
                {"in": "query", "name": "offset", "schema": {"type": "integer", "format": "int64", "minimum": 0}},
                {"in": "header", "name": "Producer-Epoch", "schema": {"type": ["integer", "null"], "format": "int32"}},
            ],
            "leaders": {"type": "object", "propertyNames": {"type": "integer"}},
            "body": {"type": ["integer", "null"], "format": "int64", "minimum": 5},
        });
        complete(&mut document);
        let parameters = &document["parameters"];
        assert_eq!(parameters[0]["schema"]["pattern"], TOPIC);
        assert_eq!(parameters[1]["schema"]["maximum"], u64::MAX);
        let epoch = json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": i16::MAX});
        assert_eq!(parameters[2]["schema"], epoch);
        assert_eq!(document["leaders"]["propertyNames"]["type"], "string");
        assert_eq!((&document["body"]["minimum"], &document["body"]["maximum"]), (&json!(5), &json!(i64::MAX)));
    }
}
