//! Every replica against the leader: the same batches, byte for byte.

use std::collections::HashMap;

use super::{History, Kind, Verdict};
use crate::verify::history::{Copy, StoredBatch};

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let leaders = history.copies.iter().filter(|copy| copy.replica.is_none());
    let leaders: HashMap<u32, &Copy> = leaders.map(|copy| (copy.partition, copy)).collect();
    for partition in (0..).take(history.setting.first_offsets.len()) {
        if !leaders.contains_key(&partition) {
            verdict.accuse(Kind::ReplicaUnread, || format!("partition {partition} was not read at all"));
        }
    }
    for copy in &history.copies {
        let holder = copy.replica.map_or("its leader".to_owned(), |broker| format!("broker {broker}"));
        if let Some(error) = &copy.error {
            let what = || format!("partition {} at {holder}, from offset {} on: {error}", copy.partition, copy.end);
            verdict.accuse(Kind::ReplicaUnread, what);
        }
        epochs_rise(copy, &holder, verdict);
        let Some(leader) = leaders.get(&copy.partition).filter(|_| copy.replica.is_some()) else { continue };
        verdict.copies_compared += 1;
        if let Some(difference) = difference(leader, copy) {
            let what = || format!("partition {} at {holder}: {difference}", copy.partition);
            verdict.accuse(Kind::ReplicasDiffer, what);
        }
    }
}

/// A log begins a new epoch behind the one before.
fn epochs_rise(copy: &Copy, holder: &str, verdict: &mut Verdict) {
    for pair in copy.batches.windows(2) {
        let [(_, earlier, _), (offset, later, _)] = [pair[0], pair[1]];
        if later < earlier {
            let what = || {
                format!("partition {} at {holder}: epoch {later} at offset {offset} behind {earlier}", copy.partition)
            };
            verdict.accuse(Kind::TwoLeaders, what);
        }
    }
}

/// The first difference below what both were read up to. What is only missing at the end of a copy
/// is told by its error.
fn difference(leader: &Copy, copy: &Copy) -> Option<String> {
    let start = leader.start.max(copy.start);
    let end = leader.end.min(copy.end);
    let within = |batches: &[StoredBatch]| -> Vec<StoredBatch> {
        batches.iter().copied().filter(|(base, ..)| (start..end).contains(base)).collect()
    };
    let (ours, theirs) = (within(&leader.batches), within(&copy.batches));
    for index in 0..ours.len().max(theirs.len()) {
        match (ours.get(index), theirs.get(index)) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some((offset, epoch, _)), Some((other_offset, other_epoch, _))) => {
                return Some(format!(
                    "the leader has a batch of epoch {epoch} at offset {offset}, it has one of epoch {other_epoch} at \
                     {other_offset} with other bytes"
                ));
            }
            (Some((offset, ..)), None) => return Some(format!("the leader's batch at offset {offset} is missing")),
            (None, Some((offset, ..))) => return Some(format!("its batch at offset {offset} is not the leader's")),
            (None, None) => {}
        }
    }
    None
}
