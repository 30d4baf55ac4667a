//! A plan made ready: expressions compiled, fields numbered, the group's fast paths chosen.

use std::sync::Arc;

use super::{
    aggregate::Aggregates,
    engine::InputRecord,
    expr::{Leaf, Node, Scope, borrow, compile},
    group,
    json::{Fields, Found},
    plan::{Plan, PlanError, TimeFormat, TimeSource, Window},
    time,
    value::Value,
    window::Windows,
};

/// A query that can be executed.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) plan: Arc<Plan>,
    /// The fields that are read; none: the values are not looked at.
    pub(crate) fields: Fields,
    pub(crate) time: Time,
    pub(crate) filter: Option<Node>,
    pub(crate) group: GroupBy,
    pub(crate) aggregates: Aggregates,
    pub(crate) windows: Windows,
    pub(crate) output: Vec<Node>,
    pub(crate) having: Option<Node>,
    /// Keys of the order, and whether the largest comes first.
    pub(crate) order: Vec<(Node, bool)>,
    pub(crate) lateness_ms: i64,
}

/// Where the time of a record is.
#[derive(Clone, Debug)]
pub(crate) enum Time {
    Record,
    Append,
    Field(usize, TimeFormat),
}

/// What makes the group of a record.
#[derive(Clone, Debug)]
pub(crate) enum GroupBy {
    /// All records are one group.
    Nothing,
    /// The record key.
    Key,
    /// One field.
    Field(usize),
    Several(Vec<Node>),
}

impl Query {
    pub(crate) fn compile(plan: Arc<Plan>) -> Result<Self, PlanError> {
        plan.check()?;
        let mut fields = Fields::new();
        let time = match &plan.time.source {
            TimeSource::RecordTime => Time::Record,
            TimeSource::AppendTime => Time::Append,
            TimeSource::Field { path, format } => Time::Field(fields.slot(path), *format),
        };
        let filter = plan.filter.as_ref().map(|filter| compile(filter, &mut fields));
        let columns: Vec<Node> = plan.group.iter().map(|column| compile(&column.expr, &mut fields)).collect();
        let group = match columns.as_slice() {
            [] => GroupBy::Nothing,
            [Node::Leaf(Leaf::Key)] => GroupBy::Key,
            [Node::Field(slot)] => GroupBy::Field(*slot),
            _ => GroupBy::Several(columns),
        };
        let aggregates = Aggregates::compile(&plan.aggregates, &mut fields);
        // A row has no fields.
        let mut none = Fields::new();
        let output = plan.output.iter().map(|column| compile(&column.expr, &mut none)).collect();
        let having = plan.having.as_ref().map(|having| compile(having, &mut none));
        let keys = plan.top.iter().flat_map(|top| &top.order);
        let order = keys.map(|key| (compile(&key.expr, &mut none), key.descending)).collect();
        let windows = Windows::new(&plan.window)
            .ok_or_else(|| PlanError { part: "window".to_owned(), problem: "cannot be executed".to_owned() })?;
        let lateness_ms = plan.time.allowed_lateness_ms;
        Ok(Self { fields, time, filter, group, aggregates, windows, output, having, order, lateness_ms, plan })
    }

    pub(crate) fn gap_ms(&self) -> i64 {
        match self.plan.window {
            Window::Session { gap_ms } => gap_ms,
            _ => 0,
        }
    }

    /// The values of a group's columns.
    pub(crate) fn group_values(&self, bytes: &[u8]) -> Vec<Value<'static>> {
        let columns = self.plan.group.len();
        group::values(bytes, columns).unwrap_or_else(|| vec![Value::Null; columns])
    }
}

/// A record, and where its fields are.
pub(crate) struct RecordScope<'a> {
    pub(crate) record: &'a InputRecord<'a>,
    pub(crate) found: &'a Found,
    pub(crate) partition: u32,
    pub(crate) time_ms: i64,
}

impl Scope for RecordScope<'_> {
    fn field(&self, slot: usize) -> Value<'_> {
        self.found.value(slot, self.record.value.unwrap_or_default())
    }

    fn leaf(&self, leaf: Leaf) -> Value<'_> {
        match leaf {
            Leaf::Key => group::key_value(self.record.key),
            // A record that has none, as in a file, says so by a time that is none.
            Leaf::RecordTime if self.record.timestamp_ms.unsigned_abs() > time::TIME_MAX_MS.unsigned_abs() => {
                Value::Null
            }
            Leaf::RecordTime => Value::int(self.record.timestamp_ms),
            Leaf::AppendTime => self.record.append_time_ms.map_or(Value::Null, Value::int),
            Leaf::EventTime => Value::int(self.time_ms),
            Leaf::Partition => Value::int(i64::from(self.partition)),
            Leaf::Offset => i64::try_from(self.record.offset).map_or(Value::Null, Value::int),
            _ => Value::Null,
        }
    }
}

impl RecordScope<'_> {
    /// The time of the record, if it has one that windows can be made for.
    pub(crate) fn time(&self, time: &Time) -> Option<i64> {
        let at_ms = match time {
            Time::Record => self.record.timestamp_ms,
            Time::Append => self.record.append_time_ms?,
            Time::Field(slot, format) => time::read(&self.field(*slot), *format)?,
        };
        (at_ms.unsigned_abs() <= time::TIME_MAX_MS.unsigned_abs()).then_some(at_ms)
    }

    /// The bytes of the record's group, into `out`.
    pub(crate) fn group(&self, group: &GroupBy, out: &mut Vec<u8>) {
        out.clear();
        match group {
            GroupBy::Nothing => {}
            GroupBy::Key => group::push_key(self.record.key, true, out),
            GroupBy::Field(slot) => group::push(&self.field(*slot), true, out),
            GroupBy::Several(columns) => {
                for (index, column) in columns.iter().enumerate() {
                    group::push(&column.eval(self), index + 1 == columns.len(), out);
                }
            }
        }
    }
}

/// A row in the making.
pub(crate) struct RowScope<'a> {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) records: u64,
    pub(crate) group: &'a [Value<'static>],
    pub(crate) aggregates: &'a [Value<'static>],
}

impl Scope for RowScope<'_> {
    fn leaf(&self, leaf: Leaf) -> Value<'_> {
        match leaf {
            Leaf::Group(index) => self.group.get(index).map_or(Value::Null, borrow),
            Leaf::Aggregate(index) => self.aggregates.get(index).map_or(Value::Null, borrow),
            Leaf::WindowStart => Value::int(self.start_ms),
            Leaf::WindowEnd => Value::int(self.end_ms),
            Leaf::Records => i64::try_from(self.records).map_or(Value::Null, Value::int),
            _ => Value::Null,
        }
    }
}
