//! What a query is, once it has been understood: the types that the window engine executes.
//!
//! A declaration (a JSON document, or SQL) is compiled to a [`Plan`]; [`Plan::check`] says what is
//! wrong with one. All times are milliseconds since 1970, UTC; all lengths are milliseconds.
//!
//! Expressions have two scopes. In the scope of a **record** (filter, groups, arguments and filters
//! of aggregates) they see fields, key and times; in the scope of a **row** (output, HAVING, Top-N)
//! they see groups, aggregates and the window. What is not in scope has no value.

use super::value::Value;

mod check;

pub(crate) use check::gcd;
pub use check::{COLUMNS_MAX, DEPTH_MAX, LENGTH_MAX_MS, PANES_MAX, PlanError, TOP_MAX};

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Into which windows a record falls.
    pub window: Window,
    /// What time a record has and how long it is waited for.
    pub time: TimeRule,
    /// Records for which this is not true are passed over (but move the time).
    pub filter: Option<Expr>,
    /// What makes the groups of a window; none: one group per window.
    pub group: Vec<GroupColumn>,
    /// What is computed for each group of a window.
    pub aggregates: Vec<Aggregate>,
    /// The columns of a row, in order, in the scope of a row.
    pub output: Vec<OutputColumn>,
    /// Rows for which this is not true do not come out; scope of a row.
    pub having: Option<Expr>,
    /// Only the first rows of each window come out.
    pub top: Option<Top>,
    /// When rows come out.
    pub emit: Emit,
    /// Rows for windows in which a known group has no records.
    pub fill: Option<Fill>,
    /// How long after its close a window can still be read and corrected.
    pub retain_ms: i64,
    /// Whether the partitions' results meet in a second stage.
    pub stages: Stages,
    /// How many bytes of state the query may hold before it pauses.
    pub memory_max_bytes: usize,
}

/// Into which windows a record falls. A window contains its start, not its end; a session both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Windows `[origin + k·hop, … + size)`; tumbling when `hop_ms` is `size_ms`.
    Hopping {
        /// How long a window is.
        size_ms: i64,
        /// From the start of one to the start of the next; at most `size_ms`.
        hop_ms: i64,
        /// The start of one of them.
        origin_ms: i64,
    },
    /// Days, weeks (from Monday) or months of a time zone.
    Calendar {
        /// Which of them.
        unit: CalendarUnit,
        /// A name of the time zone database, such as `Europe/Berlin`.
        timezone: String,
    },
    /// Records of a group at most `gap_ms` apart, and what they link.
    Session {
        /// The largest distance.
        gap_ms: i64,
    },
}

/// A length of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first to the first.
    Month,
}

/// The time of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeRule {
    /// Where a record's time stands.
    pub source: TimeSource,
    /// `B`: how much later than its successors a record may come.
    pub max_out_of_order_ms: i64,
    /// `L`: how long after its end a window stays open.
    pub allowed_lateness_ms: i64,
    /// A record whose time is further than this after its append is diverted; `None`: never.
    pub max_future_ms: Option<i64>,
    /// After how long a silence of a partition the others do not wait for it; `None`: they do.
    pub idle_timeout_ms: Option<i64>,
    /// How far a partition may be ahead of the query's time before it is not read further.
    pub max_skew_ms: Option<i64>,
}

/// Where a record's time stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The record's timestamp.
    RecordTime,
    /// When the record was appended to the log.
    AppendTime,
    /// A field of the value.
    Field {
        /// Which.
        path: FieldPath,
        /// What it means.
        format: TimeFormat,
    },
}

/// What a field with a time means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// A number is milliseconds since 1970, a text is RFC 3339 (without a zone: UTC).
    #[default]
    Auto,
    /// A number of seconds since 1970; decimals count.
    Seconds,
    /// A number of milliseconds since 1970.
    Millis,
    /// A number of microseconds since 1970.
    Micros,
    /// A number of nanoseconds since 1970.
    Nanos,
    /// A text in the form of RFC 3339; `T` may be a space, seconds and zone may be absent.
    Rfc3339,
}

/// The way to a field of a JSON value: member names from the outside in. An element of an array is
/// named by its position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<String>);

/// A column of the group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupColumn {
    /// Its name.
    pub name: String,
    /// Its value, in the scope of a record.
    pub expr: Expr,
}

/// A column of the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its value, in the scope of a row.
    pub expr: Expr,
}

/// An aggregate over the records of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// What is computed.
    pub function: AggregateFunction,
    /// Only records for which this is true count; scope of a record.
    pub filter: Option<Expr>,
}

/// What is computed over the records of a group. Records for which the argument has no value (or,
/// where numbers are needed, no number) are passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateFunction {
    /// How many records.
    Count,
    /// How many records with a value.
    CountOf(Expr),
    /// The sum; no value without numbers.
    Sum(Expr),
    /// The mean; no value without numbers.
    Avg(Expr),
    /// The smallest value.
    Min(Expr),
    /// The largest value.
    Max(Expr),
    /// The value where another one is smallest; the earliest of several.
    ArgMin {
        /// The value wanted.
        value: Expr,
        /// The value that is compared.
        by: Expr,
    },
    /// The value where another one is largest; the earliest of several.
    ArgMax {
        /// The value wanted.
        value: Expr,
        /// The value that is compared.
        by: Expr,
    },
    /// The first value, by time, partition and offset.
    First(Expr),
    /// The last value, by time, partition and offset.
    Last(Expr),
    /// How many different values: exact to 1,024, then estimated.
    Distinct(Expr),
    /// A quantile: exact to 64 values, then within 1 %.
    Quantile {
        /// Of what.
        value: Expr,
        /// Which, from 0 to 1.
        q: f64,
    },
    /// How many values lie below the first edge, between the edges, and at or above the last.
    Histogram {
        /// Of what.
        value: Expr,
        /// The edges, ascending.
        edges: Vec<f64>,
    },
    /// The most frequent values and their counts.
    TopK {
        /// Of what.
        value: Expr,
        /// How many.
        k: usize,
    },
    /// The variance.
    Variance {
        /// Of what.
        value: Expr,
        /// Of a sample (divided by n − 1) instead of the whole.
        sample: bool,
    },
    /// The square root of the variance.
    StdDev {
        /// Of what.
        value: Expr,
        /// Of a sample (divided by n − 1) instead of the whole.
        sample: bool,
    },
}

/// The first rows of each window. Ties are broken by the group's bytes. Not for sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// What the rows are ordered by, the most important first; scope of a row.
    pub order: Vec<OrderBy>,
    /// How many come out.
    pub limit: usize,
}

/// One key of an order. Rows without a value come last.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderBy {
    /// The key; scope of a row.
    pub expr: Expr,
    /// The largest first.
    pub descending: bool,
}

/// When rows come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// When a window closes.
    Final,
    /// What has changed, every `interval_ms`, and at the close what has changed since.
    Updates {
        /// How often.
        interval_ms: i64,
    },
    /// Both: what has changed, every `interval_ms`, and every window when it closes.
    FinalAndUpdates {
        /// How often.
        interval_ms: i64,
    },
}

/// Rows of windows without records. Not for sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// For how long after the last window in which it had records a group is filled up.
    pub forget_after_ms: i64,
}

/// Whether the partitions' results meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    /// Every partition by itself: the group contains the record key, which stays in its partition.
    PerPartition,
    /// In a second stage.
    Merged,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A constant.
    Literal(Value<'static>),
    /// Record: a field of the value. Objects and arrays are their JSON text.
    Field(FieldPath),
    /// Record: its key, as a text if it is one.
    Key,
    /// Record: its timestamp.
    RecordTime,
    /// Record: when it was appended.
    AppendTime,
    /// Record: the time by which it is put into windows.
    EventTime,
    /// Record: its partition.
    Partition,
    /// Record: its offset.
    Offset,
    /// Row: a column of the group, by its place in [`Plan::group`].
    Group(usize),
    /// Row: an aggregate, by its place in [`Plan::aggregates`].
    Aggregate(usize),
    /// Row: the start of the window; of a session its first record's time.
    WindowStart,
    /// Row: the end of the window; of a session its last record's time.
    WindowEnd,
    /// Row: how many records the row is made of.
    Records,
    /// An operator on one value.
    Unary(UnaryOp, Box<Expr>),
    /// An operator on two values.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// Whether there is no value.
    IsNull(Box<Expr>),
    /// Whether a value is among others.
    In(Box<Expr>, Vec<Expr>),
    /// Whether a text matches a pattern of `%` and `_`; `\` takes away their meaning.
    Like(Box<Expr>, String),
    /// The value of the first condition that is true.
    Case {
        /// Conditions and their values.
        branches: Vec<(Expr, Expr)>,
        /// What it is otherwise.
        otherwise: Option<Box<Expr>>,
    },
    /// A function.
    Call(Function, Vec<Expr>),
}

/// An operator on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// Logical not.
    Not,
    /// Minus.
    Negate,
}

/// An operator on two values. As in SQL: without one of them there is no result, except that AND
/// and OR have one when the other decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// Both.
    And,
    /// One of them.
    Or,
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// The sum.
    Add,
    /// The difference.
    Subtract,
    /// The product.
    Multiply,
    /// The quotient, a floating point number unless it is exact; by zero: no value.
    Divide,
    /// The remainder, of the sign of the dividend; by zero: no value.
    Remainder,
}

/// A function. Arguments that are not of the kind it needs give no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `(text)`: small letters.
    Lower,
    /// `(text)`: capital letters.
    Upper,
    /// `(text)`: without white space at both ends.
    Trim,
    /// `(text)`: how many characters.
    Length,
    /// `(text, from, characters?)`: a part; the first character is 1.
    Substring,
    /// `(value, …)`: one after the other as text; what has no value is left out.
    Concat,
    /// `(text, what, by)`: every `what` replaced.
    Replace,
    /// `(text, prefix)`.
    StartsWith,
    /// `(text, suffix)`.
    EndsWith,
    /// `(text, part)`.
    Contains,
    /// `(text, separator, n)`: the n-th part, from 1.
    SplitPart,
    /// `(number)`: without its sign.
    Abs,
    /// `(number)`: the largest whole number not above it.
    Floor,
    /// `(number)`: the smallest whole number not below it.
    Ceil,
    /// `(number, places?)`: rounded, halves away from zero.
    Round,
    /// `(value, …)`: the first that is there.
    Coalesce,
    /// `(a, b)`: none if they are equal, else `a`.
    NullIf,
    /// `(value, …)`: the largest.
    Greatest,
    /// `(value, …)`: the smallest.
    Least,
    /// `(value)`: as a text.
    ToText,
    /// `(value)`: as a number, also from a text.
    ToNumber,
    /// `(value)`: milliseconds from RFC 3339.
    ToTime,
    /// `(milliseconds)`: as RFC 3339.
    FormatTime,
    /// `(milliseconds)`: the beginning of its part of the UTC calendar.
    DateTrunc(TimePart),
    /// `(milliseconds)`: the number of its part of the UTC calendar.
    DatePart(TimePart),
}

/// A part of the UTC calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// The second, 0 to 59.
    Second,
    /// The minute, 0 to 59.
    Minute,
    /// The hour, 0 to 23.
    Hour,
    /// The day of the month, from 1.
    Day,
    /// The day of the week, from 1 (Monday) to 7; truncates to the day.
    DayOfWeek,
    /// The week of ISO 8601; truncates to Monday.
    Week,
    /// The month, from 1.
    Month,
    /// The year.
    Year,
}

impl Window {
    /// Windows one after the other, from 1970 on.
    #[must_use]
    pub const fn tumbling(size_ms: i64) -> Self {
        Self::Hopping { size_ms, hop_ms: size_ms, origin_ms: 0 }
    }

    /// Whether it is a session.
    #[must_use]
    pub const fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }
}

impl Default for TimeRule {
    fn default() -> Self {
        Self {
            source: TimeSource::RecordTime,
            max_out_of_order_ms: 0,
            allowed_lateness_ms: 0,
            max_future_ms: Some(600_000),
            idle_timeout_ms: Some(10_000),
            max_skew_ms: None,
        }
    }
}

impl Emit {
    /// Whether rows come out before the close.
    #[must_use]
    pub const fn has_updates(self) -> bool {
        !matches!(self, Self::Final)
    }
}

impl FieldPath {
    /// The path of dotted text: `a.b` is the member `b` of the member `a`.
    #[must_use]
    pub fn dotted(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }
}

impl Plan {
    /// How many records each window has, of all records; a start for tests and for compilers.
    #[must_use]
    pub fn count(window: Window) -> Self {
        Self {
            window,
            time: TimeRule::default(),
            filter: None,
            group: Vec::new(),
            aggregates: vec![Aggregate { function: AggregateFunction::Count, filter: None }],
            output: vec![OutputColumn { name: "count".to_owned(), expr: Expr::Aggregate(0) }],
            having: None,
            top: None,
            emit: Emit::Final,
            fill: None,
            retain_ms: 0,
            stages: Stages::Merged,
            memory_max_bytes: 256 << 20,
        }
    }
}
