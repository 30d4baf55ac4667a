//! Rows: what comes out of a window, and how it is written.

use std::cmp::Ordering;

use super::{
    aggregate::Cell,
    engine::Row,
    group,
    plan::Plan,
    query::{Query, RowScope},
    table::GroupTable,
    value::{Value, write_json_text},
};

/// A row, and what it is ordered by.
struct Candidate {
    row: Row,
    keys: Vec<Value<'static>>,
}

/// Which rows of a window come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowState {
    pub(crate) rev: u32,
    pub(crate) is_final: bool,
}

impl Query {
    /// The row of a group, unless HAVING keeps it back.
    pub(crate) fn row(
        &self,
        bounds: (i64, i64),
        group: &[u8],
        records: u64,
        cells: &[Cell],
        state: RowState,
    ) -> Option<Row> {
        self.candidate(bounds, group, records, cells, state).map(|candidate| candidate.row)
    }

    fn candidate(
        &self,
        (start_ms, end_ms): (i64, i64),
        group: &[u8],
        records: u64,
        cells: &[Cell],
        state: RowState,
    ) -> Option<Candidate> {
        let group = self.group_values(group);
        let aggregates = self.aggregates.results(records, cells);
        let scope = RowScope { start_ms, end_ms, records, group: &group, aggregates: &aggregates };
        if self.having.as_ref().is_some_and(|having| !having.holds(&scope)) {
            return None;
        }
        let columns = self.output.iter().map(|node| node.eval(&scope).into_owned()).collect();
        let keys = self.order.iter().map(|(node, _)| node.eval(&scope).into_owned()).collect();
        let row = Row {
            window_start_ms: start_ms,
            window_end_ms: end_ms,
            columns,
            rev: state.rev,
            is_final: state.is_final,
            records,
            group,
        };
        Some(Candidate { row, keys })
    }

    /// The rows of a window's groups, in order; of a Top-N its first ones.
    pub(crate) fn rows(
        &self,
        bounds: (i64, i64),
        table: &GroupTable,
        mut state: impl FnMut(usize) -> Option<RowState>,
        out: &mut Vec<Row>,
    ) {
        let rows = table.sorted().into_iter().filter_map(|slot| {
            let state = state(slot)?;
            self.candidate(bounds, table.key(slot), table.records(slot), table.cells(slot, &self.aggregates), state)
        });
        match &self.plan.top {
            None => out.extend(rows.map(|candidate| candidate.row)),
            Some(top) => {
                let mut rows: Vec<Candidate> = rows.collect();
                // The sort is stable: ties stay in the order of their groups.
                rows.sort_by(|a, b| self.compare(&a.keys, &b.keys));
                rows.truncate(top.limit);
                out.extend(rows.into_iter().map(|candidate| candidate.row));
            }
        }
    }

    fn compare(&self, a: &[Value<'_>], b: &[Value<'_>]) -> Ordering {
        let keys = self.order.iter().zip(a.iter().zip(b));
        let orders = keys.map(|((_, descending), (a, b))| match (a.is_null(), b.is_null()) {
            (false, false) if *descending => b.total_cmp(a),
            (false, false) => a.total_cmp(b),
            // What has no value comes last.
            (a, b) => a.cmp(&b),
        });
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl Row {
    /// The row as a JSON object: the output's columns, then `window_start`, `window_end`, `rev`,
    /// `final` and `records`, those of them that no column is named like.
    #[must_use]
    pub fn to_json(&self, plan: &Plan) -> String {
        let mut out = String::with_capacity(128);
        let mut separator = '{';
        let mut member = |name: &str, value: &Value<'_>| {
            out.push(separator);
            separator = ',';
            write_json_text(name, &mut out);
            out.push(':');
            value.write_json(&mut out);
        };
        for (column, value) in plan.output.iter().zip(&self.columns) {
            member(&column.name, value);
        }
        let records = i64::try_from(self.records).unwrap_or(i64::MAX);
        for (name, value) in [
            ("window_start", Value::int(self.window_start_ms)),
            ("window_end", Value::int(self.window_end_ms)),
            ("rev", Value::int(i64::from(self.rev))),
            ("final", Value::Bool(self.is_final)),
            ("records", Value::int(records)),
        ] {
            if plan.output.iter().all(|column| column.name != name) {
                member(name, &value);
            }
        }
        out.push('}');
        out
    }

    /// The key of the row's record: the group. A single text or key is itself, a single other value
    /// its JSON, several are a JSON array; without a group there is no key.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        match self.group.as_slice() {
            [] => None,
            [Value::Text(text)] => Some(text.as_bytes().to_vec()),
            [Value::Bytes(bytes)] => Some(bytes.to_vec()),
            [value] => {
                let mut json = String::new();
                value.write_json(&mut json);
                Some(json.into_bytes())
            }
            values => {
                let mut json = String::new();
                Value::List(values.to_vec()).write_json(&mut json);
                Some(json.into_bytes())
            }
        }
    }

    /// The bytes that rows of one window are ordered by.
    #[must_use]
    pub fn group_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, value) in self.group.iter().enumerate() {
            group::push(value, index + 1 == self.group.len(), &mut out);
        }
        out
    }

    /// The time of the row's record: the last millisecond of its window, so that windows over the
    /// results contain those they are made of.
    #[must_use]
    pub const fn timestamp_ms(&self, plan: &Plan) -> i64 {
        if plan.window.is_session() { self.window_end_ms } else { self.window_end_ms - 1 }
    }
}
