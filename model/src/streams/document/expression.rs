//! Expressions as documents write them: constants as they are, everything else an object with one member that says
//! what it is, as in `{">": [{"field": "dep_delay"}, 15]}`.

use serde_json::Number;

use super::{
    DocumentError,
    json::{At, Json},
    limits,
    operators::{BINARY, FUNCTIONS, TIME_FUNCTIONS, TIME_PARTS, arguments_text},
};
use crate::streams::{
    plan::{BinaryOp, Expr, FieldPath, Function, UnaryOp},
    value::{DECIMAL_ONE, DECIMAL_PLACES, Decimal, Value},
};

/// What names mean where an expression stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Over a record: fields, and what the record has beside its value.
    Record,
    /// Over a row of the result: columns.
    Row(&'a Names),
}

/// The names of a row's parts, each in its place in the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Names {
    pub(super) groups: Vec<String>,
    pub(super) aggregates: Vec<String>,
}

/// The parts of a row that every stream has.
pub(super) const ROW_PARTS: [(&str, Expr); 3] =
    [("window_start", Expr::WindowStart), ("window_end", Expr::WindowEnd), ("records", Expr::Records)];
/// What a record has beside its value.
const RECORD_PARTS: [(&str, Expr); 6] = [
    ("key", Expr::Key),
    ("time", Expr::RecordTime),
    ("append_time", Expr::AppendTime),
    ("event_time", Expr::EventTime),
    ("partition", Expr::Partition),
    ("offset", Expr::Offset),
];

impl Names {
    /// The part of a row that has this name.
    pub(super) fn find(&self, name: &str) -> Option<Expr> {
        let place = |names: &[String]| names.iter().position(|known| known == name);
        let part = || ROW_PARTS.iter().find(|(known, _)| *known == name).map(|(_, part)| part.clone());
        place(&self.groups).map(Expr::Group).or_else(|| place(&self.aggregates).map(Expr::Aggregate)).or_else(part)
    }

    /// The name of a part of a row.
    pub(super) fn name_of(&self, part: &Expr) -> Option<&str> {
        match part {
            Expr::Group(place) => self.groups.get(*place).map(String::as_str),
            Expr::Aggregate(place) => self.aggregates.get(*place).map(String::as_str),
            _ => ROW_PARTS.iter().find(|(_, known)| known == part).map(|(name, _)| *name),
        }
    }

    fn list(&self) -> String {
        let own = self.groups.iter().chain(&self.aggregates).map(String::as_str);
        own.chain(ROW_PARTS.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(", ")
    }
}

/// Reads an expression.
pub(super) fn read(at: &At<'_>, scope: Scope<'_>) -> Result<Expr, DocumentError> {
    read_nested(at, scope, 1)
}

fn read_nested(at: &At<'_>, scope: Scope<'_>, depth: usize) -> Result<Expr, DocumentError> {
    if depth > limits::EXPRESSION_DEPTH {
        return at.refuse(format!("expressions nest at most {} deep", limits::EXPRESSION_DEPTH));
    }
    match at.json {
        Json::Null => Ok(Expr::Literal(Value::Null)),
        Json::Bool(value) => Ok(Expr::Literal(Value::Bool(*value))),
        Json::Number(number) => Ok(Expr::Literal(number_value(number))),
        Json::String(text) => Ok(Expr::Literal(Value::text(text.clone()))),
        Json::Array(_) => at.refuse("is an array; an expression is a constant or an object like {\"field\": \"a\"}"),
        Json::Object(members) => match members.as_slice() {
            [] => at.refuse("is empty; an expression names what it is, as in {\"field\": \"a\"}"),
            [(name, json)] => {
                let inner = At { path: format!("{}.{name}", at.path), json };
                read_named(at, name, &inner, scope, depth)
            }
            members if members.iter().any(|(name, _)| name == "case") => read_case(at, scope, depth),
            _ => at.refuse("has several members; an expression has one, which says what it is"),
        },
    }
}

fn read_named(at: &At<'_>, name: &str, inner: &At<'_>, scope: Scope<'_>, depth: usize) -> Result<Expr, DocumentError> {
    match (name, scope) {
        ("field", Scope::Record) => read_field(inner).map(Expr::Field),
        ("record", Scope::Record) => {
            let part = inner.string()?;
            let found = RECORD_PARTS.iter().find(|(known, _)| *known == part).map(|(_, part)| part.clone());
            found.map_or_else(|| inner.refuse(choices("part of a record", part, RECORD_PARTS.map(|(n, _)| n))), Ok)
        }
        ("column", Scope::Row(names)) => {
            let column = inner.string()?;
            let unknown = || inner.refuse(format!("there is no column {column:?}; there are {}", names.list()));
            names.find(column).map_or_else(unknown, Ok)
        }
        ("field" | "record", Scope::Row(_)) => {
            inner.refuse("records are out of reach here: use {\"column\": …} for a group or an aggregate")
        }
        ("column", Scope::Record) => inner.refuse("columns of the result do not exist yet: use {\"field\": …}"),
        ("case", _) => read_case(at, scope, depth),
        ("in", _) => {
            let [value, list] = exactly(inner)?;
            let items = list.items()?;
            if items.is_empty() || items.len() > limits::IN_ITEMS {
                return list.refuse(format!("must have 1 to {} items", limits::IN_ITEMS));
            }
            let list = items.iter().map(|item| read_nested(item, scope, depth + 1)).collect::<Result<_, _>>()?;
            Ok(Expr::In(Box::new(read_nested(&value, scope, depth + 1)?), list))
        }
        ("like", _) => {
            let [value, pattern] = exactly(inner)?;
            Ok(Expr::Like(Box::new(read_nested(&value, scope, depth + 1)?), pattern.string()?.to_owned()))
        }
        _ => read_call(name, inner, scope, depth),
    }
}

/// Operators and functions: one name and its arguments.
fn read_call(name: &str, inner: &At<'_>, scope: Scope<'_>, depth: usize) -> Result<Expr, DocumentError> {
    if let Some((_, function)) = TIME_FUNCTIONS.iter().find(|(known, _)| *known == name) {
        let [part, value] = exactly(inner)?;
        let named = part.string()?;
        let found = TIME_PARTS.iter().find(|(known, _)| *known == named);
        let Some((_, time_part)) = found else {
            return part.refuse(choices("part of a time", named, TIME_PARTS.map(|(n, _)| n)));
        };
        return Ok(Expr::Call(function(*time_part), vec![read_nested(&value, scope, depth + 1)?]));
    }
    // A single argument needs no brackets.
    let arguments = if matches!(inner.json, Json::Array(_)) { inner.items()? } else { vec![inner.clone()] };
    let arguments: Vec<Expr> =
        arguments.iter().map(|argument| read_nested(argument, scope, depth + 1)).collect::<Result<_, _>>()?;
    let count = arguments.len();
    let expected = |text: &str| inner.refuse(format!("{name} takes {text}, not {count}"));
    if let Some((_, op)) = BINARY.iter().find(|(known, _)| *known == name) {
        return match (chain_max(*op), count) {
            (2, 2) => fold(*op, arguments).map_or_else(|| expected("two arguments"), Ok),
            (2, _) => expected("two arguments"),
            (most, count) if count < 2 || count > most => expected(&format!("2 to {most} arguments")),
            _ => fold(*op, arguments).map_or_else(|| expected("two or more arguments"), Ok),
        };
    }
    if let Some((_, function, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
        if count < *least || count > *most {
            return expected(&arguments_text(*least, *most));
        }
        return Ok(Expr::Call(*function, arguments));
    }
    let Ok([argument]) = <[Expr; 1]>::try_from(arguments) else {
        if matches!(name, "not" | "negate" | "is_null") {
            return expected("one argument");
        }
        return unknown(name, inner);
    };
    match name {
        "not" => Ok(Expr::Unary(UnaryOp::Not, Box::new(argument))),
        "negate" => Ok(Expr::Unary(UnaryOp::Negate, Box::new(argument))),
        "is_null" => Ok(Expr::IsNull(Box::new(argument))),
        _ => unknown(name, inner),
    }
}

fn unknown(name: &str, inner: &At<'_>) -> Result<Expr, DocumentError> {
    inner.refuse(format!("there is no operator or function {name:?}"))
}

fn read_case(at: &At<'_>, scope: Scope<'_>, depth: usize) -> Result<Expr, DocumentError> {
    let mut members = at.members()?;
    let listed = members.required("case")?;
    let otherwise = members.optional("else");
    members.finish()?;
    let mut branches = Vec::new();
    for branch in listed.items()? {
        let [condition, value] = exactly(&branch)?;
        branches.push((read_nested(&condition, scope, depth + 1)?, read_nested(&value, scope, depth + 1)?));
    }
    if branches.is_empty() {
        return listed.refuse("needs a condition and its value");
    }
    let otherwise = otherwise.map(|at| read_nested(&at, scope, depth + 1).map(Box::new)).transpose()?;
    Ok(Expr::Case { branches, otherwise })
}

/// A field: `"a.b"`, or `["a", "b"]` where a name contains a dot.
pub(super) fn read_field(at: &At<'_>) -> Result<FieldPath, DocumentError> {
    let path = match at.json {
        Json::Array(_) => {
            FieldPath(at.items()?.iter().map(|name| name.string().map(str::to_owned)).collect::<Result<_, _>>()?)
        }
        _ => FieldPath::dotted(at.string()?),
    };
    if path.0.is_empty() || path.0.len() > limits::FIELD_DEPTH {
        return at.refuse(format!("a path has 1 to {} names", limits::FIELD_DEPTH));
    }
    if matches!(at.json, Json::String(_)) && path.0.iter().any(String::is_empty) {
        return at.refuse("a name between dots is empty; write a list of names if the field is called so");
    }
    Ok(path)
}

fn exactly<'a, const N: usize>(at: &At<'a>) -> Result<[At<'a>; N], DocumentError> {
    let items = at.items()?;
    let count = items.len();
    <[At<'a>; N]>::try_from(items).or_else(|_| at.refuse(format!("must have {N} items, not {count}")))
}

pub(super) fn choices<const N: usize>(what: &str, given: &str, known: [&str; N]) -> String {
    format!("there is no {what} {given:?}; there are {}", known.join(", "))
}

/// Between how many operands an operator may stand.
const fn chain_max(op: BinaryOp) -> usize {
    match op {
        BinaryOp::And | BinaryOp::Or => limits::CONDITIONS,
        BinaryOp::Add | BinaryOp::Multiply => limits::TERMS,
        _ => 2,
    }
}

/// One expression of many operands. Of conditions it is a balanced tree, so that many do not nest deep; sums and
/// products go from left to right, because that is how they are rounded.
fn fold(op: BinaryOp, operands: Vec<Expr>) -> Option<Expr> {
    let join = |left, right| Expr::Binary(op, Box::new(left), Box::new(right));
    if !matches!(op, BinaryOp::And | BinaryOp::Or) {
        return operands.into_iter().reduce(join);
    }
    let mut level: Vec<Expr> = Vec::with_capacity(operands.len());
    for operand in operands {
        flatten(op, operand, &mut level);
    }
    while level.len() > 1 {
        let mut joined = Vec::with_capacity(level.len().div_ceil(2));
        let mut rest = level.into_iter();
        while let Some(left) = rest.next() {
            joined.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        level = joined;
    }
    level.pop()
}

/// The conditions that one operator links, in their order.
fn flatten(op: BinaryOp, expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::Binary(found, left, right) if found == op => {
            flatten(op, *left, out);
            flatten(op, *right, out);
        }
        other => out.push(other),
    }
}

/// A number as the engine counts it: exact where it can be.
fn number_value(number: &Number) -> Value<'static> {
    if let Some(whole) = number.as_i64() {
        return Value::int(whole);
    }
    let exact = exact_decimal(&number.to_string()).filter(|decimal| decimal.is_in_range());
    exact.map_or_else(|| Value::float(number.as_f64().unwrap_or(f64::NAN)), Value::Exact)
}

/// The decimal that a text like `-12.5` writes, with at most nine places and no exponent.
fn exact_decimal(text: &str) -> Option<Decimal> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = DECIMAL_PLACES.checked_sub(u32::try_from(places.len()).ok()?)?;
    let whole: i128 = whole.parse().ok()?;
    let part: i128 = if places.is_empty() { 0 } else { places.parse().ok()? };
    let sum = whole.checked_mul(DECIMAL_ONE)?.checked_add(part * 10_i128.pow(missing))?;
    Some(Decimal(if negative { -sum } else { sum }))
}

/// All places of a decimal. A division of floating point numbers would round twice.
fn places(decimal: Decimal) -> String {
    let sign = if decimal.0 < 0 { "-" } else { "" };
    let (whole, part) =
        (decimal.0.unsigned_abs() / DECIMAL_ONE.unsigned_abs(), decimal.0.unsigned_abs() % DECIMAL_ONE.unsigned_abs());
    format!("{sign}{whole}.{part:09}")
}

/// The number that [`number_value`] reads as this value.
fn value_number(value: &Value<'_>) -> Json {
    let number = match value {
        Value::Exact(decimal) => {
            decimal.to_int().map(Number::from).or_else(|| serde_json::from_str(&places(*decimal)).ok())
        }
        other => other.as_f64().and_then(Number::from_f64),
    };
    number.map_or(Json::Null, Json::Number)
}

/// Writes an expression so that [`read`] reads the same again.
pub(super) fn write(expr: &Expr, names: &Names) -> Json {
    let one = |name: &str, json: Json| Json::Object(vec![(name.to_owned(), json)]);
    let list = |exprs: &[Expr]| Json::Array(exprs.iter().map(|expr| write(expr, names)).collect());
    match expr {
        Expr::Literal(Value::Bool(value)) => Json::Bool(*value),
        Expr::Literal(Value::Text(text)) => Json::String(text.clone().into_owned()),
        Expr::Literal(number @ (Value::Exact(_) | Value::Float(_))) => value_number(number),
        Expr::Literal(_) => Json::Null,
        Expr::Field(path) => one("field", write_field(path)),
        Expr::Unary(UnaryOp::Not, inner) => one("not", write(inner, names)),
        Expr::Unary(UnaryOp::Negate, inner) => one("negate", write(inner, names)),
        Expr::IsNull(inner) => one("is_null", write(inner, names)),
        Expr::In(value, among) => one("in", Json::Array(vec![write(value, names), list(among)])),
        Expr::Like(value, pattern) => {
            one("like", Json::Array(vec![write(value, names), Json::String(pattern.clone())]))
        }
        Expr::Binary(op, ..) => {
            let name = BINARY.iter().find(|(_, known)| known == op).map_or("", |(name, _)| name);
            one(name, Json::Array(operands(expr, *op).into_iter().map(|operand| write(operand, names)).collect()))
        }
        Expr::Case { branches, otherwise } => {
            let pair =
                |(condition, value): &(Expr, Expr)| Json::Array(vec![write(condition, names), write(value, names)]);
            let mut members = vec![("case".to_owned(), Json::Array(branches.iter().map(pair).collect()))];
            members.extend(otherwise.iter().map(|value| ("else".to_owned(), write(value, names))));
            Json::Object(members)
        }
        Expr::Call(Function::DateTrunc(part), arguments) => one("date_trunc", write_time(*part, arguments, names)),
        Expr::Call(Function::DatePart(part), arguments) => one("date_part", write_time(*part, arguments, names)),
        Expr::Call(function, arguments) => {
            let name = FUNCTIONS.iter().find(|(_, known, ..)| known == function).map_or("", |(name, ..)| name);
            match arguments.as_slice() {
                [argument] => one(name, write(argument, names)),
                arguments => one(name, list(arguments)),
            }
        }
        part => match RECORD_PARTS.iter().find(|(_, known)| known == part) {
            Some((name, _)) => one("record", Json::String((*name).to_owned())),
            None => one("column", names.name_of(part).map_or(Json::Null, |name| Json::String(name.to_owned()))),
        },
    }
}

fn write_time(part: crate::streams::plan::TimePart, arguments: &[Expr], names: &Names) -> Json {
    let name = TIME_PARTS.iter().find(|(_, known)| *known == part).map_or("", |(name, _)| name);
    let value = arguments.first().map_or(Json::Null, |value| write(value, names));
    Json::Array(vec![Json::String(name.to_owned()), value])
}

/// The operands of a chain of one operator. Sums and products nest to the left.
fn operands(expr: &Expr, op: BinaryOp) -> Vec<&Expr> {
    let mut found = Vec::new();
    collect(expr, op, true, &mut found);
    found
}

fn collect<'a>(expr: &'a Expr, op: BinaryOp, open: bool, out: &mut Vec<&'a Expr>) {
    match expr {
        Expr::Binary(known, left, right) if *known == op && open => {
            let condition = matches!(op, BinaryOp::And | BinaryOp::Or);
            collect(left, op, chain_max(op) > 2, out);
            collect(right, op, condition, out);
        }
        other => out.push(other),
    }
}

/// Writes a field's path.
pub(super) fn write_field(path: &FieldPath) -> Json {
    let plain = !path.0.iter().any(|name| name.is_empty() || name.contains('.'));
    if plain {
        return Json::String(path.0.join("."));
    }
    Json::Array(path.0.iter().map(|name| Json::String(name.clone())).collect())
}
