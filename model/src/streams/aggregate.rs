//! Aggregates: what is kept of the records of a group, and what is made of it.
//!
//! A cell is the state of an aggregate for one group. Cells can be merged; what they result in
//! depends on the set of records alone, except for sums of floating point numbers and variances,
//! which are merged in a fixed order (panes in order of time, then partitions).

mod distinct;
mod quantile;
mod top_k;

#[cfg(test)]
mod tests;

use self::{distinct::Distinct, quantile::Quantiles, top_k::TopK};
use super::{
    codec::{Damaged, Reader, put_f64, put_i64, put_i128, put_len, put_u64, put_value},
    expr::{Node, Scope, compile},
    json::Fields,
    plan::{Aggregate, AggregateFunction},
    value::{Decimal, Value},
};

/// What a cell keeps.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Count,
    Sum,
    Min,
    Max,
    ArgMin,
    ArgMax,
    First,
    Last,
    Distinct,
    Quantiles,
    Histogram(Vec<f64>),
    TopK(usize),
    Variance,
}

/// A cell's rule: what it keeps of which records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CellRule {
    kind: Kind,
    /// The argument; none where records are counted.
    value: Option<Node>,
    /// What the argument is chosen by.
    by: Option<Node>,
    filter: Option<Node>,
}

/// How the result of an aggregate is made.
#[derive(Clone, Debug, PartialEq)]
enum Finish {
    /// It is how many records the group has.
    Records,
    /// What the cell itself results in.
    Cell(usize),
    Avg(usize),
    Quantile(usize, f64),
    Variance {
        cell: usize,
        sample: bool,
        root: bool,
    },
}

/// The aggregates of a plan. Those that need the same state share a cell.
#[derive(Clone, Debug)]
pub(crate) struct Aggregates {
    pub(crate) rules: Vec<CellRule>,
    finishes: Vec<Finish>,
}

/// The place of a record: what `first` and `last` go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) time_ms: i64,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// A value that was chosen among others.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    value: Value<'static>,
    by: Value<'static>,
    place: Place,
}

/// The state of an aggregate.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Count(u64),
    /// The exact part in billionths, the other part, and how many numbers.
    Sum {
        exact: i128,
        float: f64,
        count: u64,
    },
    Extreme(Value<'static>),
    Chosen(Option<Box<Chosen>>),
    Distinct(Box<Distinct>),
    Quantiles(Box<Quantiles>),
    Histogram(Box<[u64]>),
    TopK(Box<TopK>),
    Variance {
        count: u64,
        mean: f64,
        squares: f64,
    },
}

impl Aggregates {
    pub(crate) fn compile(aggregates: &[Aggregate], fields: &mut Fields) -> Self {
        let mut all = Self { rules: Vec::new(), finishes: Vec::new() };
        for aggregate in aggregates {
            let filter = aggregate.filter.as_ref().map(|filter| compile(filter, fields));
            let finish = all.finish_of(&aggregate.function, filter, fields);
            all.finishes.push(finish);
        }
        all
    }

    fn finish_of(&mut self, function: &AggregateFunction, filter: Option<Node>, fields: &mut Fields) -> Finish {
        use AggregateFunction as F;
        if matches!(function, F::Count) && filter.is_none() {
            return Finish::Records;
        }
        let kind = match function {
            F::Count | F::CountOf(_) => Kind::Count,
            F::Sum(_) | F::Avg(_) => Kind::Sum,
            F::Min(_) => Kind::Min,
            F::Max(_) => Kind::Max,
            F::ArgMin { .. } => Kind::ArgMin,
            F::ArgMax { .. } => Kind::ArgMax,
            F::First(_) => Kind::First,
            F::Last(_) => Kind::Last,
            F::Distinct(_) => Kind::Distinct,
            F::Quantile { .. } => Kind::Quantiles,
            F::Histogram { edges, .. } => Kind::Histogram(edges.clone()),
            F::TopK { k, .. } => Kind::TopK(*k),
            F::Variance { .. } | F::StdDev { .. } => Kind::Variance,
        };
        let mut arguments = function.arguments().into_iter().map(|argument| compile(argument, fields));
        let rule = CellRule { kind, value: arguments.next(), by: arguments.next(), filter };
        let known = self.rules.iter().position(|known| *known == rule);
        let cell = known.unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len() - 1
        });
        match function {
            F::Avg(_) => Finish::Avg(cell),
            F::Quantile { q, .. } => Finish::Quantile(cell, *q),
            F::Variance { sample, .. } => Finish::Variance { cell, sample: *sample, root: false },
            F::StdDev { sample, .. } => Finish::Variance { cell, sample: *sample, root: true },
            _ => Finish::Cell(cell),
        }
    }

    /// The results of a group.
    pub(crate) fn results(&self, records: u64, cells: &[Cell]) -> Vec<Value<'static>> {
        let result = |finish: &Finish| match finish {
            Finish::Records => count_value(records),
            Finish::Cell(index) => {
                cells.get(*index).zip(self.rules.get(*index)).map_or(Value::Null, |(cell, rule)| cell.result(rule))
            }
            Finish::Avg(index) => cells.get(*index).map_or(Value::Null, Cell::average),
            Finish::Quantile(index, q) => match cells.get(*index) {
                Some(Cell::Quantiles(values)) => values.quantile(*q).map_or(Value::Null, Value::float),
                _ => Value::Null,
            },
            Finish::Variance { cell, sample, root } => {
                let variance = cells.get(*cell).and_then(|cell| cell.variance(*sample));
                variance.map_or(Value::Null, |variance| Value::float(if *root { variance.sqrt() } else { variance }))
            }
        };
        self.finishes.iter().map(result).collect()
    }

    /// The cells of a group without records.
    pub(crate) fn new_cells(&self) -> impl Iterator<Item = Cell> {
        self.rules.iter().map(Cell::new)
    }

    /// Takes a record into the cells of its group. Returns by how much their memory grew.
    pub(crate) fn add(&self, cells: &mut [Cell], place: Place, scope: &impl Scope) -> isize {
        let mut grown = 0;
        for (rule, cell) in self.rules.iter().zip(cells) {
            if rule.filter.as_ref().is_none_or(|filter| filter.holds(scope)) {
                let before = cell.heap_bytes();
                cell.add(rule, place, scope);
                grown += cell.heap_bytes().cast_signed() - before.cast_signed();
            }
        }
        grown
    }

    /// Adds what other cells hold, of later records or partitions. Returns by how much the memory grew.
    pub(crate) fn merge(&self, cells: &mut [Cell], others: &[Cell]) -> isize {
        let mut grown = 0;
        for (rule, (cell, other)) in self.rules.iter().zip(cells.iter_mut().zip(others)) {
            let before = cell.heap_bytes();
            cell.merge(rule, other);
            grown += cell.heap_bytes().cast_signed() - before.cast_signed();
        }
        grown
    }

    pub(crate) fn decode(&self, reader: &mut Reader<'_>) -> Result<Vec<Cell>, Damaged> {
        self.rules.iter().map(|rule| Cell::decode(rule, reader)).collect()
    }
}

fn count_value(count: u64) -> Value<'static> {
    Value::int(i64::try_from(count).unwrap_or(i64::MAX))
}

impl Cell {
    fn new(rule: &CellRule) -> Self {
        match &rule.kind {
            Kind::Count => Self::Count(0),
            Kind::Sum => Self::Sum { exact: 0, float: 0.0, count: 0 },
            Kind::Min | Kind::Max => Self::Extreme(Value::Null),
            Kind::ArgMin | Kind::ArgMax | Kind::First | Kind::Last => Self::Chosen(None),
            Kind::Distinct => Self::Distinct(Box::default()),
            Kind::Quantiles => Self::Quantiles(Box::default()),
            Kind::Histogram(edges) => Self::Histogram(vec![0; edges.len() + 1].into_boxed_slice()),
            Kind::TopK(_) => Self::TopK(Box::default()),
            Kind::Variance => Self::Variance { count: 0, mean: 0.0, squares: 0.0 },
        }
    }

    fn add(&mut self, rule: &CellRule, place: Place, scope: &impl Scope) {
        let value = match &rule.value {
            None => Value::Bool(true),
            Some(node) => node.eval(scope),
        };
        if value.is_null() {
            return;
        }
        match self {
            Self::Count(count) => *count += 1,
            Self::Sum { exact, float, count } => match value {
                Value::Exact(number) => {
                    *exact = exact.saturating_add(number.0);
                    *count += 1;
                }
                Value::Float(number) => {
                    *float += number;
                    *count += 1;
                }
                _ => {}
            },
            Self::Extreme(extreme) => {
                if extreme.is_null() || rule.prefers(&value, extreme) {
                    *extreme = value.into_owned();
                }
            }
            Self::Chosen(chosen) => {
                let by = rule.by.as_ref().map_or(Value::Null, |by| by.eval(scope));
                if rule.by.is_some() && by.is_null() {
                    return;
                }
                if chosen.as_ref().is_none_or(|chosen| rule.chooses(&by, place, chosen)) {
                    *chosen = Some(Box::new(Chosen { value: value.into_owned(), by: by.into_owned(), place }));
                }
            }
            Self::Distinct(values) => values.add(&value),
            Self::TopK(values) => {
                if let Kind::TopK(k) = rule.kind {
                    values.add(&value, k);
                }
            }
            Self::Quantiles(_) | Self::Histogram(_) | Self::Variance { .. } => {
                if let Some(number) = value.as_f64().filter(|number| number.is_finite()) {
                    self.add_number(rule, number);
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean of 2^53 numbers is not exact anyhow")]
    fn add_number(&mut self, rule: &CellRule, number: f64) {
        match self {
            Self::Quantiles(values) => values.add(number),
            Self::Histogram(counts) => {
                let Kind::Histogram(edges) = &rule.kind else { return };
                let bucket = edges.partition_point(|edge| *edge <= number);
                if let Some(count) = counts.get_mut(bucket) {
                    *count += 1;
                }
            }
            Self::Variance { count, mean, squares } => {
                *count += 1;
                let distance = number - *mean;
                *mean += distance / *count as f64;
                *squares += distance * (number - *mean);
            }
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean of 2^53 numbers is not exact anyhow")]
    fn merge(&mut self, rule: &CellRule, other: &Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(other)) => *count += other,
            (Self::Sum { exact, float, count }, Self::Sum { exact: exact_2, float: float_2, count: count_2 }) => {
                *exact = exact.saturating_add(*exact_2);
                *float += float_2;
                *count += count_2;
            }
            (Self::Extreme(extreme), Self::Extreme(other))
                if !other.is_null() && (extreme.is_null() || rule.prefers(other, extreme)) =>
            {
                *extreme = other.clone();
            }
            (Self::Chosen(chosen), Self::Chosen(Some(other)))
                if chosen.as_ref().is_none_or(|chosen| rule.chooses(&other.by, other.place, chosen)) =>
            {
                *chosen = Some(other.clone());
            }
            (Self::Distinct(values), Self::Distinct(other)) => values.merge(other),
            (Self::Quantiles(values), Self::Quantiles(other)) => values.merge(other),
            (Self::Histogram(counts), Self::Histogram(other)) => {
                for (count, other) in counts.iter_mut().zip(other) {
                    *count += other;
                }
            }
            (Self::TopK(values), Self::TopK(other)) => {
                if let Kind::TopK(k) = rule.kind {
                    values.merge(other, k);
                }
            }
            (
                Self::Variance { count, mean, squares },
                Self::Variance { count: count_2, mean: mean_2, squares: squares_2 },
            ) => {
                if *count_2 == 0 {
                    return;
                }
                if *count == 0 {
                    (*count, *mean, *squares) = (*count_2, *mean_2, *squares_2);
                    return;
                }
                let (n, n_2) = (*count as f64, *count_2 as f64);
                let distance = mean_2 - *mean;
                *count += count_2;
                let all = *count as f64;
                *mean += distance * n_2 / all;
                *squares += squares_2 + distance * distance * n * n_2 / all;
            }
            _ => {}
        }
    }

    fn result(&self, rule: &CellRule) -> Value<'static> {
        match self {
            Self::Count(count) => count_value(*count),
            Self::Sum { count: 0, .. } | Self::Chosen(None) => Value::Null,
            Self::Sum { exact, float, .. } => {
                let exact = Decimal(*exact);
                if *float == 0.0 { Value::Exact(exact) } else { Value::float(exact.to_f64() + float) }
            }
            Self::Extreme(extreme) => extreme.clone(),
            Self::Chosen(Some(chosen)) => chosen.value.clone(),
            Self::Distinct(values) => count_value(values.count()),
            Self::Histogram(counts) => Value::List(counts.iter().map(|count| count_value(*count)).collect()),
            Self::TopK(values) => match rule.kind {
                Kind::TopK(k) => values.result(k),
                _ => Value::Null,
            },
            Self::Quantiles(_) | Self::Variance { .. } => Value::Null,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is asked for")]
    fn average(&self) -> Value<'static> {
        let Self::Sum { exact, float, count } = self else { return Value::Null };
        if *count == 0 {
            return Value::Null;
        }
        Value::float((Decimal(*exact).to_f64() + float) / *count as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is asked for")]
    fn variance(&self, sample: bool) -> Option<f64> {
        let Self::Variance { count, squares, .. } = self else { return None };
        let divisor = count.checked_sub(u64::from(sample)).filter(|divisor| *divisor > 0)?;
        Some(squares / divisor as f64)
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Sum { .. } | Self::Variance { .. } | Self::Chosen(None) => 0,
            Self::Extreme(value) => value.heap_bytes(),
            Self::Chosen(Some(chosen)) => size_of::<Chosen>() + chosen.value.heap_bytes() + chosen.by.heap_bytes(),
            Self::Distinct(values) => size_of::<Distinct>() + values.heap_bytes(),
            Self::Quantiles(values) => size_of::<Quantiles>() + values.heap_bytes(),
            Self::Histogram(counts) => size_of_val(counts.as_ref()),
            Self::TopK(values) => values.heap_bytes(),
        }
    }

    /// Memory of several cells besides themselves.
    pub(crate) fn all_heap_bytes(cells: &[Self]) -> usize {
        cells.iter().map(Self::heap_bytes).sum()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Count(count) => put_u64(*count, out),
            Self::Sum { exact, float, count } => {
                // Most sums have no floating point part: the count's lowest bit says so.
                let has_float = float.to_bits() != 0;
                put_u64(count << 1 | u64::from(has_float), out);
                put_i128(*exact, out);
                if has_float {
                    put_f64(*float, out);
                }
            }
            Self::Extreme(value) => put_value(value, out),
            Self::Chosen(None) => out.push(0),
            Self::Chosen(Some(chosen)) => {
                out.push(1);
                put_value(&chosen.value, out);
                put_value(&chosen.by, out);
                put_i64(chosen.place.time_ms, out);
                put_u64(u64::from(chosen.place.partition), out);
                put_u64(chosen.place.offset, out);
            }
            Self::Distinct(values) => values.encode(out),
            Self::Quantiles(values) => values.encode(out),
            Self::Histogram(counts) => {
                put_len(counts.len(), out);
                for count in counts {
                    put_u64(*count, out);
                }
            }
            Self::TopK(values) => values.encode(out),
            Self::Variance { count, mean, squares } => {
                put_u64(*count, out);
                put_f64(*mean, out);
                put_f64(*squares, out);
            }
        }
    }

    fn decode(rule: &CellRule, reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(match &rule.kind {
            Kind::Count => Self::Count(reader.u64()?),
            Kind::Sum => {
                let count = reader.u64()?;
                let exact = reader.i128()?;
                let float = if count & 1 == 1 { reader.f64()? } else { 0.0 };
                Self::Sum { exact, float, count: count >> 1 }
            }
            Kind::Min | Kind::Max => Self::Extreme(reader.value()?),
            Kind::ArgMin | Kind::ArgMax | Kind::First | Kind::Last => match reader.u8()? {
                0 => Self::Chosen(None),
                1 => {
                    let (value, by) = (reader.value()?, reader.value()?);
                    let place = Place { time_ms: reader.i64()?, partition: reader.u32()?, offset: reader.u64()? };
                    Self::Chosen(Some(Box::new(Chosen { value, by, place })))
                }
                _ => return Err(Damaged),
            },
            Kind::Distinct => Self::Distinct(Box::new(Distinct::decode(reader)?)),
            Kind::Quantiles => Self::Quantiles(Box::new(Quantiles::decode(reader)?)),
            Kind::Histogram(edges) => {
                if reader.len(1)? != edges.len() + 1 {
                    return Err(Damaged);
                }
                let counts: Result<Vec<u64>, Damaged> = (0..=edges.len()).map(|_| reader.u64()).collect();
                Self::Histogram(counts?.into_boxed_slice())
            }
            Kind::TopK(_) => Self::TopK(Box::new(TopK::decode(reader)?)),
            Kind::Variance => Self::Variance { count: reader.u64()?, mean: reader.f64()?, squares: reader.f64()? },
        })
    }
}

impl CellRule {
    /// Whether a value takes the place of the extreme one.
    fn prefers(&self, value: &Value<'_>, extreme: &Value<'_>) -> bool {
        let order = value.total_cmp(extreme);
        if self.kind == Kind::Min { order.is_lt() } else { order.is_gt() }
    }

    /// Whether a value takes the place of the chosen one.
    fn chooses(&self, by: &Value<'_>, place: Place, chosen: &Chosen) -> bool {
        let earlier = place < chosen.place;
        match self.kind {
            Kind::First => earlier,
            Kind::Last => place > chosen.place,
            Kind::ArgMin => by.total_cmp(&chosen.by).then_with(|| place.cmp(&chosen.place)).is_lt(),
            Kind::ArgMax => chosen.by.total_cmp(by).then_with(|| place.cmp(&chosen.place)).is_lt(),
            _ => false,
        }
    }
}
