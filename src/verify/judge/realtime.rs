//! What may not happen in time: answers that know less than earlier ones, leaders that go on after
//! their successors began, readers that saw what is not there.
//!
//! Only what is certain counts: an answer must know what another one had shown before the request
//! for it was made.

use std::collections::{BTreeMap, HashMap};

use super::{History, Kind, Outcome, Verdict, log::FinalLog, name};
use crate::verify::history::{Micros, Read, Write};

pub(super) fn judge(history: &History, log: &FinalLog, verdict: &mut Verdict) {
    for read in &history.reads {
        verdict.reads += 1;
        contents(read, log, verdict);
    }
    stale_reads(history, verdict);
    epochs(history, verdict);
}

/// What a reader got is what the log holds, without gaps, and committed.
fn contents(read: &Read, log: &FinalLog, verdict: &mut Verdict) {
    let mut next = read.from;
    for (offset, id) in read.runs.iter().flat_map(|run| run.records()) {
        if offset != next {
            let what = || format!("partition {}: offset {offset} where {next} is next", read.partition);
            verdict.accuse(Kind::ReadGap, what);
        }
        next = offset + 1;
        let there = log.at((read.partition, offset));
        if there != Some(id) && log.knows(read.partition) {
            verdict.accuse(Kind::ReadContradicted, || {
                let there = there.map_or("nothing".to_owned(), name);
                format!("partition {}, offset {offset}: {} was read and {there} is there", read.partition, name(id))
            });
        }
    }
    if next > read.high_watermark && next > read.from {
        let what =
            || format!("partition {}: up to {next} above the high watermark {}", read.partition, read.high_watermark);
        verdict.accuse(Kind::ReadGap, what);
    }
}

/// Somebody learned something at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<T> {
    pub(super) since_us: Micros,
    pub(super) what: T,
}

/// Each answer with the most that was known before its request was made.
pub(super) fn with_known_before<T: Copy + Ord, A>(
    mut known: Vec<Known<T>>,
    mut answers: Vec<(Micros, A)>,
    mut each: impl FnMut(T, &A),
) {
    known.sort_by_key(|known| known.since_us);
    answers.sort_by_key(|(start_us, _)| *start_us);
    let mut known = known.into_iter().peekable();
    let mut most: Option<T> = None;
    for (start_us, answer) in &answers {
        while let Some(next) = known.next_if(|known| known.since_us < *start_us) {
            most = most.max(Some(next.what));
        }
        if let Some(most) = most {
            each(most, answer);
        }
    }
}

fn stale_reads(history: &History, verdict: &mut Verdict) {
    let mut known: BTreeMap<u32, Vec<Known<u64>>> = BTreeMap::new();
    let mut answers: BTreeMap<u32, Vec<(Micros, &Read)>> = BTreeMap::new();
    for read in &history.reads {
        let what = read.high_watermark;
        known.entry(read.partition).or_default().push(Known { since_us: read.end_us, what });
        answers.entry(read.partition).or_default().push((read.start_us, read));
    }
    for write in history.writes.iter().filter(|_| history.setting.committed) {
        if let Outcome::Acknowledged { offset, .. } = write.outcome {
            let what = offset + write.count;
            known.entry(write.partition).or_default().push(Known { since_us: write.end_us, what });
        }
    }
    for (partition, answers) in answers {
        let known = known.remove(&partition).unwrap_or_default();
        with_known_before(known, answers, |committed, read| {
            if read.high_watermark < committed {
                verdict.accuse(Kind::StaleRead, || {
                    format!(
                        "partition {partition}: {} said at {} us that it ends at {}; {committed} were known at {} us",
                        broker(history, read.broker),
                        read.end_us,
                        read.high_watermark,
                        read.start_us
                    )
                });
            }
        });
    }
}

fn broker(history: &History, index: u32) -> String {
    let url = usize::try_from(index).ok().and_then(|index| history.setting.brokers.get(index));
    url.cloned().unwrap_or_else(|| format!("broker {index}"))
}

/// In real time acknowledgements come from leaderships in their order, each of one broker.
fn epochs(history: &History, verdict: &mut Verdict) {
    let mut known: BTreeMap<u32, Vec<Known<u32>>> = BTreeMap::new();
    let mut answers: BTreeMap<u32, Vec<(Micros, &Write)>> = BTreeMap::new();
    let mut leaders: HashMap<(u32, u32), u32> = HashMap::new();
    for write in &history.writes {
        let Outcome::Acknowledged { epoch: Some(epoch), leader, .. } = write.outcome else { continue };
        // A leader that is cut off does not know it: what it appends is acknowledged, if no quorum is asked for.
        if history.setting.committed {
            known.entry(write.partition).or_default().push(Known { since_us: write.end_us, what: epoch });
            answers.entry(write.partition).or_default().push((write.start_us, write));
        }
        if let Some(leader) = leader {
            let first = *leaders.entry((write.partition, epoch)).or_insert(leader);
            if first != leader {
                let partition = write.partition;
                verdict.accuse(Kind::TwoLeaders, || {
                    format!("partition {partition}: brokers {first} and {leader} both acknowledged in epoch {epoch}")
                });
            }
        }
    }
    for (partition, answers) in answers {
        let known = known.remove(&partition).unwrap_or_default();
        with_known_before(known, answers, |newest, write| {
            let Outcome::Acknowledged { epoch: Some(epoch), .. } = write.outcome else { return };
            if epoch < newest {
                verdict.accuse(Kind::EpochRegression, || {
                    format!(
                        "partition {partition}: an acknowledgement in epoch {epoch} at {} us was asked for after one in \
                         epoch {newest} had come",
                        write.end_us
                    )
                });
            }
        });
    }
}
