//! What one thread of a run sees, second by second; handed over when a second has passed, so that
//! threads share nothing while they measure.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::{
    clock::{Clock, SECOND_NS},
    schedule::Dues,
};
use crate::latency::Times;

/// A part of what happened in one second, or to what was due in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// From due to acknowledged, of what was due in this second.
    pub(super) response: Option<Times>,
    /// From sent to acknowledged, of the same.
    pub(super) service: Option<Times>,
    /// From due to received, of the same.
    pub(super) end_to_end: Option<Times>,
    /// Records that were due in this second and taken from the schedule.
    pub(super) sent: u64,
    /// Acknowledgements that came in this second.
    pub(super) acknowledged: u64,
    /// When the last of them came.
    pub(super) last_acknowledged_ns: u64,
    /// The longest time without an acknowledgement that ended in this second.
    pub(super) longest_silence_ns: u64,
    /// Records that consumers were given in this second.
    pub(super) consumed: u64,
    /// Records that failed in this second, by kind.
    pub(super) failed: BTreeMap<String, u64>,
    /// Failures that clients overcame in this second, by kind.
    pub(super) overcome: BTreeMap<String, u64>,
}

/// What a thread tells the run.
pub(super) enum Told {
    /// A second's part.
    Part(u64, Box<Part>),
    /// A publisher is through; records of its schedule that it never came to send.
    Published { never_sent: u64 },
    /// A consumer is through.
    Consumed,
    /// A thread cannot go on.
    Broken { publishes: bool, reason: String },
}

/// One thread's account.
pub(super) struct Recorder {
    pub(super) clock: Clock,
    parts: BTreeMap<u64, Box<Part>>,
    last_handed_ns: u64,
    last_acknowledged_ns: Option<u64>,
    told: mpsc::UnboundedSender<Told>,
}

impl Recorder {
    pub(super) fn new(clock: Clock, told: mpsc::UnboundedSender<Told>) -> Self {
        Self { clock, parts: BTreeMap::new(), last_handed_ns: 0, last_acknowledged_ns: None, told }
    }

    fn part(&mut self, ns: u64) -> Option<&mut Part> {
        let second = self.clock.second(ns)?;
        Some(self.parts.entry(second).or_default())
    }

    /// How many of these records count: those that were due after the warm-up.
    pub(super) fn measured(&self, dues: &Dues) -> u64 {
        let warm_up = self.clock.warm_up_ns();
        if dues.at(0) >= warm_up {
            return u64::from(dues.count);
        }
        (0..dues.count).filter(|index| dues.at(*index) >= warm_up).count() as u64
    }

    /// These records were taken from the schedule.
    pub(super) fn sent(&mut self, dues: &Dues) {
        for (at, count) in runs_of_seconds(&self.clock, dues) {
            if let Some(part) = self.part(at) {
                part.sent += count;
            }
        }
    }

    /// A request was acknowledged; answers how many of its records count.
    pub(super) fn acknowledged(&mut self, dues: &Dues, sent_ns: u64, now_ns: u64) -> u64 {
        self.heard(now_ns);
        let measured = self.measured(dues);
        if measured == 0 {
            return 0;
        }
        let service_ns = now_ns.saturating_sub(sent_ns);
        let mut index = dues.count - u32::try_from(measured).unwrap_or(dues.count);
        while index < dues.count {
            let Some(second) = self.clock.second(dues.at(index)) else { break };
            let part = self.parts.entry(second).or_default();
            let end_ns = self.clock.warm_up_ns() + (second + 1) * SECOND_NS;
            let response = part.response.get_or_insert_default();
            let first = index;
            if dues.at(index) == dues.at(dues.count - 1) {
                // All were due together, as in a closed loop.
                response.record_many(now_ns.saturating_sub(dues.at(index)), u64::from(dues.count - index));
                index = dues.count;
            }
            while index < dues.count && dues.at(index) < end_ns {
                response.record(now_ns.saturating_sub(dues.at(index)));
                index += 1;
            }
            part.service.get_or_insert_default().record_many(service_ns, u64::from(index - first));
        }
        if let Some(part) = self.part(now_ns) {
            part.acknowledged += measured;
            part.last_acknowledged_ns = part.last_acknowledged_ns.max(now_ns);
        }
        measured
    }

    /// The time without an acknowledgement ends.
    fn heard(&mut self, now_ns: u64) {
        let last_ns = self.last_acknowledged_ns.replace(now_ns).unwrap_or(now_ns);
        if let Some(part) = self.part(now_ns) {
            part.longest_silence_ns = part.longest_silence_ns.max(now_ns.saturating_sub(last_ns));
        }
    }

    /// What is under way is not waited for any longer: it has been silent until now.
    pub(super) fn gave_up(&mut self, now_ns: u64) {
        self.last_acknowledged_ns.get_or_insert(0);
        self.heard(now_ns);
    }

    /// Records of a request failed.
    pub(super) fn failed(&mut self, dues: &Dues, now_ns: u64, kind: &str) {
        let measured = self.measured(dues);
        if measured > 0
            && let Some(part) = self.part(now_ns)
        {
            *part.failed.entry(kind.to_owned()).or_default() += measured;
        }
    }

    /// A client overcame failures.
    pub(super) fn overcame(&mut self, now_ns: u64, kinds: BTreeMap<String, u64>) {
        if let Some(part) = self.part(now_ns) {
            for (kind, count) in kinds {
                *part.overcome.entry(kind).or_default() += count;
            }
        }
    }

    /// A consumer was given a record; answers whether it counts.
    pub(super) fn consumed(&mut self, due_ns: u64, now_ns: u64) -> bool {
        if due_ns > now_ns {
            return false;
        }
        let Some(part) = self.part(due_ns) else { return false };
        part.end_to_end.get_or_insert_default().record(now_ns - due_ns);
        if let Some(part) = self.part(now_ns) {
            part.consumed += 1;
        }
        true
    }

    /// Hands over the seconds that have passed, at most ten times a second.
    pub(super) fn hand_over(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.last_handed_ns) < SECOND_NS / 10 {
            return;
        }
        self.last_handed_ns = now_ns;
        if let Some(current) = self.clock.second(now_ns) {
            let kept = self.parts.split_off(&current);
            self.tell(kept);
        }
    }

    fn tell(&mut self, kept: BTreeMap<u64, Box<Part>>) {
        for (second, part) in std::mem::replace(&mut self.parts, kept) {
            // Nobody listens any more when the run was given up.
            let _given_up = self.told.send(Told::Part(second, part));
        }
    }

    /// Hands over everything, and says that the thread is through.
    pub(super) fn finish(mut self, end: Told) {
        self.tell(BTreeMap::new());
        let _given_up = self.told.send(end);
    }
}

/// The records of a batch by the second in which they were due: a moment of it, and how many.
fn runs_of_seconds(clock: &Clock, dues: &Dues) -> Vec<(u64, u64)> {
    let (first, last) = (dues.at(0), dues.at(dues.count.saturating_sub(1)));
    if clock.second(first) == clock.second(last) {
        return vec![(first, u64::from(dues.count))];
    }
    (0..dues.count).map(|index| (dues.at(index), 1)).collect()
}
