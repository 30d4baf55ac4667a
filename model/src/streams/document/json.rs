//! JSON as a document needs it: members in their order, none twice, and a reader that knows where it is, so that
//! every complaint names its path.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::DocumentError;

/// A JSON value. Unlike `serde_json`'s it refuses an object that has a member twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// What it is, for people.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            if object.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!("the member {name:?} stands twice in one object")));
            }
            object.push((name, value));
        }
        Ok(Json::Object(object))
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) path: String,
    pub(super) json: &'a Json,
}

impl<'a> At<'a> {
    /// The whole document.
    pub(super) fn root(json: &'a Json) -> Self {
        Self { path: "$".to_owned(), json }
    }

    /// A complaint about this place.
    pub(super) fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, DocumentError> {
        Err(DocumentError::new(&self.path, reason))
    }

    fn mismatch<T>(&self, expected: &str) -> Result<T, DocumentError> {
        self.refuse(format!("must be {expected}, not {}", self.json.kind()))
    }

    pub(super) fn string(&self) -> Result<&'a str, DocumentError> {
        match self.json {
            Json::String(text) => Ok(text),
            _ => self.mismatch("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, DocumentError> {
        match self.json {
            Json::Bool(value) => Ok(*value),
            _ => self.mismatch("true or false"),
        }
    }

    pub(super) fn number(&self) -> Result<&'a Number, DocumentError> {
        match self.json {
            Json::Number(number) => Ok(number),
            _ => self.mismatch("a number"),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn whole(&self) -> Result<u64, DocumentError> {
        match self.json {
            Json::Number(number) => match number.as_u64() {
                Some(whole) => Ok(whole),
                None => self.refuse("must be a whole number from 0"),
            },
            _ => self.mismatch("a whole number"),
        }
    }

    pub(super) fn items(&self) -> Result<Vec<At<'a>>, DocumentError> {
        match self.json {
            Json::Array(items) => {
                let at = |(index, json)| At { path: format!("{}[{index}]", self.path), json };
                Ok(items.iter().enumerate().map(at).collect())
            }
            _ => self.mismatch("an array"),
        }
    }

    /// The members of an object, to be taken one after the other.
    pub(super) fn members(&self) -> Result<Members<'a>, DocumentError> {
        match self.json {
            Json::Object(members) => {
                Ok(Members { path: self.path.clone(), members, asked: Vec::with_capacity(members.len()) })
            }
            _ => self.mismatch("an object"),
        }
    }
}

/// An object that is being read. What nobody asked for is refused by [`Members::finish`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    path: String,
    members: &'a [(String, Json)],
    asked: Vec<&'static str>,
}

impl<'a> Members<'a> {
    pub(super) fn optional(&mut self, name: &'static str) -> Option<At<'a>> {
        self.asked.push(name);
        let (_, json) = self.members.iter().find(|(known, _)| known == name)?;
        Some(At { path: format!("{}.{name}", self.path), json })
    }

    pub(super) fn required(&mut self, name: &'static str) -> Result<At<'a>, DocumentError> {
        self.optional(name).ok_or_else(|| DocumentError::new(&format!("{}.{name}", self.path), "is missing"))
    }

    /// Refuses every member that was not asked for.
    pub(super) fn finish(self) -> Result<(), DocumentError> {
        match self.members.iter().find(|(name, _)| !self.asked.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let path = format!("{}.{name}", self.path);
                let known = self.asked.join(", ");
                Err(DocumentError::new(&path, format!("there is no such field here; there are {known}")))
            }
        }
    }
}

impl Json {
    /// An object with these members, in this order.
    pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Json)>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A number; whole ones without a point. What is no number is null.
    pub(super) fn from_f64(number: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "below 2^53, so that it fits and is exact")]
        let whole = (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
        whole.map(Number::from).or_else(|| Number::from_f64(number)).map_or(Self::Null, Self::Number)
    }

    /// The text without white space.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// The text for people: what fits into a line stands in a line.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    /// Writes the value; `indent` is that of its line, or none for the compact form.
    fn write(&self, out: &mut String, indent: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::String(text) => out.push_str(&quoted(text)),
            Self::Array(items) => {
                let items = items.iter().map(|item| (String::new(), item)).collect::<Vec<_>>();
                self.write_list(out, indent, ('[', ']'), &items);
            }
            Self::Object(members) => {
                let colon = if indent.is_some() { ": " } else { ":" };
                let member = |(name, value)| (format!("{}{colon}", quoted(name)), value);
                let members = members.iter().map(|(name, value)| member((name, value))).collect::<Vec<_>>();
                self.write_list(out, indent, ('{', '}'), &members);
            }
        }
    }

    fn write_list(&self, out: &mut String, indent: Option<usize>, ends: (char, char), items: &[(String, &Self)]) {
        let inline = indent.and_then(|indent| self.inline().filter(|text| text.len() + indent <= LINE_CHARACTERS));
        if let Some(text) = inline {
            out.push_str(&text);
            return;
        }
        out.push(ends.0);
        for (index, (head, value)) in items.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if let Some(indent) = indent {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
            }
            out.push_str(head);
            value.write(out, indent.map(|indent| indent + 2));
        }
        if let (Some(indent), false) = (indent, items.is_empty()) {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
        }
        out.push(ends.1);
    }

    /// The value in one line with spaces, unless it is certainly too long for one.
    fn inline(&self) -> Option<String> {
        let text = match self {
            Self::Array(items) => {
                let items = items.iter().map(Self::inline).collect::<Option<Vec<_>>>()?;
                format!("[{}]", items.join(", "))
            }
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| Some(format!("{}: {}", quoted(name), value.inline()?));
                format!("{{{}}}", members.iter().map(member).collect::<Option<Vec<_>>>()?.join(", "))
            }
            plain => plain.compact(),
        };
        (text.len() <= LINE_CHARACTERS).then_some(text)
    }
}

/// How long a line of the text for people is.
const LINE_CHARACTERS: usize = 100;

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(number.clone()),
            serde_json::Value::String(text) => Self::String(text.clone()),
            serde_json::Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect())
            }
        }
    }
}
