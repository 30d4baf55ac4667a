//! WITH: what a stream has beside its query.

use serde_json::{Value as Json, json};
use sqlparser::{
    ast::{Expr, SqlOption, Value, ValueWithSpan},
    tokenizer::Location,
};

use crate::{
    interval,
    place::{SqlError, start_of},
    select::Compiler,
};

/// Every option and where it stands in the document.
const OPTIONS: [(&str, &[&str]); 17] = [
    ("max_out_of_order", &["time", "max_out_of_order"]),
    ("allowed_lateness", &["time", "allowed_lateness"]),
    ("idle_timeout", &["time", "idle_timeout"]),
    ("max_future", &["time", "max_future"]),
    ("max_skew", &["time", "max_skew"]),
    ("time_format", &["time", "source", "format"]),
    ("emit", &["emit", "mode"]),
    ("update_interval", &["emit", "interval"]),
    ("fill", &["fill", "mode"]),
    ("fill_forget_after", &["fill", "forget_after"]),
    ("output", &["output", "topic"]),
    ("late_output", &["output", "late_topic"]),
    ("retain", &["output", "retain"]),
    ("memory", &["limits", "memory"]),
    ("start", &["start"]),
    ("stop", &["stop"]),
    ("on_gap", &["on_gap"]),
];

impl Compiler {
    /// Puts the options into the document.
    pub(crate) fn options(&mut self, options: &[SqlOption], document: &mut Json) -> Result<(), SqlError> {
        let mut given: Vec<&[&str]> = Vec::new();
        for option in options {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(SqlError::new(Location::new(1, 1), format!("the option `{option}` is not supported"))
                    .hint("WITH (name = 'value', …)"));
            };
            let at = key.0.iter().find_map(|part| part.as_ident()).map_or(start_of(value), |ident| ident.span.start);
            let name = key.to_string().to_lowercase();
            let Some((_, path)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
                let known = OPTIONS.map(|(known, _)| known).join(", ");
                return Err(SqlError::new(at, format!("there is no option {name}")).hint(format!("there are {known}")));
            };
            if given.contains(path) {
                return Err(SqlError::new(at, format!("the option {name} stands twice")));
            }
            given.push(path);
            self.places.note(&format!("$.{}", path.join(".")), start_of(value));
            let value = option_value(&name, value)?;
            if name == "time_format" && !document["time"]["source"].is_object() {
                return Err(SqlError::new(at, "only a field has a format"));
            }
            let place = path.iter().fold(&mut *document, |place, name| &mut place[*name]);
            *place = value;
        }
        Ok(())
    }
}

fn option_value(name: &str, value: &Expr) -> Result<Json, SqlError> {
    let text = match value {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text,
        Expr::Value(ValueWithSpan { value: Value::Number(digits, false), .. }) => {
            let refuse = |_| SqlError::new(start_of(value), format!("{digits} is no whole number"));
            return digits.parse::<u64>().map(Json::from).map_err(refuse);
        }
        Expr::Interval(_) => {
            let refuse = || SqlError::new(start_of(value), "weeks and months have no fixed length");
            return interval::read(value)?.text().map(Json::from).ok_or_else(refuse);
        }
        _ => return Err(SqlError::new(start_of(value), "here stands a text in single quotes, or a number")),
    };
    // A time at which to start, unless it is one of the words.
    let time = (name == "start").then(|| pubg1_model::streams::time::parse(text)).flatten();
    Ok(time.map_or_else(|| json!(text), |ms| json!({ "time": ms })))
}
