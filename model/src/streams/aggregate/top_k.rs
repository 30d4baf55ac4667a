//! The most frequent values: counted exactly while there are few different ones, then the frequent
//! items of Misra and Gries, whose counts are too low by at most a known error.
//!
//! When there are more than twice `kept` counters, all lose as much as the one after the
//! `kept`-th has, and those with nothing left go. Merging adds the counters and the errors.

use std::{borrow::Cow, collections::BTreeMap};

use crate::streams::{
    codec::{Damaged, Reader, put_bytes, put_len, put_u64},
    group,
    value::Value,
};

/// How many counters are kept, for each value that is asked for and at least.
const KEPT_PER_VALUE: usize = 8;
const KEPT_MIN: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct TopK {
    /// By the bytes of the value.
    counts: BTreeMap<Box<[u8]>, u64>,
    /// By how much a count may be too low.
    error: u64,
    bytes: usize,
}

/// How many counters are kept to find `k` values.
const fn kept(k: usize) -> usize {
    let kept = k * KEPT_PER_VALUE;
    if kept < KEPT_MIN { KEPT_MIN } else { kept }
}

impl TopK {
    pub(crate) fn add(&mut self, value: &Value<'_>, k: usize) {
        let mut bytes = Vec::with_capacity(24);
        group::push(value, true, &mut bytes);
        self.add_bytes(&bytes, 1);
        self.prune(k);
    }

    fn add_bytes(&mut self, value: &[u8], count: u64) {
        if let Some(known) = self.counts.get_mut(value) {
            *known += count;
        } else {
            self.bytes += value.len();
            self.counts.insert(value.into(), count);
        }
    }

    fn prune(&mut self, k: usize) {
        let kept = kept(k);
        if self.counts.len() <= kept * 2 {
            return;
        }
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, loss, _) = counts.select_nth_unstable_by(kept, |a, b| b.cmp(a));
        let loss = *loss;
        self.error += loss;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(loss);
            *count > 0
        });
        self.bytes = self.counts.keys().map(|value| value.len()).sum();
    }

    pub(crate) fn merge(&mut self, other: &Self, k: usize) {
        for (value, count) in &other.counts {
            self.add_bytes(value, *count);
        }
        self.error += other.error;
        self.prune(k);
    }

    /// The values with their counts, the most frequent first (of equal ones the first in order), and
    /// by how much the counts may be too low.
    pub(crate) fn result(&self, k: usize) -> Value<'static> {
        let mut counts: Vec<(&[u8], u64)> = self.counts.iter().map(|(value, count)| (value.as_ref(), *count)).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let count_of = |count: u64| Value::int(i64::try_from(count).unwrap_or(i64::MAX));
        let entry = |(bytes, count): (&[u8], u64)| {
            let value = group::values(bytes, 1).and_then(|mut values| values.pop()).unwrap_or_default();
            Value::Map(vec![(Cow::Borrowed("value"), value), (Cow::Borrowed("count"), count_of(count))])
        };
        let values = counts.into_iter().take(k).map(entry).collect();
        Value::Map(vec![(Cow::Borrowed("values"), Value::List(values)), (Cow::Borrowed("error"), count_of(self.error))])
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + self.counts.len() * 40
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(self.error, out);
        put_len(self.counts.len(), out);
        for (value, count) in &self.counts {
            put_bytes(value, out);
            put_u64(*count, out);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut all = Self { error: reader.u64()?, ..Self::default() };
        for _ in 0..reader.len(2)? {
            let value = reader.bytes()?;
            all.add_bytes(value, reader.u64()?);
        }
        Ok(all)
    }
}
