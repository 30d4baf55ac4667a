//! When records are due: decided before the run, or, in a closed loop, by the system under load.
//!
//! Record `i` of an open loop is due `i / rate` after the beginning, whoever sends it and whatever
//! became of the others. Publisher `p` of `n` sends the records `p`, `p + n`, `p + 2n`, ….

/// One publisher's part of the schedule.
#[derive(Clone, Debug)]
pub struct Lane {
    pace: Pace,
    taken: u64,
    end_ns: u64,
}

#[derive(Clone, Debug)]
enum Pace {
    /// On an absolute schedule.
    Open { publisher: u64, publishers: u64, interval_ns: f64, total: u64 },
    /// Each counts from the acknowledgement of the one before.
    Closed { interval_ns: u64, next_ns: u64 },
    /// Whenever there is room.
    Greedy,
}

/// Records that are due together or one soon after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dues {
    /// The number of the first among those of its publisher.
    pub first: u64,
    /// How many.
    pub count: u32,
    first_ns: f64,
    step_ns: f64,
}

impl Dues {
    /// When one of them was due, in nanoseconds since the run began.
    #[must_use]
    pub fn at(&self, index: u32) -> u64 {
        whole(self.first_ns + f64::from(index) * self.step_ns)
    }
}

/// What a rate means for each publisher.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Records per second of all publishers; `None`: as many as possible.
    pub rate: Option<f64>,
    /// Whether the next record waits for the one before.
    pub closed_loop: bool,
    /// How many publishers share it.
    pub publishers: u32,
    /// No record is due at or after this moment.
    pub end_ns: u64,
}

impl Schedule {
    /// One publisher's part.
    #[must_use]
    pub fn lane(&self, publisher: u32) -> Lane {
        let publishers = u64::from(self.publishers.max(1));
        let publisher = u64::from(publisher);
        let pace = match self.rate {
            None => Pace::Greedy,
            Some(rate) if self.closed_loop => {
                let interval_ns = whole(1e9 * as_float(publishers) / rate);
                Pace::Closed { interval_ns, next_ns: interval_ns / publishers * publisher }
            }
            Some(rate) => {
                let interval_ns = 1e9 / rate;
                let all = whole((as_float(self.end_ns) / interval_ns).ceil());
                let total = all.saturating_sub(publisher).div_ceil(publishers);
                Pace::Open { publisher, publishers, interval_ns, total }
            }
        };
        Lane { pace, taken: 0, end_ns: self.end_ns }
    }
}

impl Lane {
    /// How many records are due and not taken; a greedy lane has any number of them.
    #[must_use]
    pub fn waiting(&self, now_ns: u64) -> u64 {
        match self.pace {
            Pace::Open { publisher, publishers, interval_ns, total } => {
                let begun = whole(as_float(now_ns) / interval_ns) + 1;
                begun.saturating_sub(publisher).div_ceil(publishers).min(total).saturating_sub(self.taken)
            }
            Pace::Closed { next_ns, .. } => u64::from(next_ns <= now_ns && next_ns < self.end_ns),
            Pace::Greedy if now_ns < self.end_ns => u64::MAX,
            Pace::Greedy => 0,
        }
    }

    /// Takes what is due, at most so many records.
    pub fn take(&mut self, now_ns: u64, most: u32) -> Option<Dues> {
        let count = u32::try_from(self.waiting(now_ns)).unwrap_or(u32::MAX).min(most);
        if count == 0 {
            return None;
        }
        let first = self.taken;
        self.taken += u64::from(count);
        Some(match &mut self.pace {
            Pace::Open { publisher, publishers, interval_ns, .. } => {
                let number = *publisher + first * *publishers;
                let step_ns = *interval_ns * as_float(*publishers);
                Dues { first, count, first_ns: as_float(number) * *interval_ns, step_ns }
            }
            Pace::Closed { interval_ns, next_ns } => {
                let due = as_float(*next_ns);
                *next_ns += *interval_ns;
                Dues { first, count, first_ns: due, step_ns: 0.0 }
            }
            Pace::Greedy => Dues { first, count, first_ns: as_float(now_ns), step_ns: 0.0 },
        })
    }

    /// When the record is due that comes so many behind the last that was taken; `None`: there is no such record.
    #[must_use]
    pub fn due_of_next(&self, behind: u64) -> Option<u64> {
        match self.pace {
            Pace::Open { publisher, publishers, interval_ns, total } => {
                let index = self.taken + behind;
                (index < total).then(|| whole((as_float(publisher + index * publishers) * interval_ns).ceil()))
            }
            Pace::Closed { next_ns, .. } => (behind == 0 && next_ns < self.end_ns).then_some(next_ns),
            Pace::Greedy => None,
        }
    }

    /// Whether nothing is due any more, now or later.
    #[must_use]
    pub fn is_over(&self, now_ns: u64) -> bool {
        match self.pace {
            Pace::Open { total, .. } => self.taken >= total,
            Pace::Closed { next_ns, .. } => next_ns >= self.end_ns,
            Pace::Greedy => now_ns >= self.end_ns,
        }
    }

    /// A request was answered. In a closed loop the next record cannot be due before.
    pub fn answered(&mut self, at_ns: u64) {
        if let Pace::Closed { next_ns, .. } = &mut self.pace {
            *next_ns = (*next_ns).max(at_ns);
        }
    }

    /// How many records are taken.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether only one request may be under way.
    #[must_use]
    pub const fn one_at_a_time(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }
}

#[allow(clippy::cast_precision_loss, reason = "a double is exact for 104 days of nanoseconds and for 2^53 records")]
const fn as_float(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; there are no negative times")]
const fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn open(rate: f64, publishers: u32, end_ns: u64) -> Schedule {
        Schedule { rate: Some(rate), closed_loop: false, publishers, end_ns }
    }

    #[test]
    fn publishers_together_send_every_record_once_and_in_time() {
        for (rate, publishers) in [(1000.0, 1), (1000.0, 3), (333.3, 2), (7.0, 10), (1e6, 4)] {
            let schedule = open(rate, publishers, SECOND);
            let mut dues = Vec::new();
            for publisher in 0..publishers {
                let mut lane = schedule.lane(publisher);
                let mut now = 0;
                while !lane.is_over(now) {
                    now += 1_300_000;
                    while let Some(batch) = lane.take(now, 100) {
                        // To the nanosecond that rounding costs.
                        assert!(batch.at(batch.count - 1) <= now + 1, "{rate} of {publishers} at {now}");
                        dues.extend((0..batch.count).map(|index| batch.at(index)));
                    }
                    assert!(lane.due_of_next(0).is_none_or(|next| next >= now), "what is due was taken");
                }
            }
            dues.sort_unstable();
            let interval = 1e9 / rate;
            let expected: Vec<u64> =
                (0_u32..).map(|i| whole(f64::from(i) * interval)).take_while(|due| *due < SECOND).collect();
            assert_eq!(dues.len(), expected.len(), "{rate} of {publishers}");
            assert!(dues.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{rate} of {publishers}");
        }
    }

    #[test]
    fn a_pause_does_not_move_the_schedule() {
        let mut lane = open(1000.0, 1, 10 * SECOND).lane(0);
        let before = lane.take(0, 10).unwrap();
        assert_eq!((before.count, before.at(0)), (1, 0));
        // Two seconds in which nothing could be sent.
        let late = lane.take(2 * SECOND, u32::MAX).unwrap();
        assert_eq!((late.count, late.at(0), late.at(1999)), (2000, 1_000_000, 2 * SECOND));
    }

    #[test]
    fn a_closed_loop_waits_and_forgets_what_it_missed() {
        let mut lane = Schedule { closed_loop: true, ..open(1000.0, 1, 10 * SECOND) }.lane(0);
        assert_eq!(lane.take(0, 10).unwrap().count, 1);
        assert_eq!(lane.take(0, 10), None, "one at a time");
        lane.answered(2 * SECOND);
        assert_eq!(lane.take(2 * SECOND, 10).unwrap().at(0), 2 * SECOND);
        assert_eq!(lane.due_of_next(0), Some(2 * SECOND + 1_000_000));
        assert!(lane.one_at_a_time());
    }

    #[test]
    fn a_greedy_lane_ends_with_its_time() {
        let mut lane = Schedule { rate: None, closed_loop: true, publishers: 1, end_ns: SECOND }.lane(0);
        assert_eq!(lane.take(5, 10).map(|dues| (dues.count, dues.at(9))), Some((10, 5)));
        assert!(!lane.is_over(SECOND - 1) && lane.is_over(SECOND));
        assert_eq!(lane.take(SECOND, 10), None);
    }
}
