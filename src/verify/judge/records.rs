//! Every record against the log: lost, moved, doubled, out of order, never sent.

use std::collections::HashMap;

use super::{History, Kind, Lane, Lanes, Outcome, RecordId, Verdict, log::FinalLog, name};

/// The broker's number for a gap in a producer's sequence.
const SEQUENCE_GAP: i64 = 40905;

pub(super) fn judge(history: &History, lanes: &Lanes, log: &FinalLog, verdict: &mut Verdict) {
    let mut sorted: Vec<_> = lanes.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| **key);
    for ((producer, partition), lane) in sorted {
        let first = RecordId { producer: *producer, partition: *partition, number: 0 };
        acknowledged(history.setting.committed, first, lane, log, verdict);
        in_order(first, lane, verdict);
    }
    stored(history, lanes, log, verdict);
    if history.setting.idempotent {
        for write in &history.writes {
            if write.outcome == (Outcome::Refused { code: SEQUENCE_GAP }) {
                verdict.accuse(Kind::SequenceRefused, || format!("{} was refused as a gap", name(write.first())));
            }
        }
        stored_in_order(log, verdict);
    }
}

/// Every acknowledged record is where its acknowledgement said.
fn acknowledged(promised: bool, first: RecordId, lane: &Lane, log: &FinalLog, verdict: &mut Verdict) {
    for (id, offset) in (0..).map(|number| first.plus(number)).zip(&lane.places) {
        let Some(offset) = *offset else { continue };
        let place = (id.partition, offset);
        if log.at(place) == Some(id) {
            continue;
        }
        match log.place(id) {
            _ if !promised => verdict.lost_without_promise += 1,
            Some((partition, found)) => verdict.accuse(Kind::Moved, || {
                format!("{} was acknowledged at offset {offset} and is at {found} of partition {partition}", name(id))
            }),
            None if !log.knows(id.partition) => {}
            None => verdict
                .accuse(Kind::Lost, || format!("{} was acknowledged at offset {offset} and is nowhere", name(id))),
        }
    }
}

/// A producer sends a batch when it knows the fate of the one before: places rise with numbers.
fn in_order(first: RecordId, lane: &Lane, verdict: &mut Verdict) {
    let mut highest = None;
    for (id, offset) in (0..).map(|number| first.plus(number)).zip(&lane.places) {
        let Some(offset) = *offset else { continue };
        if highest.is_some_and(|highest| offset <= highest) {
            verdict.accuse(Kind::Reordered, || {
                format!("{} was acknowledged at {offset}, below one that was written before it", name(id))
            });
        }
        highest = highest.max(Some(offset));
    }
}

/// Every stored record was sent, and not stored more often than it may be.
fn stored(history: &History, lanes: &Lanes, log: &FinalLog, verdict: &mut Verdict) {
    for ((partition, offset), id) in log.iter() {
        let lane = lanes.get(&(id.producer, id.partition)).filter(|lane| id.number < lane.sent);
        let Some(lane) = lane else {
            let what = || format!("{} is at offset {offset} of partition {partition}", name(id));
            verdict.accuse(Kind::NeverSent, what);
            continue;
        };
        if lane.attempts(id.number).may_have_stored == 0 {
            let what = || format!("{} is at offset {offset} of partition {partition}", name(id));
            verdict.accuse(Kind::RefusedYetStored, what);
        }
    }
    for (id, more) in log.repeated().filter(|(id, _)| !id.is_foreign()) {
        let lane = lanes.get(&(id.producer, id.partition));
        let attempts = lane.map_or(0, |lane| lane.attempts(id.number).may_have_stored);
        let allowed = if history.setting.idempotent { 1 } else { attempts.max(1) };
        if more + 1 > allowed {
            let what = || format!("{} is stored {} times after {attempts} attempts", name(id), more + 1);
            verdict.accuse(Kind::Duplicated, what);
        } else {
            verdict.repeated += more;
        }
    }
}

/// With idempotence not even a repeated request may come in between.
fn stored_in_order(log: &FinalLog, verdict: &mut Verdict) {
    let mut highest: HashMap<(u32, u32), u64> = HashMap::new();
    for ((partition, offset), id) in log.iter() {
        // In the wrong partition or more than once: other promises.
        if id.is_foreign() || id.partition != partition || log.place(id) != Some((partition, offset)) {
            continue;
        }
        let last = highest.entry((id.producer, id.partition)).or_insert(id.number);
        if id.number < *last {
            let what = || format!("{} stands behind record {last} at offset {offset}", name(id));
            verdict.accuse(Kind::Reordered, what);
        }
        *last = (*last).max(id.number);
    }
}
