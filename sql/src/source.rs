//! FROM: `TUMBLE(topic, time, size)`, `HOP(topic, time, hop, size)`, `SESSION(topic, time, gap)`.

use serde_json::{Value as Json, json};
use sqlparser::{
    ast::{
        Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, Ident, TableFactor, TableFunctionArgs, Value,
        ValueWithSpan,
    },
    tokenizer::Location,
};

use crate::{
    expression::{plain_argument, record_part, text_of},
    interval::{self, Length},
    place::{SqlError, start_of},
    select::Compiler,
    statement::Statement,
};

const HINT: &str = "FROM TUMBLE(topic, time, size), HOP(topic, time, hop, size) or SESSION(topic, time, gap)";

/// What FROM says, as parts of the document.
pub(crate) struct Source {
    pub(crate) topic: String,
    pub(crate) time: Json,
    pub(crate) window: Json,
}

impl Compiler {
    pub(crate) fn source(&mut self, statement: &Statement) -> Result<Source, SqlError> {
        let from = statement.place_of("FROM");
        let [table] = statement.select.from.as_slice() else {
            return Err(SqlError::new(from, "a stream reads one topic through a window").hint(HINT));
        };
        if !table.joins.is_empty() {
            return Err(SqlError::new(statement.place_of("JOIN"), "joins are not supported").hint(HINT));
        }
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_directives,
            inheritance: _,
        } = &table.relation
        else {
            let message = "only a window over a topic can stand here; sub-queries are not supported";
            return Err(SqlError::new(from, message).hint(HINT));
        };
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let at = idents.first().map_or(from, |ident| ident.span.start);
        if let Some(alias) = alias {
            return Err(SqlError::new(alias.name.span.start, "an alias of the window is not supported"));
        }
        let surplus = !with_hints.is_empty()
            || version.is_some()
            || *with_ordinality
            || !partitions.is_empty()
            || json_path.is_some()
            || sample.is_some()
            || !index_directives.is_empty();
        if surplus {
            return Err(SqlError::new(at, "nothing but the window can stand here").hint(HINT));
        }
        let function = idents.iter().map(|ident| ident.value.to_uppercase()).collect::<Vec<_>>().join(".");
        let Some(TableFunctionArgs { args, settings: None }) = args else {
            return Err(SqlError::new(at, format!("{function} is no window")).hint(HINT));
        };
        self.window(&function, args, at)
    }

    fn window(&mut self, function: &str, args: &[FunctionArg], at: Location) -> Result<Source, SqlError> {
        let (lengths, form) = match function {
            "TUMBLE" => (1, "TUMBLE(topic, time, size)"),
            "HOP" => (2, "HOP(topic, time, hop, size)"),
            "SESSION" => (1, "SESSION(topic, time, gap)"),
            _ => return Err(SqlError::new(at, format!("{function} is no window")).hint(HINT)),
        };
        let plain = args.iter().take_while(|arg| matches!(arg, FunctionArg::Unnamed(_))).count();
        let (plain, named) = args.split_at(plain);
        let plain = plain.iter().map(|arg| plain_argument(arg, at)).collect::<Result<Vec<_>, _>>()?;
        let [topic, time, rest @ ..] = plain.as_slice() else {
            return Err(SqlError::new(at, format!("write {form}")));
        };
        if rest.len() != lengths {
            return Err(SqlError::new(at, format!("write {form}")));
        }
        self.places.note("$.window", at);
        let options = self.window_options(named, at)?;
        let window = match function {
            "TUMBLE" => self.tumble(rest[0], options)?,
            "HOP" => {
                let (hop, size) = (self.fixed(rest[0], "$.window.hop")?, self.fixed(rest[1], "$.window.size")?);
                options.apply(json!({ "kind": "hopping", "hop": hop, "size": size }))?
            }
            _ => options.apply(json!({ "kind": "session", "gap": self.fixed(rest[0], "$.window.gap")? }))?,
        };
        self.places.note("$.input.topic", start_of(topic));
        Ok(Source { topic: topic_name(topic)?, time: self.time_source(time)?, window })
    }

    /// Days, weeks and months of a calendar, or windows of a fixed length.
    fn tumble(&mut self, size: &Expr, options: WindowOptions) -> Result<Json, SqlError> {
        let unit = match (interval::read(size)?, &options.timezone) {
            (Length::Week, _) => "week",
            (Length::Month, _) => "month",
            (Length::Fixed(86_400_000), Some(_)) => "day",
            (Length::Fixed(_), Some((_, at))) => {
                let message = "a time zone has days, weeks and months";
                return Err(SqlError::new(*at, message).hint("INTERVAL '1' DAY, WEEK or MONTH"));
            }
            (Length::Fixed(_), None) => {
                let size = self.fixed(size, "$.window.size")?;
                return options.apply(json!({ "kind": "tumbling", "size": size }));
            }
        };
        self.places.note("$.window.unit", start_of(size));
        options.apply(json!({ "kind": "calendar", "unit": unit }))
    }

    fn fixed(&mut self, expr: &Expr, path: &str) -> Result<String, SqlError> {
        self.places.note(path, start_of(expr));
        let refuse = || {
            SqlError::new(start_of(expr), "weeks and months have no fixed length")
                .hint("TUMBLE(topic, time, INTERVAL '1' MONTH) is a calendar's")
        };
        interval::read(expr)?.text().ok_or_else(refuse)
    }

    /// `origin => INTERVAL '6' HOUR`, `timezone => 'Europe/Berlin'`.
    fn window_options(&mut self, named: &[FunctionArg], at: Location) -> Result<WindowOptions, SqlError> {
        let mut options = WindowOptions::default();
        for argument in named {
            let FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator } = argument else {
                return Err(SqlError::new(at, "arguments with a name stand after those without"));
            };
            let start = name.span.start;
            if *operator != FunctionArgOperator::RightArrow {
                return Err(SqlError::new(start, format!("write {name} => …")));
            }
            match name.value.to_lowercase().as_str() {
                "origin" if options.origin.is_none() => {
                    options.origin = Some((self.fixed(value, "$.window.origin")?, start));
                }
                "timezone" if options.timezone.is_none() => {
                    self.places.note("$.window.timezone", start_of(value));
                    options.timezone = Some((text_of(value)?.to_owned(), start));
                }
                "origin" | "timezone" => return Err(SqlError::new(start, format!("{name} stands twice"))),
                other => {
                    let message = format!("a window has no option {other}");
                    return Err(SqlError::new(start, message).hint("there are origin and timezone"));
                }
            }
        }
        Ok(options)
    }

    /// The time: a field, `record_time` or `append_time`.
    fn time_source(&mut self, expr: &Expr) -> Result<Json, SqlError> {
        self.places.note("$.time.source", start_of(expr));
        if let Expr::Identifier(ident) = expr
            && let Some(part) = record_part(ident)
        {
            return match part {
                "time" => Ok(json!("record_time")),
                "append_time" => Ok(json!("append_time")),
                _ => Err(SqlError::new(ident.span.start, format!("{ident} is no time"))
                    .hint("a field, record_time or append_time")),
            };
        }
        let hint = |error: SqlError| error.hint("the time is a field, record_time or append_time");
        self.field(expr).map_err(hint)
    }
}

/// What is said of a window beside its lengths.
#[derive(Default)]
struct WindowOptions {
    origin: Option<(String, Location)>,
    timezone: Option<(String, Location)>,
}

impl WindowOptions {
    /// Adds what the kind of window has.
    fn apply(self, mut window: Json) -> Result<Json, SqlError> {
        let calendar = window["kind"] == "calendar";
        let fixed = !calendar && window["kind"] != "session";
        match self.origin {
            Some((origin, _)) if fixed => window["origin"] = json!(origin),
            Some((_, at)) => return Err(SqlError::new(at, "sessions and the calendar's windows have no origin")),
            None => {}
        }
        match self.timezone {
            Some((zone, _)) if calendar => window["timezone"] = json!(zone),
            Some((_, at)) => {
                let hint = "TUMBLE(topic, time, INTERVAL '1' DAY, timezone => 'Europe/Berlin')";
                return Err(SqlError::new(at, "only days, weeks and months have a time zone").hint(hint));
            }
            None => {}
        }
        Ok(window)
    }
}

fn topic_name(expr: &Expr) -> Result<String, SqlError> {
    match expr {
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => {
            Ok(idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join("."))
        }
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Ok(text.clone()),
        _ => Err(SqlError::new(start_of(expr), "here stands the name of a topic")
            .hint("a name with other signs stands in double quotes: \"flights-2013\"")),
    }
}
