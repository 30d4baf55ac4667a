//! Expressions: from the parser's trees to those of documents.

use pubg1_model::streams::document::limits;
use serde_json::{Value as Json, json};
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, InTarget, Subscript, TypedString, UnaryOperator, Value,
    ValueWithSpan,
};
use sqlparser::tokenizer::Location;

use crate::{
    functions, interval,
    interval::Length,
    place::{SqlError, start_of},
    select::Compiler,
};

/// How many parts all expressions may have together. What a name stands for, and what BETWEEN and CASE compare, is
/// written wherever it is used, so a short text can stand for a document without end.
const PARTS_MAX: usize = 10_000;

/// What an expression can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Fields of a record.
    Record,
    /// Groups, aggregates and the window.
    Row,
}

/// Names that stand for what a record has beside its value, unless they are in double quotes.
const RECORD_PARTS: [(&str, &str); 6] = [
    ("record_key", "key"),
    ("record_time", "time"),
    ("append_time", "append_time"),
    ("event_time", "event_time"),
    ("record_partition", "partition"),
    ("record_offset", "offset"),
];

/// What a record has beside its value, by the name that it has in SQL.
pub(crate) fn record_part(ident: &Ident) -> Option<&'static str> {
    let unquoted = ident.quote_style.is_none();
    let found = RECORD_PARTS.iter().find(|(name, _)| unquoted && ident.value.eq_ignore_ascii_case(name));
    found.map(|(_, part)| *part)
}

fn refuse<T>(expr: &Expr, message: impl Into<String>) -> Result<T, SqlError> {
    Err(SqlError::new(start_of(expr), message))
}

impl Compiler {
    /// The document's form of an expression that will stand at `path`.
    pub(crate) fn expression(&mut self, expr: &Expr, path: &str, scope: Scope) -> Result<Json, SqlError> {
        self.nested(expr, path, scope, 0)
    }

    fn nested(&mut self, expr: &Expr, path: &str, scope: Scope, depth: usize) -> Result<Json, SqlError> {
        if depth > limits::EXPRESSION_DEPTH {
            return refuse(expr, format!("expressions nest at most {} deep", limits::EXPRESSION_DEPTH));
        }
        self.written += 1;
        if self.written > PARTS_MAX {
            return refuse(
                expr,
                format!("the query has more than {PARTS_MAX} parts, names replaced by what they mean"),
            );
        }
        self.places.note(path, start_of(expr));
        if scope == Scope::Row
            && let Some(column) = self.group_column(expr)
        {
            return Ok(column);
        }
        let depth = depth + 1;
        match expr {
            Expr::Nested(inner) => self.nested(inner, path, scope, depth),
            Expr::Value(value) => literal(expr, value),
            Expr::TypedString(typed) => timestamp(expr, typed),
            Expr::Interval(_) => match interval::read(expr)? {
                Length::Fixed(ms) => Ok(json!(ms)),
                Length::Week | Length::Month => refuse(expr, "weeks and months have no fixed length here"),
            },
            Expr::Identifier(ident) if scope == Scope::Row => self.row_name(ident, path),
            Expr::Identifier(ident) => match record_part(ident) {
                Some(part) => Ok(json!({ "record": part })),
                None => self.field(expr),
            },
            Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } if scope == Scope::Record => {
                self.field(expr)
            }
            Expr::BinaryOp { op: BinaryOperator::Arrow | BinaryOperator::LongArrow, .. } if scope == Scope::Record => {
                self.field(expr)
            }
            Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => refuse(expr, ungrouped(expr)),
            Expr::BinaryOp { left, op, right } => self.binary(expr, (left, op, right), path, scope, depth),
            Expr::UnaryOp { op, expr: inner } => self.unary(expr, *op, inner, path, scope, depth),
            Expr::Function(function) => self.function(function, path, scope, depth),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case((operand.as_deref(), conditions, else_result.as_deref()), path, scope, depth)
            }
            _ => self.predicate(expr, path, scope, depth),
        }
    }

    /// Tests, and functions that SQL writes in a way of their own.
    fn predicate(&mut self, expr: &Expr, path: &str, scope: Scope, depth: usize) -> Result<Json, SqlError> {
        let negate = |negated: bool, json: Json| if negated { json!({ "not": json }) } else { json };
        match expr {
            Expr::IsNull(inner) => Ok(json!({ "is_null": self.nested(inner, path, scope, depth)? })),
            Expr::IsNotNull(inner) => Ok(json!({ "not": { "is_null": self.nested(inner, path, scope, depth)? } })),
            Expr::Between { expr: value, negated, low, high } => {
                let mut part = |expr: &Expr| self.nested(expr, path, scope, depth);
                let (from, low, to, high) = (part(value)?, part(low)?, part(value)?, part(high)?);
                Ok(negate(*negated, json!({ "and": [{ ">=": [from, low] }, { "<=": [to, high] }] })))
            }
            Expr::In { expr: value, target: InTarget::List(list), negated, global: false } => {
                let value = self.nested(value, path, scope, depth)?;
                let list =
                    list.iter().map(|item| self.nested(item, path, scope, depth)).collect::<Result<Vec<_>, _>>()?;
                Ok(negate(*negated, json!({ "in": [value, list] })))
            }
            Expr::In { .. } => refuse(expr, "IN takes a list of values; sub-queries are not supported"),
            Expr::Like { negated, any: false, expr: value, pattern, escape_char: None } => {
                let value = self.nested(value, path, scope, depth)?;
                Ok(negate(*negated, json!({ "like": [value, text_of(pattern)?] })))
            }
            Expr::ILike { negated, any: false, expr: value, pattern, escape_char: None } => {
                let value = self.nested(value, path, scope, depth)?;
                let pattern = text_of(pattern)?.to_lowercase();
                Ok(negate(*negated, json!({ "like": [{ "lower": value }, pattern] })))
            }
            Expr::Like { .. } | Expr::ILike { .. } => refuse(expr, "LIKE takes a pattern, without ANY or ESCAPE"),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon, expr: value, data_type, format: None, ..
            } => {
                let function = cast(expr, data_type)?;
                Ok(json!({ function: self.nested(value, path, scope, depth)? }))
            }
            Expr::Extract { field, expr: value, .. } => {
                let part = time_part(expr, field)?;
                Ok(json!({ "date_part": [part, self.nested(value, path, scope, depth)?] }))
            }
            Expr::Floor { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                Ok(json!({ "floor": self.nested(value, path, scope, depth)? }))
            }
            Expr::Ceil { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                Ok(json!({ "ceil": self.nested(value, path, scope, depth)? }))
            }
            Expr::Substring { expr: value, substring_from: Some(from), substring_for, .. } => {
                let mut arguments =
                    vec![self.nested(value, path, scope, depth)?, self.nested(from, path, scope, depth)?];
                if let Some(length) = substring_for {
                    arguments.push(self.nested(length, path, scope, depth)?);
                }
                Ok(json!({ "substring": arguments }))
            }
            Expr::Trim { trim_where: None, trim_what: None, expr: value, trim_characters: None } => {
                Ok(json!({ "trim": self.nested(value, path, scope, depth)? }))
            }
            Expr::Subquery(_) | Expr::Exists { .. } => refuse(expr, "sub-queries are not supported"),
            other => refuse(expr, format!("`{other}` is not supported")),
        }
    }

    fn binary(
        &mut self,
        expr: &Expr,
        (left, op, right): (&Expr, &BinaryOperator, &Expr),
        path: &str,
        scope: Scope,
        depth: usize,
    ) -> Result<Json, SqlError> {
        let name = match op {
            BinaryOperator::And => "and",
            BinaryOperator::Or => "or",
            BinaryOperator::Plus => "+",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Eq => "=",
            BinaryOperator::NotEq => "<>",
            BinaryOperator::Lt => "<",
            BinaryOperator::LtEq => "<=",
            BinaryOperator::Gt => ">",
            BinaryOperator::GtEq => ">=",
            BinaryOperator::Minus => "-",
            BinaryOperator::Divide => "/",
            BinaryOperator::Modulo => "%",
            BinaryOperator::StringConcat => {
                let message = "|| is not supported: it has no value when one side has none";
                return Err(SqlError::new(start_of(expr), message).hint("CONCAT(a, b) leaves out what has no value"));
            }
            other => return refuse(expr, format!("the operator {other} is not supported")),
        };
        // A chain of one operator is one expression with many operands, not one inside the other.
        let mut operands = vec![right];
        let mut rest = left;
        while let Expr::BinaryOp { left, op: inner, right } = rest
            && inner == op
            && matches!(name, "and" | "or" | "+" | "*")
        {
            operands.push(right);
            rest = left;
        }
        operands.push(rest);
        let mut written = Vec::with_capacity(operands.len());
        for (index, operand) in operands.into_iter().rev().enumerate() {
            written.push(self.nested(operand, &format!("{path}.{name}[{index}]"), scope, depth)?);
        }
        Ok(json!({ name: written }))
    }

    fn unary(
        &mut self,
        expr: &Expr,
        op: UnaryOperator,
        inner: &Expr,
        path: &str,
        scope: Scope,
        depth: usize,
    ) -> Result<Json, SqlError> {
        match (op, inner) {
            (UnaryOperator::Minus, Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. })) => {
                number(expr, &format!("-{digits}"))
            }
            (UnaryOperator::Minus, _) => Ok(json!({ "negate": self.nested(inner, path, scope, depth)? })),
            (UnaryOperator::Plus, _) => self.nested(inner, path, scope, depth),
            (UnaryOperator::Not, _) => Ok(json!({ "not": self.nested(inner, path, scope, depth)? })),
            (other, _) => refuse(expr, format!("the operator {other} is not supported")),
        }
    }

    fn case(
        &mut self,
        (operand, conditions, otherwise): (Option<&Expr>, &[CaseWhen], Option<&Expr>),
        path: &str,
        scope: Scope,
        depth: usize,
    ) -> Result<Json, SqlError> {
        let mut branches = Vec::with_capacity(conditions.len());
        for (index, CaseWhen { condition, result }) in conditions.iter().enumerate() {
            let at = format!("{path}.case[{index}]");
            let mut condition = self.nested(condition, &format!("{at}[0]"), scope, depth)?;
            if let Some(operand) = operand {
                let operand = self.nested(operand, path, scope, depth)?;
                condition = json!({ "=": [operand, condition] });
            }
            branches.push(json!([condition, self.nested(result, &format!("{at}[1]"), scope, depth)?]));
        }
        match otherwise {
            None => Ok(json!({ "case": branches })),
            Some(value) => {
                let value = self.nested(value, &format!("{path}.else"), scope, depth)?;
                Ok(json!({ "case": branches, "else": value }))
            }
        }
    }

    fn function(&mut self, function: &Function, path: &str, scope: Scope, depth: usize) -> Result<Json, SqlError> {
        let (name, at) = function_name(function);
        if functions::aggregate(&name).is_some() {
            return match scope {
                Scope::Row => self.aggregate_column(function),
                Scope::Record => {
                    let message = format!("the aggregate {} has no value for a single record", name.to_uppercase());
                    Err(SqlError::new(at, message).hint("use HAVING for conditions on aggregates"))
                }
            };
        }
        let arguments = plain_arguments(function)?;
        if let "date_trunc" | "date_part" = name.as_str() {
            let [part, value] = arguments.as_slice() else {
                let message = format!("{} takes a part of a time and a time", name.to_uppercase());
                return Err(SqlError::new(at, message).hint("DATE_TRUNC('hour', ts)"));
            };
            self.places.note(&format!("{path}.{name}"), at);
            self.places.note(&format!("{path}.{name}[0]"), start_of(part));
            let part = text_of(part)?.to_lowercase();
            return Ok(json!({ name: [part, self.nested(value, path, scope, depth)?] }));
        }
        let Some(known) = functions::scalar(&name) else {
            let message = format!("there is no function {}", name.to_uppercase());
            return Err(SqlError::new(at, message).hint(format!("there are {}", functions::scalar_names())));
        };
        self.places.note(&format!("{path}.{known}"), at);
        let mut written = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            written.push(self.nested(argument, &format!("{path}.{known}[{index}]"), scope, depth)?);
        }
        Ok(json!({ known: written }))
    }

    /// A field of the record's value: `a.b`, `a['b c']`, `a -> 'b' ->> 'c'`, `a -> 0`.
    pub(crate) fn field(&mut self, expr: &Expr) -> Result<Json, SqlError> {
        let mut names = Vec::new();
        path_of(expr, &mut names)?;
        Ok(json!({ "field": names }))
    }
}

/// The name of a function in small letters, and where it stands.
pub(crate) fn function_name(function: &Function) -> (String, Location) {
    let idents: Vec<&Ident> = function.name.0.iter().filter_map(|part| part.as_ident()).collect();
    let at = idents.first().map_or(Location::new(1, 1), |ident| ident.span.start);
    (idents.iter().map(|ident| ident.value.to_lowercase()).collect::<Vec<_>>().join("."), at)
}

/// The arguments of a function that is no aggregate.
fn plain_arguments(function: &Function) -> Result<Vec<&Expr>, SqlError> {
    let (name, at) = function_name(function);
    let Function {
        name: _,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    } = function
    else {
        return Err(SqlError::new(at, format!("{} is called with arguments in brackets only", name.to_uppercase())));
    };
    if !within_group.is_empty() || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(SqlError::new(at, format!("{} is called with arguments only", name.to_uppercase())));
    }
    list.args.iter().map(|argument| plain_argument(argument, at)).collect()
}

/// An argument without a name.
pub(crate) fn plain_argument(argument: &FunctionArg, at: Location) -> Result<&Expr, SqlError> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        other => Err(SqlError::new(at, format!("the argument `{other}` is not supported"))),
    }
}

/// The names of a path, from the outside in.
fn path_of(expr: &Expr, names: &mut Vec<String>) -> Result<(), SqlError> {
    // Down the left side by hand: a chain of arrows may be long.
    let (mut root, mut reversed) = (expr, Vec::new());
    while let Expr::BinaryOp { left, op: BinaryOperator::Arrow | BinaryOperator::LongArrow, right } = root {
        match &**right {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name) | Value::Number(name, _), .. }) => {
                reversed.push(name.clone());
            }
            other => return refuse(other, "after -> stands a name in quotes or a position from 0"),
        }
        root = left;
    }
    match root {
        Expr::Identifier(ident) => names.push(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => names.extend(idents.iter().map(|ident| ident.value.clone())),
        Expr::CompoundFieldAccess { root, access_chain } => {
            match &**root {
                Expr::Identifier(ident) => names.push(ident.value.clone()),
                other => return refuse(other, "a path to a field begins with the field's name"),
            }
            for access in access_chain {
                names.push(accessed(expr, access)?);
            }
        }
        other => return refuse(other, "a path to a field begins with the field's name"),
    }
    names.extend(reversed.into_iter().rev());
    Ok(())
}

/// The name of a member: `.b` or `['b']`.
fn accessed(expr: &Expr, access: &AccessExpr) -> Result<String, SqlError> {
    match access {
        AccessExpr::Dot(Expr::Identifier(ident)) => Ok(ident.value.clone()),
        AccessExpr::Subscript(Subscript::Index {
            index: Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name), .. }),
        }) => Ok(name.clone()),
        _ => Err(SqlError::new(start_of(expr), "between [ and ] stands a name in single quotes")
            .hint("items -> 0 is the first of an array")),
    }
}

fn literal(expr: &Expr, value: &ValueWithSpan) -> Result<Json, SqlError> {
    match &value.value {
        Value::Number(digits, false) => number(expr, digits),
        Value::SingleQuotedString(text) => Ok(json!(text)),
        Value::Boolean(value) => Ok(json!(value)),
        Value::Null => Ok(Json::Null),
        other => refuse(expr, format!("the constant {other} is not supported")),
    }
}

/// A number as JSON. SQL also writes `.5` and `5.`, which JSON does not.
fn number(expr: &Expr, digits: &str) -> Result<Json, SqlError> {
    let (sign, rest) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (mantissa, exponent) = rest.find(['e', 'E']).map_or((rest, ""), |at| rest.split_at(at));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let dot = if part.is_empty() { "" } else { "." };
    let text = format!("{sign}{whole}{dot}{part}{exponent}");
    serde_json::from_str(&text).or_else(|_| refuse(expr, format!("the number {digits} is not supported")))
}

/// `TIMESTAMP '2013-01-01 00:00:00'`: milliseconds since 1970.
fn timestamp(expr: &Expr, typed: &TypedString) -> Result<Json, SqlError> {
    let text = match (&typed.data_type, &typed.value.value) {
        (DataType::Timestamp(None, _) | DataType::Date, Value::SingleQuotedString(text)) => text,
        _ => return refuse(expr, "of typed constants only TIMESTAMP '…' and DATE '…' are supported"),
    };
    let midnight = if typed.data_type == DataType::Date { format!("{text}T00:00") } else { text.clone() };
    match pubg1_model::streams::time::parse(&midnight) {
        Some(ms) => Ok(json!(ms)),
        None => refuse(expr, format!("{text:?} is no time in the form of RFC 3339")),
    }
}

/// A text between single quotes.
pub(crate) fn text_of(expr: &Expr) -> Result<&str, SqlError> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Ok(text),
        _ => refuse(expr, "here stands a text in single quotes"),
    }
}

fn cast(expr: &Expr, data_type: &DataType) -> Result<&'static str, SqlError> {
    match data_type {
        DataType::Varchar(None) | DataType::Text | DataType::String(None) => Ok("to_text"),
        DataType::Double(_)
        | DataType::DoublePrecision
        | DataType::Real
        | DataType::Float(_)
        | DataType::Numeric(_)
        | DataType::Decimal(_) => Ok("to_number"),
        DataType::Timestamp(None, _) => Ok("to_time"),
        other => Err(SqlError::new(start_of(expr), format!("a cast to {other} is not supported"))
            .hint("casts go to VARCHAR, DOUBLE or TIMESTAMP; ROUND and FLOOR make whole numbers")),
    }
}

fn time_part(expr: &Expr, field: &DateTimeField) -> Result<String, SqlError> {
    match field {
        DateTimeField::Isodow => Ok("day_of_week".to_owned()),
        DateTimeField::Dow => {
            Err(SqlError::new(start_of(expr), "DOW is not supported").hint("ISODOW counts from 1 (Monday) to 7"))
        }
        other => Ok(other.to_string().to_lowercase()),
    }
}

/// What is said about a name that is neither grouped nor aggregated.
pub(crate) fn ungrouped(name: &dyn std::fmt::Display) -> String {
    format!("{name} must stand in GROUP BY or inside of an aggregate")
}
