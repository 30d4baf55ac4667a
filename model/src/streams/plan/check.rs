//! What a plan must be to be executed.

use super::{Aggregate, AggregateFunction, CalendarUnit, Expr, FieldPath, Function, Plan, Stages, TimeSource, Window};
use crate::streams::time::TimeZone;

/// The longest window, gap, lateness and so on: 100 years.
pub const LENGTH_MAX_MS: i64 = 100 * 366 * 86_400_000;
/// How many panes a window may be made of.
pub const PANES_MAX: i64 = 4096;
/// How deep expressions may be nested.
pub const DEPTH_MAX: usize = 64;
/// How many columns, aggregates and so on there may be.
pub const COLUMNS_MAX: usize = 256;
/// The most rows of a Top-N and the most values of a top-k.
pub const TOP_MAX: usize = 10_000;

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct PlanError {
    /// Which part of the plan, such as `window.size_ms` or `aggregates[2]`.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What an expression may see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Record,
    Row,
}

fn error<T>(part: impl Into<String>, problem: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { part: part.into(), problem: problem.into() })
}

fn length(part: &str, value: i64, min: i64) -> Result<(), PlanError> {
    if value < min || value > LENGTH_MAX_MS {
        return error(part, format!("must be from {min} to {LENGTH_MAX_MS} ms, is {value}"));
    }
    Ok(())
}

fn check_path(part: &str, path: &FieldPath) -> Result<(), PlanError> {
    if path.0.is_empty() || path.0.len() > DEPTH_MAX {
        return error(part, format!("a path has 1 to {DEPTH_MAX} names, this one has {}", path.0.len()));
    }
    Ok(())
}

impl Plan {
    /// Whether the plan can be executed.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_window()?;
        self.check_time()?;
        length("retain_ms", self.retain_ms, 0)?;
        for (part, columns) in
            [("group", self.group.len()), ("aggregates", self.aggregates.len()), ("output", self.output.len())]
        {
            if columns > COLUMNS_MAX {
                return error(part, format!("at most {COLUMNS_MAX}, there are {columns}"));
            }
        }
        if let Some(filter) = &self.filter {
            self.check_expr("filter", filter, Scope::Record)?;
        }
        for (index, column) in self.group.iter().enumerate() {
            self.check_expr(&format!("group[{index}]"), &column.expr, Scope::Record)?;
        }
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            self.check_aggregate(&format!("aggregates[{index}]"), aggregate)?;
        }
        for (index, column) in self.output.iter().enumerate() {
            self.check_expr(&format!("output[{index}]"), &column.expr, Scope::Row)?;
        }
        if let Some(having) = &self.having {
            self.check_expr("having", having, Scope::Row)?;
        }
        self.check_rows()
    }

    fn check_window(&self) -> Result<(), PlanError> {
        match &self.window {
            Window::Hopping { size_ms, hop_ms, origin_ms } => {
                length("window.size_ms", *size_ms, 1)?;
                length("window.hop_ms", *hop_ms, 1)?;
                length("window.origin_ms", origin_ms.saturating_abs(), 0)?;
                if hop_ms > size_ms {
                    return error("window.hop_ms", "must not be more than the size: records between would be lost");
                }
                let panes = size_ms / gcd(*size_ms, *hop_ms);
                if panes > PANES_MAX {
                    return error("window.hop_ms", format!("cuts a window into {panes} panes, at most {PANES_MAX}"));
                }
            }
            Window::Calendar { unit: CalendarUnit::Day | CalendarUnit::Week | CalendarUnit::Month, timezone } => {
                if TimeZone::named(timezone).is_none() {
                    return error("window.timezone", format!("{timezone:?} is not in the time zone database"));
                }
            }
            Window::Session { gap_ms } => length("window.gap_ms", *gap_ms, 0)?,
        }
        Ok(())
    }

    fn check_time(&self) -> Result<(), PlanError> {
        let time = &self.time;
        length("time.max_out_of_order_ms", time.max_out_of_order_ms, 0)?;
        length("time.allowed_lateness_ms", time.allowed_lateness_ms, 0)?;
        length("time.max_future_ms", time.max_future_ms.unwrap_or(0), 0)?;
        length("time.idle_timeout_ms", time.idle_timeout_ms.unwrap_or(0), 0)?;
        length("time.max_skew_ms", time.max_skew_ms.unwrap_or(0), 0)?;
        match &time.source {
            TimeSource::Field { path, .. } => check_path("time.source", path),
            _ => Ok(()),
        }
    }

    fn check_aggregate(&self, part: &str, aggregate: &Aggregate) -> Result<(), PlanError> {
        if let Some(filter) = &aggregate.filter {
            self.check_expr(part, filter, Scope::Record)?;
        }
        for expr in aggregate.function.arguments() {
            self.check_expr(part, expr, Scope::Record)?;
        }
        match &aggregate.function {
            AggregateFunction::Quantile { q, .. } if !(0.0..=1.0).contains(q) => {
                error(part, format!("a quantile is from 0 to 1, this is {q}"))
            }
            AggregateFunction::Histogram { edges, .. } => {
                let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
                if edges.is_empty() || edges.len() > COLUMNS_MAX || !ascending || edges.iter().any(|e| !e.is_finite()) {
                    return error(part, format!("the edges must be 1 to {COLUMNS_MAX} ascending numbers"));
                }
                Ok(())
            }
            AggregateFunction::TopK { k, .. } if *k == 0 || *k > TOP_MAX => {
                error(part, format!("k must be from 1 to {TOP_MAX}, is {k}"))
            }
            _ => Ok(()),
        }
    }

    fn check_rows(&self) -> Result<(), PlanError> {
        if self.stages == Stages::PerPartition {
            if !self.group.iter().any(|column| column.expr == Expr::Key) {
                return error("stages", "without a second stage the record key must be a column of the group");
            }
            if self.top.is_some() {
                return error("stages", "the first rows of a window are only known where all partitions meet");
            }
        }
        if let Some(top) = &self.top {
            if self.window.is_session() {
                return error("top", "sessions are windows of one group each, there is nothing to choose from");
            }
            if top.limit == 0 || top.limit > TOP_MAX {
                return error("top.limit", format!("must be from 1 to {TOP_MAX}, is {}", top.limit));
            }
            if top.order.len() > COLUMNS_MAX {
                return error("top.order", format!("at most {COLUMNS_MAX}"));
            }
            for (index, key) in top.order.iter().enumerate() {
                self.check_expr(&format!("top.order[{index}]"), &key.expr, Scope::Row)?;
            }
        }
        if let Some(fill) = &self.fill {
            if self.window.is_session() {
                return error("fill", "a session without records does not exist");
            }
            length("fill.forget_after_ms", fill.forget_after_ms, 0)?;
        }
        Ok(())
    }

    /// Whether it is computed of when records were appended. Only topics that keep that time give the same twice.
    #[must_use]
    pub fn reads_append_time(&self) -> bool {
        fn reads(expr: &Expr) -> bool {
            *expr == Expr::AppendTime || expr.children().into_iter().any(reads)
        }
        let functions = self.aggregates.iter().flat_map(|aggregate| aggregate.function.arguments());
        let filters = self.aggregates.iter().filter_map(|aggregate| aggregate.filter.as_ref());
        let groups = self.group.iter().map(|column| &column.expr);
        self.time.source == TimeSource::AppendTime
            || self.filter.iter().chain(groups).chain(functions).chain(filters).any(reads)
    }

    fn check_expr(&self, part: &str, expr: &Expr, scope: Scope) -> Result<(), PlanError> {
        self.check_nested(part, expr, scope, 0)
    }

    fn check_nested(&self, part: &str, expr: &Expr, scope: Scope, depth: usize) -> Result<(), PlanError> {
        if depth > DEPTH_MAX {
            return error(part, format!("nested more than {DEPTH_MAX} deep"));
        }
        let wanted = match expr {
            Expr::Field(path) => {
                check_path(part, path)?;
                Some(Scope::Record)
            }
            Expr::Key | Expr::RecordTime | Expr::AppendTime | Expr::EventTime | Expr::Partition | Expr::Offset => {
                Some(Scope::Record)
            }
            Expr::Group(index) if *index >= self.group.len() => return error(part, format!("no group {index}")),
            Expr::Aggregate(index) if *index >= self.aggregates.len() => {
                return error(part, format!("no aggregate {index}"));
            }
            Expr::Group(_) | Expr::Aggregate(_) | Expr::WindowStart | Expr::WindowEnd | Expr::Records => {
                Some(Scope::Row)
            }
            _ => None,
        };
        match (wanted, scope) {
            (Some(Scope::Record), Scope::Row) => return error(part, "what belongs to a record is not known in a row"),
            (Some(Scope::Row), Scope::Record) => return error(part, "what belongs to a row is not known in a record"),
            _ => {}
        }
        if let Expr::Call(function, arguments) = expr {
            let (min, max) = function.arity();
            if arguments.len() < min || arguments.len() > max {
                return error(part, format!("{function:?} takes {min} to {max} arguments, not {}", arguments.len()));
            }
        }
        for child in expr.children() {
            self.check_nested(part, child, scope, depth + 1)?;
        }
        Ok(())
    }
}

impl AggregateFunction {
    /// The expressions that it is computed of.
    #[must_use]
    pub fn arguments(&self) -> Vec<&Expr> {
        match self {
            Self::Count => Vec::new(),
            Self::CountOf(expr)
            | Self::Sum(expr)
            | Self::Avg(expr)
            | Self::Min(expr)
            | Self::Max(expr)
            | Self::First(expr)
            | Self::Last(expr)
            | Self::Distinct(expr) => vec![expr],
            Self::ArgMin { value, by } | Self::ArgMax { value, by } => vec![value, by],
            Self::Quantile { value, .. }
            | Self::Histogram { value, .. }
            | Self::TopK { value, .. }
            | Self::Variance { value, .. }
            | Self::StdDev { value, .. } => vec![value],
        }
    }
}

impl Expr {
    /// The expressions that it is made of.
    #[must_use]
    pub fn children(&self) -> Vec<&Self> {
        match self {
            Self::Unary(_, expr) | Self::IsNull(expr) | Self::Like(expr, _) => vec![expr],
            Self::Binary(_, left, right) => vec![left, right],
            Self::In(expr, list) => std::iter::once(expr.as_ref()).chain(list).collect(),
            Self::Case { branches, otherwise } => {
                let branches = branches.iter().flat_map(|(condition, value)| [condition, value]);
                branches.chain(otherwise.as_deref()).collect()
            }
            Self::Call(_, arguments) => arguments.iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Function {
    /// How many arguments it takes, at least and at most.
    #[must_use]
    pub const fn arity(self) -> (usize, usize) {
        match self {
            Self::Lower
            | Self::Upper
            | Self::Trim
            | Self::Length
            | Self::Abs
            | Self::Floor
            | Self::Ceil
            | Self::ToText
            | Self::ToNumber
            | Self::ToTime
            | Self::FormatTime
            | Self::DateTrunc(_)
            | Self::DatePart(_) => (1, 1),
            Self::Round => (1, 2),
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::NullIf => (2, 2),
            Self::Substring => (2, 3),
            Self::Replace | Self::SplitPart => (3, 3),
            Self::Concat | Self::Coalesce | Self::Greatest | Self::Least => (1, 64),
        }
    }
}

/// The greatest common divisor of two lengths above 0.
pub(crate) const fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
