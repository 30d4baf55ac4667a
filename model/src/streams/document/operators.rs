//! The names of operators and functions in documents and in SQL.

use crate::streams::plan::{BinaryOp, Function, TimePart};

/// Operators on two values.
pub(super) const BINARY: [(&str, BinaryOp); 13] = [
    ("and", BinaryOp::And),
    ("or", BinaryOp::Or),
    ("=", BinaryOp::Equal),
    ("<>", BinaryOp::NotEqual),
    ("<", BinaryOp::Less),
    ("<=", BinaryOp::LessOrEqual),
    (">", BinaryOp::Greater),
    (">=", BinaryOp::GreaterOrEqual),
    ("+", BinaryOp::Add),
    ("-", BinaryOp::Subtract),
    ("*", BinaryOp::Multiply),
    ("/", BinaryOp::Divide),
    ("%", BinaryOp::Remainder),
];

const MANY: usize = super::limits::ARGUMENTS;

/// Functions: name, function, fewest and most arguments.
pub(super) const FUNCTIONS: [(&str, Function, usize, usize); 23] = [
    ("lower", Function::Lower, 1, 1),
    ("upper", Function::Upper, 1, 1),
    ("trim", Function::Trim, 1, 1),
    ("length", Function::Length, 1, 1),
    ("substring", Function::Substring, 2, 3),
    ("concat", Function::Concat, 1, MANY),
    ("replace", Function::Replace, 3, 3),
    ("starts_with", Function::StartsWith, 2, 2),
    ("ends_with", Function::EndsWith, 2, 2),
    ("contains", Function::Contains, 2, 2),
    ("split_part", Function::SplitPart, 3, 3),
    ("abs", Function::Abs, 1, 1),
    ("floor", Function::Floor, 1, 1),
    ("ceil", Function::Ceil, 1, 1),
    ("round", Function::Round, 1, 2),
    ("coalesce", Function::Coalesce, 1, MANY),
    ("nullif", Function::NullIf, 2, 2),
    ("greatest", Function::Greatest, 1, MANY),
    ("least", Function::Least, 1, MANY),
    ("to_text", Function::ToText, 1, 1),
    ("to_number", Function::ToNumber, 1, 1),
    ("to_time", Function::ToTime, 1, 1),
    ("format_time", Function::FormatTime, 1, 1),
];

/// What makes a function of a part of a time.
type TimeFunction = fn(TimePart) -> Function;

/// Functions whose first argument names a part of a time.
pub(super) const TIME_FUNCTIONS: [(&str, TimeFunction); 2] =
    [("date_trunc", Function::DateTrunc), ("date_part", Function::DatePart)];

/// Parts of a time.
pub(super) const TIME_PARTS: [(&str, TimePart); 8] = [
    ("second", TimePart::Second),
    ("minute", TimePart::Minute),
    ("hour", TimePart::Hour),
    ("day", TimePart::Day),
    ("day_of_week", TimePart::DayOfWeek),
    ("week", TimePart::Week),
    ("month", TimePart::Month),
    ("year", TimePart::Year),
];

/// The names of all functions that an expression may call.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, ..)| *name).chain(TIME_FUNCTIONS.iter().map(|(name, _)| *name))
}

/// `one argument`, `2 or 3 arguments`.
pub(super) fn arguments_text(least: usize, most: usize) -> String {
    match (least, most) {
        (1, 1) => "one argument".to_owned(),
        (least, most) if least == most => format!("{least} arguments"),
        (least, most) => format!("{least} to {most} arguments"),
    }
}
