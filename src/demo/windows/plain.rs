//! The rows that the demo's query has to give, in a few lines that share no code with it: from the records as they lie
//! in the partitions, by the rule that `docs/STREAMS.md` has about time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::Row;

pub(super) const HOUR_MS: i64 = 60 * 60 * 1000;
/// As far as a flight may stand behind one that was to leave later, in the same partition: as the query says.
const DISORDER_MS: i64 = 60 * 60 * 1000;

/// What is needed of a flight.
#[derive(Deserialize)]
struct Flight<'a> {
    scheduled: i64,
    /// A record without one is in no window, but moves time.
    #[serde(borrow)]
    origin: Option<&'a str>,
    dep_delay: Option<i64>,
}

/// Rows by origin and hour, and what came too late for them.
#[derive(Debug, Default)]
pub struct Plain {
    pub(super) rows: BTreeMap<(String, i64), Row>,
    /// Partition and offset of the records that are in no window.
    pub(super) late: BTreeSet<(u32, u64)>,
    /// Records behind one of their partition with a later time.
    pub(super) out_of_order: u64,
    /// The latest time of each partition so far.
    latest_ms: HashMap<u32, i64>,
}

impl Plain {
    /// Takes the next record of a partition.
    ///
    /// # Errors
    /// It is no flight.
    pub fn take(&mut self, partition: u32, offset: u64, value: &[u8]) -> Result<(), serde_json::Error> {
        let flight: Flight<'_> = serde_json::from_slice(value)?;
        let before = self.latest_ms.insert(partition, flight.scheduled);
        if let Some(before) = before.filter(|before| *before > flight.scheduled) {
            self.latest_ms.insert(partition, before);
            self.out_of_order += 1;
        }
        let Some(origin) = flight.origin else { return Ok(()) };
        let window_start = flight.scheduled.div_euclid(HOUR_MS) * HOUR_MS;
        let window_end = window_start + HOUR_MS;
        // A record is judged by what stands before it.
        if before.is_some_and(|latest| window_end <= latest - DISORDER_MS) {
            self.late.insert((partition, offset));
            return Ok(());
        }
        let row = self.rows.entry((origin.to_owned(), window_start)).or_insert_with(|| Row {
            origin: origin.to_owned(),
            window_start,
            window_end,
            flights: 0,
            departed: 0,
            minutes: None,
            mean: None,
            worst: None,
            records: 0,
            rev: 0,
            is_final: true,
        });
        row.flights += 1;
        row.records += 1;
        if let Some(delay) = flight.dep_delay {
            row.departed += 1;
            let minutes = row.minutes.unwrap_or(0) + delay;
            row.minutes = Some(minutes);
            row.mean = Some(ratio(minutes, row.departed));
            row.worst = row.worst.max(Some(delay));
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
fn ratio(sum: i64, count: u64) -> f64 {
    sum as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::flights::Flights;

    fn take(flights: &Flights, count: u64, partitions: u64) -> Plain {
        let mut plain = Plain::default();
        for number in 0..count {
            let partition = u32::try_from(number % partitions).unwrap();
            plain.take(partition, number / partitions, &flights.record(number).value).unwrap();
        }
        plain
    }

    #[test]
    fn the_month_has_its_rows() {
        let plain = take(&Flights::unpack().unwrap(), 27_004, 1);
        let (flights, late) = (plain.rows.values().map(|row| row.flights).sum::<u64>(), plain.late.len() as u64);
        assert_eq!(flights + late, 27_004);
        assert!(late > 500, "{late} are late");
        assert!(plain.out_of_order > 27_004 / 2, "{} are out of order", plain.out_of_order);
    }

    #[test]
    fn time_goes_on_from_one_pass_to_the_next() {
        let flights = Flights::unpack().unwrap();
        let (one, three) = (take(&flights, 27_004, 4), take(&flights, 3 * 27_004, 4));
        let least = one.rows.len() * 3 - 3 * 24;
        assert!(three.rows.len() > least, "{} rows after {}", three.rows.len(), one.rows.len());
        // Flights of a pass are not late because of the pass before, but for those about its beginning.
        assert!(three.late.len() < 3 * one.late.len() + 1_000, "{} late after {}", three.late.len(), one.late.len());
    }

    #[test]
    fn each_partition_has_its_own_time() {
        let mut plain = Plain::default();
        let flight = |hours: i64| format!("{{\"scheduled\":{},\"origin\":\"JFK\",\"dep_delay\":1}}", hours * HOUR_MS);
        for (partition, offset, hours) in [(0, 0, 10), (1, 0, 2), (0, 1, 9), (0, 2, 8), (0, 3, 7), (1, 1, 2)] {
            plain.take(partition, offset, flight(hours).as_bytes()).unwrap();
        }
        assert_eq!(plain.late.into_iter().collect::<Vec<_>>(), [(0, 2), (0, 3)], "9 is what 10 hours leave");
        assert_eq!(plain.out_of_order, 3);
        plain.latest_ms.clear();
        let mark = format!("{{\"scheduled\":{}}}", 100 * HOUR_MS);
        plain.late = BTreeSet::new();
        plain.take(1, 2, mark.as_bytes()).unwrap();
        plain.take(1, 3, flight(98).as_bytes()).unwrap();
        assert_eq!(plain.late.into_iter().collect::<Vec<_>>(), [(1, 3)]);
        assert_eq!(plain.rows.len(), 3);
    }
}
