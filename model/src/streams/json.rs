//! Fields out of JSON, without building a tree: one pass that stops when all fields are found.
//!
//! The paths of a query form a tree; the pass follows it and remembers where the values lie. Where a
//! path leads to several values, because an object has a member twice, the first counts. The value is
//! read only as far as the query needs, so what is wrong behind that, or within a value that is
//! skipped, is not noticed. Objects and arrays are skipped by counting, not by recursion, so that
//! nesting costs nothing.

use std::{borrow::Cow, ops::Range};

use super::{number, plan::FieldPath, value::Value};

/// The value is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object")]
pub struct NotJson;

/// A member, or an element, that paths go through.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    children: Vec<(Box<[u8]>, usize)>,
    slot: Option<usize>,
}

/// The paths of a query. Each has a number, its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    nodes: Vec<Node>,
    slots: usize,
}

/// Where the fields of the last value lie; used again for every value.
#[derive(Clone, Debug, Default)]
pub struct Found {
    spans: Vec<Range<usize>>,
    missing: usize,
}

/// A field that was not found. JSON values are not empty, so no other has this span.
const ABSENT: Range<usize> = 0..0;

impl Fields {
    /// No paths yet.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Node::default()], slots: 0 }
    }

    /// The slot of a path; the same one for equal paths.
    pub fn slot(&mut self, path: &FieldPath) -> usize {
        let mut at = 0;
        for name in &path.0 {
            let known = self.nodes[at].children.iter().find(|(known, _)| known.as_ref() == name.as_bytes());
            at = if let Some((_, node)) = known {
                *node
            } else {
                self.nodes.push(Node::default());
                let node = self.nodes.len() - 1;
                self.nodes[at].children.push((name.as_bytes().into(), node));
                node
            };
        }
        let slots = &mut self.slots;
        *self.nodes[at].slot.get_or_insert_with(|| {
            *slots += 1;
            *slots - 1
        })
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Finds the fields of a value.
    ///
    /// # Errors
    /// [`NotJson`] if the value is no object, or something is wrong before the last field.
    pub fn find(&self, json: &[u8], found: &mut Found) -> Result<(), NotJson> {
        found.spans.clear();
        found.spans.resize(self.slots, ABSENT);
        found.missing = self.slots;
        let mut scan = Scan { json, at: 0, fields: self };
        scan.space();
        if !matches!(scan.peek(), Some(b'{')) {
            return Err(NotJson);
        }
        scan.object(0, found)?;
        if found.missing > 0 {
            scan.space();
            if scan.at != json.len() {
                return Err(NotJson);
            }
        }
        Ok(())
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl Found {
    /// The JSON text of a field.
    #[must_use]
    pub fn raw<'a>(&self, slot: usize, json: &'a [u8]) -> Option<&'a [u8]> {
        self.spans.get(slot).and_then(|span| json.get(span.clone())).filter(|raw| !raw.is_empty())
    }

    /// The value of a field; objects and arrays are their JSON text.
    #[must_use]
    pub fn value<'a>(&self, slot: usize, json: &'a [u8]) -> Value<'a> {
        self.raw(slot, json).map_or(Value::Null, value_of)
    }
}

/// The value of a JSON text that the scan has passed.
fn value_of(raw: &[u8]) -> Value<'_> {
    match raw {
        [b'"', inner @ .., b'"'] => Value::Text(unescape(inner)),
        [b'{' | b'[', ..] => Value::Text(String::from_utf8_lossy(raw)),
        [b't', ..] => Value::Bool(true),
        [b'f', ..] => Value::Bool(false),
        [b'-' | b'0'..=b'9', ..] => number::parse(raw).unwrap_or_default(),
        _ => Value::Null,
    }
}

/// The text between the quotes. What is no text (bytes that are not UTF-8, halves of surrogate
/// pairs) becomes the replacement character.
fn unescape(inner: &[u8]) -> Cow<'_, str> {
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        let escape = rest.get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match escape {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => text.push(unicode_escape(&mut rest)),
            other => text.push(char::from(other)),
        }
    }
    text.push_str(&String::from_utf8_lossy(rest));
    Cow::Owned(text)
}

/// The character of the four digits that follow, and of a second escape if they are half of a pair.
fn unicode_escape(rest: &mut &[u8]) -> char {
    fn digits(bytes: &[u8]) -> Option<u32> {
        u32::from_str_radix(str::from_utf8(bytes.get(..4)?).ok()?, 16).ok()
    }
    let Some(first) = digits(rest) else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[4..];
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    let second = rest.strip_prefix(b"\\u").and_then(digits).filter(|second| (0xdc00..0xe000).contains(second));
    let Some(second) = second else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[6..];
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    fields: &'a Fields,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        self.space();
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(NotJson)
        }
    }

    /// Whether another member or element follows; passes the comma or the closing bracket.
    fn more(&mut self, close: u8) -> Result<bool, NotJson> {
        self.space();
        let next = self.peek();
        self.at += 1;
        if next == Some(b',') {
            Ok(true)
        } else if next == Some(close) {
            Ok(false)
        } else {
            Err(NotJson)
        }
    }

    /// Passes the object that begins here; returns early once nothing is missing.
    fn object(&mut self, node: usize, found: &mut Found) -> Result<(), NotJson> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.expect(b':')?;
            self.space();
            let children = &self.fields.nodes[node].children;
            let child = if name.contains(&b'\\') {
                let name = unescape(name);
                children.iter().find(|(known, _)| known.as_ref() == name.as_bytes())
            } else {
                children.iter().find(|(known, _)| known.as_ref() == name)
            };
            match child.map(|(_, child)| *child) {
                Some(child) => self.wanted(child, found)?,
                None => self.skip()?,
            }
            if found.missing == 0 || !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Passes the array that begins here.
    fn array(&mut self, node: usize, found: &mut Found) -> Result<(), NotJson> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0_usize.. {
            self.space();
            let children = &self.fields.nodes[node].children;
            let child = children.iter().find(|(known, _)| is_decimal(known, index)).map(|(_, child)| *child);
            match child {
                Some(child) => self.wanted(child, found)?,
                None => self.skip()?,
            }
            if found.missing == 0 || !self.more(b']')? {
                break;
            }
        }
        Ok(())
    }

    /// Passes a value that is a field, or contains some.
    fn wanted(&mut self, node: usize, found: &mut Found) -> Result<(), NotJson> {
        let fields = self.fields;
        let Node { children, slot } = &fields.nodes[node];
        let start = self.at;
        if slot.is_some_and(|slot| found.spans[slot] == ABSENT) || children.is_empty() {
            self.skip()?;
            if let Some(slot) = slot
                && found.spans[*slot] == ABSENT
            {
                found.spans[*slot] = start..self.at;
                found.missing -= 1;
            }
            if children.is_empty() || found.missing == 0 {
                return Ok(());
            }
            self.at = start;
        }
        match self.peek() {
            Some(b'{') => self.object(node, found),
            Some(b'[') => self.array(node, found),
            _ => self.skip(),
        }
    }

    /// Passes a string; returns what is between its quotes.
    fn string(&mut self) -> Result<&'a [u8], NotJson> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        let start = self.at + 1;
        let end = string_end(self.json, start).ok_or(NotJson)?;
        self.at = end + 1;
        Ok(&self.json[start..end])
    }

    /// Passes a value.
    fn skip(&mut self) -> Result<(), NotJson> {
        match self.peek().ok_or(NotJson)? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            b'-' | b'0'..=b'9' => {
                let rest = &self.json[self.at..];
                let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                self.at += rest.iter().take_while(|byte| number(byte)).count();
                Ok(())
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(NotJson),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        if !self.json[self.at..].starts_with(literal) {
            return Err(NotJson);
        }
        self.at += literal.len();
        Ok(())
    }

    /// Passes an object or an array by counting brackets.
    fn skip_nested(&mut self) -> Result<(), NotJson> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(NotJson)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}

/// Where the string that goes on at `from` ends: the place of its closing quote. Eight bytes are
/// looked at together.
fn string_end(json: &[u8], from: usize) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut at = from;
    loop {
        if let Some(chunk) = json.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let special = zero_bytes(word ^ (LOW * u64::from(b'"'))) | zero_bytes(word ^ (LOW * u64::from(b'\\')));
            if special == 0 {
                at += 8;
                continue;
            }
            at += special.trailing_zeros() as usize / 8;
        }
        match json.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether the name is this number.
fn is_decimal(name: &[u8], number: usize) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
        && str::from_utf8(name).ok().and_then(|n| n.parse().ok()) == Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(json: &[u8], paths: &[&str]) -> Result<Vec<Option<String>>, NotJson> {
        let mut fields = Fields::new();
        let slots: Vec<usize> = paths.iter().map(|path| fields.slot(&FieldPath::dotted(path))).collect();
        let mut found = Found::default();
        fields.find(json, &mut found)?;
        let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
        Ok(slots.into_iter().map(|slot| found.raw(slot, json).map(text)).collect())
    }

    fn some(texts: &[&str]) -> Result<Vec<Option<String>>, NotJson> {
        Ok(texts.iter().map(|text| Some((*text).to_owned())).collect())
    }

    #[test]
    fn fields_are_found_where_they_are() {
        let json = br#" { "a" : "x\"y" , "b":{"c":[1,{"d":-2.5e3}],"e":null},"f\u0067":true }"#;
        assert_eq!(find(json, &["a", "b.c.1.d", "fg", "b.e"]), some(&[r#""x\"y""#, "-2.5e3", "true", "null"]));
        assert_eq!(find(json, &["b", "b.c.0"]), some(&[r#"{"c":[1,{"d":-2.5e3}],"e":null}"#, "1"]));
        assert_eq!(find(json, &["a.x", "z"]), Ok(vec![None, None]));
    }

    #[test]
    fn the_first_of_several_members_counts_and_nothing_behind_is_read() {
        assert_eq!(find(br#"{"a":1,"a":2,"b":3}"#, &["a", "b"]), some(&["1", "3"]));
        assert_eq!(find(br#"{"a":1,"#, &["a"]), some(&["1"]));
        assert_eq!(find(br#"{"a":1,"#, &["b"]), Err(NotJson));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for json in
            ["", "[]", "1", "{", r#"{"b""#, r#"{"b":}"#, r#"{"b":1]"#, r#"{"b":tru}"#, r#"{"b":"x}"#, "{} x", "{,}"]
        {
            assert_eq!(find(json.as_bytes(), &["a"]), Err(NotJson), "{json}");
        }
    }

    #[test]
    fn texts_are_unescaped() {
        let texts = [r"plain", r#"\"\\\/\b\f\n\r\t"#, r"\u00e9\ud83d\ude00é😀"];
        for text in texts {
            let expected: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(unescape(text.as_bytes()), expected);
        }
        assert_eq!(unescape(br"\ud800x"), "\u{fffd}x");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            any::<i32>().prop_map(|value| json!(f64::from(value) / 8.0)),
            "\\PC{0,12}".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|values| json!(values)),
                prop::collection::hash_map("[a-c\"\\\\é]", inner, 0..4).prop_map(|values| json!(values)),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_what_serde_json_finds(
            members in prop::collection::hash_map("[a-c]", any_json(), 0..4),
            path in prop::collection::vec("[a-c0-2]", 1..4),
            pretty: bool,
        ) {
            let document = json!(members);
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let expected = path.iter().try_fold(&document, |value, name| match value {
                serde_json::Value::Array(values) => values.get(name.parse::<usize>().ok()?),
                other => other.get(name),
            });
            let found = find(text.as_bytes(), &[&path.join(".")]).unwrap();
            let found: Option<serde_json::Value> = found[0].as_ref().map(|raw| serde_json::from_str(raw).unwrap());
            prop_assert_eq!(found.as_ref(), expected);
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..40) {
            let paths = ["a", "a.b", "0"];
            let _unimportant = find(&bytes, &paths);
            let valid = br#"{"a":{"b":[1,2,{"c":"\u00e9"}]},"x":tru"#;
            bytes.truncate(8);
            let mixed = [&valid[..cut.min(valid.len())], &bytes].concat();
            let _unimportant = find(&mixed, &paths);
        }
    }
}
