//! The flights of January 2013, as an endless sequence of records. `demo/ORIGIN.md` says where
//! they are from.

use serde::Deserialize;

use crate::input::{self, InputFormat, InputOptions, InputRecord};

static PACKED: &[u8] = include_bytes!("../../demo/flights-2013-01.csv.gz");
/// From one pass over the month to the next, so that time goes on.
const PASS_MS: u64 = 31 * 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;

/// The unpacked rows.
pub struct Flights {
    rows: Vec<InputRecord>,
    /// How long after its time each of them left.
    delays_ms: Vec<i64>,
}

#[derive(Deserialize)]
struct Delay {
    /// None when the flight was cancelled: it stands at its time.
    dep_delay: Option<i64>,
}

/// A record to send.
pub struct Flight {
    /// The aircraft; cancelled flights may have none.
    pub key: Option<Vec<u8>>,
    /// A JSON object; `n` is the record's number, so that no two are alike, and `scheduled` when it was to leave.
    pub value: Vec<u8>,
    /// The departure.
    pub timestamp_ms: i64,
    /// When it was to leave. Flights come in the order in which they left: by this time they are out of order.
    pub scheduled_ms: i64,
}

impl Flights {
    /// Unpacks the data that is part of the program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn unpack() -> Result<Self, String> {
        let options = InputOptions {
            format: InputFormat::Csv,
            key_field: Some("tailnum".to_owned()),
            key_separator: None,
            timestamp_field: Some("time".to_owned()),
            infer_types: true,
            keep_broken: false,
        };
        let mut rows = Vec::new();
        input::read(PACKED, &options, &mut |chunk| {
            rows.extend(chunk);
            true
        })
        .map_err(|error| error.to_string())?;
        if rows.is_empty() {
            return Err("the demo's data are empty".to_owned());
        }
        let delay_ms = |row: &InputRecord| {
            let read: Result<Delay, _> = serde_json::from_slice(&row.value);
            read.map(|read| read.dep_delay.unwrap_or(0) * MINUTE_MS).map_err(|error| error.to_string())
        };
        let delays_ms = rows.iter().map(delay_ms).collect::<Result<_, _>>()?;
        Ok(Self { rows, delays_ms })
    }

    /// How many flights there are before they repeat.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never: [`Flights::unpack`] sees to it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The record with this number.
    #[must_use]
    pub fn record(&self, number: u64) -> Flight {
        let rows = self.rows.len() as u64;
        let place = usize::try_from(number % rows).unwrap_or(0);
        let row = &self.rows[place];
        let later = i64::try_from(number / rows * PASS_MS).unwrap_or(i64::MAX);
        let timestamp_ms = row.timestamp_ms.unwrap_or(0).saturating_add(later);
        let scheduled_ms = timestamp_ms.saturating_sub(self.delays_ms[place]);
        let mut value = format!("{{\"n\":{number},\"scheduled\":{scheduled_ms},").into_bytes();
        value.extend_from_slice(row.value.strip_prefix(b"{").unwrap_or(&row.value));
        Flight { key: row.key.clone(), value, timestamp_ms, scheduled_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_are_what_their_origin_says() {
        let flights = Flights::unpack().unwrap();
        assert_eq!(flights.len(), 27_004);
        let first = flights.record(0);
        assert_eq!(first.key.as_deref(), Some(&b"N14228"[..]));
        assert_eq!(first.timestamp_ms, 1_357_035_420_000);
        let value: serde_json::Value = serde_json::from_slice(&first.value).unwrap();
        assert_eq!((&value["carrier"], &value["flight"]), (&"UA".into(), &1545.into()));
        assert_eq!((first.scheduled_ms, &value["scheduled"]), (1_357_035_300_000, &1_357_035_300_000_i64.into()));
        let cancelled =
            flights.rows.iter().filter(|row| row.value.windows(17).any(|w| w == b"\"dep_delay\":null,")).count();
        assert_eq!(cancelled, 521);
        assert!(flights.rows.is_sorted_by_key(|row| row.timestamp_ms));
        let never_left = flights.rows.iter().position(|row| row.value.windows(17).any(|w| w == b"\"dep_delay\":null,"));
        let never_left = flights.record(never_left.unwrap() as u64);
        assert_eq!(never_left.scheduled_ms, never_left.timestamp_ms, "a cancelled flight stands at its time");
    }

    #[test]
    fn the_sequence_goes_on_without_repeating_itself() {
        let flights = Flights::unpack().unwrap();
        let (first, again) = (flights.record(0), flights.record(27_004));
        assert_eq!(first.key, again.key);
        assert_ne!(first.value, again.value);
        assert!(again.timestamp_ms > flights.record(27_003).timestamp_ms - 86_400_000);
        assert_eq!(again.timestamp_ms - again.scheduled_ms, first.timestamp_ms - first.scheduled_ms);
    }
}
