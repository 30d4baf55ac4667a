//! What a stream does, in words: the answer to `explain`.

use super::{
    OnGap, Start, Stop, StreamDocument,
    columns::size_text,
    duration::format_duration,
    expression::Names,
    operators::{BINARY, FUNCTIONS, TIME_PARTS},
};
use crate::streams::{
    plan::{
        Aggregate, AggregateFunction, BinaryOp, CalendarUnit, Emit, Expr, FieldPath, Function, Stages, TimeRule,
        TimeSource, UnaryOp, Window,
    },
    value::Value,
};

impl StreamDocument {
    /// What the stream does, line by line: a word, and what it says.
    #[must_use]
    pub fn explain(&self) -> Vec<(&'static str, String)> {
        let plan = &self.plan;
        let text = |expr: &Expr| expression(expr, &self.names);
        let mut lines = vec![("stream", self.name.to_string()), ("reads", self.reads())];
        lines.extend(plan.filter.iter().map(|filter| ("where", text(filter))));
        lines.push(("time", source(&plan.time.source)));
        lines.extend(waits(&plan.time, &plan.window));
        lines.push(("windows", windows(&plan.window)));
        let groups = plan.group.iter().map(|column| named(&column.name, text(&column.expr)));
        let groups = groups.collect::<Vec<_>>().join(", ");
        lines.push(("groups", if groups.is_empty() { "none: one row a window".to_owned() } else { groups }));
        let aggregates = self.names.aggregates.iter().zip(&plan.aggregates);
        lines.extend(aggregates.map(|(name, found)| ("computes", format!("{name} = {}", self.aggregate(found)))));
        let columns = plan.output.iter().map(|column| named(&column.name, text(&column.expr)));
        lines.push(("row", columns.collect::<Vec<_>>().join(", ") + "; window_start, window_end, records, rev, final"));
        lines.extend(plan.having.iter().map(|having| ("having", text(having))));
        lines.extend(plan.top.iter().map(|top| {
            let key = |key: &crate::streams::plan::OrderBy| {
                format!("{}{}", text(&key.expr), if key.descending { " descending" } else { "" })
            };
            let keys = top.order.iter().map(key).collect::<Vec<_>>().join(", ");
            ("first", format!("the first {} rows of each window by {keys}; ties by the group", top.limit))
        }));
        lines.extend(plan.fill.map(|fill| {
            let length = format_duration(fill.forget_after_ms);
            (
                "fill",
                format!("windows in which a known group has no records get a row, for {length} after its last one"),
            )
        }));
        lines.push(("rows", emits(plan.emit)));
        lines.push(("stages", stages(plan.stages)));
        lines.push(("output", format!("{}; what is in no window goes to {}", self.output, self.late_output)));
        let (retain, memory) = (format_duration(plan.retain_ms), size_text(plan.memory_max_bytes as u64));
        lines.push(("keeps", format!("closed windows for {retain}; at {memory} of state it pauses")));
        lines
    }

    fn reads(&self) -> String {
        let start = match &self.start {
            Start::Earliest => "the oldest record".to_owned(),
            Start::Latest => "what comes after it was made".to_owned(),
            Start::Time(ms) => format!("the first record of {ms} ms since 1970"),
            Start::Offsets(offsets) => {
                let offsets = offsets.iter().map(|(partition, offset)| format!("{partition}: {offset}"));
                format!("offsets {}", offsets.collect::<Vec<_>>().join(", "))
            }
        };
        let stop = match self.stop {
            Stop::Never => "on and on",
            Stop::Latest => "to the end that the log has then, and closes all windows",
        };
        let gap = match self.on_gap {
            OnGap::Fail => "stops when records were deleted before it read them",
            OnGap::Skip => "passes over records that were deleted before it read them",
        };
        format!("{}, from {start}, {stop}; {gap}", self.input)
    }

    fn aggregate(&self, aggregate: &Aggregate) -> String {
        let arguments = aggregate.function.arguments();
        let mut arguments: Vec<String> = arguments.iter().map(|argument| expression(argument, &self.names)).collect();
        let name = match &aggregate.function {
            AggregateFunction::Count => return filtered("COUNT(*)".to_owned(), aggregate, &self.names),
            AggregateFunction::CountOf(_) => "COUNT",
            AggregateFunction::Sum(_) => "SUM",
            AggregateFunction::Avg(_) => "AVG",
            AggregateFunction::Min(_) => "MIN",
            AggregateFunction::Max(_) => "MAX",
            AggregateFunction::ArgMin { .. } => "ARG_MIN",
            AggregateFunction::ArgMax { .. } => "ARG_MAX",
            AggregateFunction::First(_) => "FIRST",
            AggregateFunction::Last(_) => "LAST",
            AggregateFunction::Distinct(_) => {
                let call = format!("COUNT(DISTINCT {})", arguments.join(", "));
                return filtered(call, aggregate, &self.names);
            }
            AggregateFunction::Quantile { q, .. } => {
                arguments.push(q.to_string());
                "QUANTILE"
            }
            AggregateFunction::Histogram { edges, .. } => {
                arguments.extend(edges.iter().map(f64::to_string));
                "HISTOGRAM"
            }
            AggregateFunction::TopK { k, .. } => {
                arguments.push(k.to_string());
                "TOP_K"
            }
            AggregateFunction::Variance { sample: true, .. } => "VAR_SAMP",
            AggregateFunction::Variance { .. } => "VAR_POP",
            AggregateFunction::StdDev { sample: true, .. } => "STDDEV_SAMP",
            AggregateFunction::StdDev { .. } => "STDDEV_POP",
        };
        filtered(format!("{name}({})", arguments.join(", ")), aggregate, &self.names)
    }
}

fn filtered(call: String, aggregate: &Aggregate, names: &Names) -> String {
    match &aggregate.filter {
        None => call,
        Some(filter) => format!("{call} FILTER (WHERE {})", expression(filter, names)),
    }
}

/// A name and what it stands for, unless that is the same.
fn named(name: &str, text: String) -> String {
    if name == text { text } else { format!("{name} = {text}") }
}

fn source(source: &TimeSource) -> String {
    match source {
        TimeSource::RecordTime => "the record's timestamp".to_owned(),
        TimeSource::AppendTime => "when the log took the record".to_owned(),
        TimeSource::Field { path, .. } => format!("the field {}", field(path)),
    }
}

fn waits(time: &TimeRule, window: &Window) -> [(&'static str, String); 2] {
    let disorder = format_duration(time.max_out_of_order_ms);
    let lateness = format_duration(time.allowed_lateness_ms);
    let late = match window {
        Window::Session { .. } => format!("a record that is older than that by more than {lateness} is late"),
        _ => format!("a window is closed {lateness} after its end; what comes for it then is late"),
    };
    let watermark = format!("a partition's watermark is its greatest time less {disorder}; {late}");
    let idle = match time.idle_timeout_ms {
        None => "silent partitions are waited for".to_owned(),
        Some(ms) => format!("a partition without new records for {} is not waited for", format_duration(ms)),
    };
    let future = match time.max_future_ms {
        None => "no time is too far in the future".to_owned(),
        Some(ms) => format!("a time more than {} after the append moves nothing", format_duration(ms)),
    };
    let skew = time.max_skew_ms.map_or_else(String::new, |ms| {
        format!("; a partition more than {} ahead of the others is not read on", format_duration(ms))
    });
    [("watermark", watermark), ("silence", format!("{idle}; {future}{skew}"))]
}

fn windows(window: &Window) -> String {
    let from = |origin: i64| {
        if origin == 0 { String::new() } else { format!(", one of them starting at {}", format_duration(origin)) }
    };
    match window {
        Window::Hopping { size_ms, hop_ms, origin_ms } if size_ms == hop_ms => {
            format!("of {}, one after the other{}", format_duration(*size_ms), from(*origin_ms))
        }
        Window::Hopping { size_ms, hop_ms, origin_ms } => {
            let (size, hop) = (format_duration(*size_ms), format_duration(*hop_ms));
            format!("of {size}, one every {hop}{}", from(*origin_ms))
        }
        Window::Calendar { unit, timezone } => {
            let unit = match unit {
                CalendarUnit::Day => "days",
                CalendarUnit::Week => "weeks, from Monday,",
                CalendarUnit::Month => "months",
            };
            format!("{unit} of {timezone}")
        }
        Window::Session { gap_ms } => {
            format!("sessions: records of a group at most {} apart, and what they link", format_duration(*gap_ms))
        }
    }
}

fn emits(emit: Emit) -> String {
    match emit {
        Emit::Final => "come out when their window closes".to_owned(),
        Emit::Updates { interval_ms } => {
            format!("come out every {} when they have changed, and at the close", format_duration(interval_ms))
        }
        Emit::FinalAndUpdates { interval_ms } => {
            format!("come out every {} when they have changed, and all at the close", format_duration(interval_ms))
        }
    }
}

fn stages(stages: Stages) -> String {
    match stages {
        Stages::PerPartition => "one: a group has the record key, so it is in one partition",
        Stages::Merged => {
            "two: the partitions' results for a group are merged when they close; with the record key in the group \
             and WHERE record_key IS NOT NULL, and without a Top-N, one would do"
        }
    }
    .to_owned()
}

/// An expression as SQL writes it.
fn expression(expr: &Expr, names: &Names) -> String {
    let inner = |expr: &Expr| expression(expr, names);
    let list = |exprs: &[Expr]| exprs.iter().map(inner).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Literal(value) => literal(value),
        Expr::Field(path) => field(path),
        Expr::Key => "record_key".to_owned(),
        Expr::RecordTime => "record_time".to_owned(),
        Expr::AppendTime => "append_time".to_owned(),
        Expr::EventTime => "event_time".to_owned(),
        Expr::Partition => "record_partition".to_owned(),
        Expr::Offset => "record_offset".to_owned(),
        Expr::Group(_) | Expr::Aggregate(_) | Expr::WindowStart | Expr::WindowEnd | Expr::Records => {
            names.name_of(expr).unwrap_or_default().to_owned()
        }
        Expr::Unary(UnaryOp::Not, value) => match &**value {
            Expr::IsNull(value) => format!("{} IS NOT NULL", operand(value, names)),
            value => format!("NOT {}", operand(value, names)),
        },
        Expr::Unary(UnaryOp::Negate, value) => format!("-{}", operand(value, names)),
        Expr::Binary(op, left, right) => {
            let name = BINARY.iter().find(|(_, known)| known == op).map_or("", |(name, _)| name).to_uppercase();
            format!("{} {name} {}", beside(left, *op, names), operand(right, names))
        }
        Expr::IsNull(value) => format!("{} IS NULL", operand(value, names)),
        Expr::In(value, among) => format!("{} IN ({})", operand(value, names), list(among)),
        Expr::Like(value, pattern) => format!("{} LIKE {}", operand(value, names), quoted(pattern)),
        Expr::Case { branches, otherwise } => {
            let branch =
                |(condition, value): &(Expr, Expr)| format!(" WHEN {} THEN {}", inner(condition), inner(value));
            let otherwise = otherwise.as_ref().map_or_else(String::new, |value| format!(" ELSE {}", inner(value)));
            format!("CASE{}{otherwise} END", branches.iter().map(branch).collect::<String>())
        }
        Expr::Call(function, arguments) => {
            let (name, part) = match function {
                Function::DateTrunc(part) => ("DATE_TRUNC".to_owned(), Some(part)),
                Function::DatePart(part) => ("DATE_PART".to_owned(), Some(part)),
                other => {
                    let name = FUNCTIONS.iter().find(|(_, known, ..)| known == other).map_or("", |(name, ..)| name);
                    (name.to_uppercase(), None)
                }
            };
            let part = part.and_then(|part| TIME_PARTS.iter().find(|(_, known)| known == part));
            let part = part.map_or_else(String::new, |(name, _)| format!("'{name}', "));
            format!("{name}({part}{})", list(arguments))
        }
    }
}

/// An operand, in brackets where it would be torn apart.
fn operand(expr: &Expr, names: &Names) -> String {
    let text = expression(expr, names);
    let whole = !matches!(expr, Expr::Binary(..) | Expr::Unary(..) | Expr::IsNull(_) | Expr::In(..) | Expr::Like(..));
    if whole { text } else { format!("({text})") }
}

/// The left operand: a chain of one operator needs no brackets.
fn beside(expr: &Expr, op: BinaryOp, names: &Names) -> String {
    match expr {
        Expr::Binary(inner, ..) if *inner == op => expression(expr, names),
        _ => operand(expr, names),
    }
}

fn literal(value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string().to_uppercase(),
        Value::Text(text) => quoted(text),
        Value::Exact(decimal) => {
            decimal.to_int().map_or_else(|| decimal.to_f64().to_string(), |whole| whole.to_string())
        }
        Value::Float(float) => float.to_string(),
        _ => "NULL".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A field's path as SQL writes it.
fn field(path: &FieldPath) -> String {
    let plain = |name: &String| {
        let mut characters = name.chars();
        characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let name = |name: &String| if plain(name) { name.clone() } else { format!("\"{}\"", name.replace('"', "\"\"")) };
    path.0.iter().map(name).collect::<Vec<_>>().join(".")
}
