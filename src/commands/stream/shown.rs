//! A row as it comes from a broker, for people: its columns in their order, then the window.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::rows::{cell, time_cell};

/// What every row has beside the query's columns.
const OWN: [&str; 5] = ["window_start", "window_end", "rev", "final", "records"];

/// A row's members, in their order.
#[derive(Debug, PartialEq)]
pub(super) struct ShownRow(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for ShownRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = ShownRow;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShownRow, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(ShownRow(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl ShownRow {
    fn member(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// The columns of the query: name and value.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter(|(name, _)| !OWN.contains(&name.as_str())).map(|(name, value)| (name.as_str(), value))
    }

    /// The start or the end of the window, for people.
    pub(super) fn time(&self, name: &str) -> String {
        self.member(name).map_or_else(String::new, |value| value.as_i64().map_or_else(|| cell(value), time_cell))
    }

    /// `final` or `open`.
    pub(super) fn state(&self) -> &'static str {
        if self.member("final").and_then(Value::as_bool).unwrap_or(true) { "final" } else { "open" }
    }

    /// A member of its own, for people.
    pub(super) fn own(&self, name: &str) -> String {
        self.member(name).map_or_else(String::new, cell)
    }

    /// The row in one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{} {}", self.time("window_start"), self.time("window_end"));
        for (name, value) in self.columns() {
            line.push_str(&format!(" {name}={}", cell(value)));
        }
        if self.state() == "open" {
            line.push_str(" (open)");
        }
        match self.own("rev").as_str() {
            "" | "0" => {}
            rev => line.push_str(&format!(" (rev {rev})")),
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_order_of_its_columns() {
        let text = r#"{"z":"EWR","a":1.5,"window_start":0,"window_end":60000,"rev":2,"final":false,"records":7}"#;
        let row: ShownRow = serde_json::from_str(text).unwrap();
        assert_eq!(row.line(), "1970-01-01T00:00:00Z 1970-01-01T00:01:00Z z=EWR a=1.5 (open) (rev 2)");
        assert_eq!(row.columns().map(|(name, _)| name).collect::<Vec<_>>(), ["z", "a"]);
        assert!(serde_json::from_str::<ShownRow>("[]").is_err());
    }
}
