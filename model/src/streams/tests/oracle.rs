//! A batch computation of windows, straight from the definition: every window of every record by
//! enumeration, every aggregate over a list. Slow, and simple enough to be believed.

use std::collections::{BTreeMap, BTreeSet};

use crate::streams::plan::{Plan, Window};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    /// The filter passes it over.
    Unwanted,
    Malformed,
    WithoutTime,
}

/// A record of a partition, in the order of offsets.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) time: i64,
    pub(super) appended: i64,
    pub(super) group: char,
    /// Hundredths.
    pub(super) value: i64,
    /// An advance of time that comes before the record.
    pub(super) advance: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) filtered: u64,
    pub(super) late: u64,
    pub(super) future: u64,
    pub(super) malformed: u64,
    pub(super) no_time: u64,
    pub(super) late_pairs: u64,
}

/// A row as text; rows of one window in order.
pub(super) type Rows = Vec<(i64, i64, char, String)>;

/// An accepted record: time, partition, offset, value.
type Member = (i64, usize, usize, i64);

pub(super) struct Oracle {
    pub(super) counts: Counts,
    /// All rows, in order, without HAVING and so on.
    pub(super) windows: BTreeMap<(i64, i64, char), Vec<Member>>,
    /// The query's time after all records.
    pub(super) watermark: Option<i64>,
}

/// The ends of all windows that contain a time, by enumeration.
fn ends(window: &Window, time: i64) -> Vec<i64> {
    match window {
        Window::Hopping { size_ms, hop_ms, origin_ms } => {
            let k = (time - origin_ms - size_ms) / hop_ms - 2;
            let starts = (k..).map(|k| origin_ms + k * hop_ms).take_while(|start| *start <= time);
            starts.filter(|start| time < start + size_ms).map(|start| start + size_ms).collect()
        }
        // Days of UTC are what the tests use.
        Window::Calendar { .. } => vec![(time.div_euclid(86_400_000) + 1) * 86_400_000],
        Window::Session { .. } => Vec::new(),
    }
}

fn start(window: &Window, end: i64) -> i64 {
    match window {
        Window::Hopping { size_ms, .. } => end - size_ms,
        _ => end - 86_400_000,
    }
}

pub(super) fn batch(plan: &Plan, partitions: &[Vec<Record>]) -> Oracle {
    let mut counts = Counts::default();
    let mut windows: BTreeMap<(i64, i64, char), Vec<Member>> = BTreeMap::new();
    let mut accepted: BTreeMap<char, Vec<Member>> = BTreeMap::new();
    let mut times = Vec::new();
    let late_by = plan.time.allowed_lateness_ms;
    for (partition, records) in partitions.iter().enumerate() {
        let mut now: Option<i64> = None;
        for (offset, record) in records.iter().enumerate() {
            now = now.max(record.advance);
            let future = plan.time.max_future_ms.is_some_and(|max| record.time > record.appended + max);
            let member = (record.time, partition, offset, record.value);
            match record.kind {
                Kind::Malformed => counts.malformed += 1,
                Kind::WithoutTime => counts.no_time += 1,
                _ if future => counts.future += 1,
                Kind::Unwanted => counts.filtered += 1,
                Kind::Good => {
                    if plan.window.is_session() {
                        if now.is_some_and(|now| record.time + late_by < now) {
                            counts.late += 1;
                            counts.late_pairs += 1;
                        } else {
                            counts.accepted += 1;
                            accepted.entry(record.group).or_default().push(member);
                        }
                    } else {
                        let mut taken = false;
                        for end in ends(&plan.window, record.time) {
                            if now.is_some_and(|now| end + late_by <= now) {
                                counts.late_pairs += 1;
                            } else {
                                taken = true;
                                let key = (end, start(&plan.window, end), record.group);
                                windows.entry(key).or_default().push(member);
                            }
                        }
                        if taken {
                            counts.accepted += 1;
                        } else {
                            counts.late += 1;
                        }
                    }
                }
            }
            let moves = matches!(record.kind, Kind::Good | Kind::Unwanted) && !future;
            if moves {
                now = now.max(Some(record.time - plan.time.max_out_of_order_ms));
            }
        }
        times.push(now);
    }
    if let Window::Session { gap_ms } = plan.window {
        for (group, mut members) in accepted {
            members.sort_unstable();
            let mut session: Vec<Member> = Vec::new();
            for member in members {
                if session.last().is_some_and(|last| member.0 - last.0 > gap_ms) {
                    let done = std::mem::take(&mut session);
                    windows.insert((done[done.len() - 1].0, done[0].0, group), done);
                }
                session.push(member);
            }
            if !session.is_empty() {
                windows.insert((session[session.len() - 1].0, session[0].0, group), session);
            }
        }
    }
    Oracle { counts, windows, watermark: times.into_iter().min().flatten() }
}

/// Adds the windows without records of groups that had some not longer ago than this.
pub(super) fn fill(oracle: &mut Oracle, plan: &Plan, forget_after: i64) {
    let Window::Hopping { hop_ms, .. } = plan.window else { return };
    let real: BTreeSet<(char, i64)> = oracle.windows.keys().map(|(end, _, group)| (*group, *end)).collect();
    let (Some((first, ..)), Some((last, ..))) =
        (oracle.windows.keys().next().copied(), oracle.windows.keys().next_back().copied())
    else {
        return;
    };
    // Time may have passed windows after the last one with records.
    let passed = oracle.watermark.map_or(i64::MIN, |now| now - plan.time.allowed_lateness_ms);
    let mut end = first;
    while end <= last.max(passed) {
        for group in real.iter().map(|(group, _)| *group).collect::<BTreeSet<char>>() {
            let before = real.iter().filter(|(of, at)| *of == group && *at < end).map(|(_, at)| *at).max();
            if before.is_some_and(|before| end - before <= forget_after) {
                oracle.windows.entry((end, start(&plan.window, end), group)).or_default();
            }
        }
        end += hop_ms;
    }
}

fn hundredths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the columns of the tests' plan are for a group: count, count above zero, sum, min, max,
/// first, last, distinct, quantile 0.5 (of hundredths).
pub(super) fn columns(members: &[Member]) -> String {
    let mut members = members.to_vec();
    members.sort_unstable();
    let values: Vec<i64> = members.iter().map(|member| member.3).collect();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let text = |value: Option<&i64>| value.map_or("null".to_owned(), |value| hundredths(*value));
    let sum: i64 = values.iter().sum();
    let middle = sorted.len().saturating_sub(1);
    let (lower, upper) = (sorted.get(middle / 2), sorted.get(middle.div_ceil(2)));
    let median = lower.zip(upper).map(|(lower, upper)| {
        let (lower, upper) = (*lower as f64 / 100.0, *upper as f64 / 100.0);
        if middle.is_multiple_of(2) { lower } else { lower + (upper - lower) * 0.5 }
    });
    [
        values.len().to_string(),
        values.iter().filter(|value| **value > 0).count().to_string(),
        text((!values.is_empty()).then_some(&sum)),
        text(sorted.first()),
        text(sorted.last()),
        text(values.first()),
        text(values.last()),
        sorted.iter().collect::<BTreeSet<_>>().len().to_string(),
        median.map_or("null".to_owned(), |median| serde_json::to_string(&median).unwrap()),
    ]
    .join(" ")
}

impl Oracle {
    /// All rows in order; only those with more records than this.
    pub(super) fn rows(&self, more_than: usize) -> Rows {
        let wanted = self.windows.iter().filter(|(_, members)| members.len() >= more_than);
        wanted.map(|((end, start, group), members)| (*end, *start, *group, columns(members))).collect()
    }

    /// The first rows of each window by the sum, the largest first; without a sum last.
    pub(super) fn top(&self, more_than: usize, limit: usize) -> Rows {
        let mut by_window: BTreeMap<(i64, i64), Vec<_>> = BTreeMap::new();
        for ((end, start, group), members) in &self.windows {
            if members.len() >= more_than {
                let sum: i64 = members.iter().map(|member| member.3).sum();
                by_window.entry((*end, *start)).or_default().push((members.is_empty(), -sum, *group));
            }
        }
        let mut rows = Vec::new();
        for ((end, start), mut groups) in by_window {
            groups.sort_unstable();
            for (_, _, group) in groups.into_iter().take(limit) {
                rows.push((end, start, group, columns(&self.windows[&(end, start, group)])));
            }
        }
        rows
    }
}
