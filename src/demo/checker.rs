//! The account: what was acknowledged, what was found, and the difference. Pure.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use pubg1_model::{Offset, PartitionId};

/// A place in a topic.
type Place = (PartitionId, u64);

/// A number that stands for a record's key and value.
#[must_use]
pub fn fingerprint(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// Every acknowledged record, by its place. Records must differ from each other.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    places: HashMap<Place, u64>,
    acknowledged: u64,
    clashes: u64,
}

impl Ledger {
    /// The broker said: this record is here.
    pub fn acknowledge(&mut self, partition: PartitionId, offset: u64, fingerprint: u64) {
        self.acknowledged += 1;
        if self.places.insert((partition, offset), fingerprint).is_some() {
            self.clashes += 1;
        }
    }

    /// How many acknowledgements there were.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

/// What a reader saw.
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    places: HashMap<Place, u64>,
    ends: HashMap<PartitionId, u64>,
    repeated: u64,
    backward: u64,
}

impl Sighting {
    /// The reader was given this record, in this order.
    pub fn see(&mut self, partition: PartitionId, offset: u64, fingerprint: u64) {
        let end = self.ends.entry(partition).or_default();
        if offset < *end {
            self.backward += 1;
        }
        *end = (*end).max(offset + 1);
        if self.places.insert((partition, offset), fingerprint).is_some() {
            self.repeated += 1;
        }
    }

    /// How many different places were read.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.places.len() as u64
    }

    /// How many records the reader was given more than once or out of order.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated.max(self.backward)
    }

    /// Whether every partition was read up to its end.
    #[must_use]
    pub fn reaches(&self, ends: &[Offset]) -> bool {
        (0..)
            .zip(ends)
            .all(|(partition, end)| self.ends.get(&PartitionId(partition)).copied().unwrap_or(0) >= end.get())
    }

    /// Places at which this reader saw something else than the other one did, or the other one
    /// saw nothing.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> u64 {
        self.places.iter().filter(|(place, fingerprint)| other.places.get(place) != Some(fingerprint)).count() as u64
    }
}

/// The result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and found nowhere.
    pub lost: u64,
    /// Acknowledged at one place and found at another only, or two acknowledged at one place.
    pub moved: u64,
    /// Found at more places than one.
    pub duplicated: u64,
    /// Found and never acknowledged: allowed, when the acknowledgement was on its way.
    pub unacknowledged: u64,
}

impl Verdict {
    /// Compares what was acknowledged with what was found.
    #[must_use]
    pub fn of(ledger: &Ledger, sighting: &Sighting) -> Self {
        let mut times_found: HashMap<u64, u64> = HashMap::with_capacity(sighting.places.len());
        for fingerprint in sighting.places.values() {
            *times_found.entry(*fingerprint).or_default() += 1;
        }
        let mut verdict = Self {
            moved: ledger.clashes,
            duplicated: times_found.values().map(|times| times - 1).sum(),
            ..Self::default()
        };
        for (place, fingerprint) in &ledger.places {
            if sighting.places.get(place) == Some(fingerprint) {
                continue;
            }
            if times_found.contains_key(fingerprint) {
                verdict.moved += 1;
            } else {
                verdict.lost += 1;
            }
        }
        let acknowledged = |place: &&Place| ledger.places.contains_key(*place);
        verdict.unacknowledged = sighting.places.keys().filter(|place| !acknowledged(place)).count() as u64;
        verdict
    }

    /// Nothing is lost, moved or doubled.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.moved == 0 && self.duplicated == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    fn ledger(records: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        records.iter().for_each(|(offset, record)| ledger.acknowledge(P, *offset, *record));
        ledger
    }

    fn sighting(records: &[(u64, u64)]) -> Sighting {
        let mut sighting = Sighting::default();
        records.iter().for_each(|(offset, record)| sighting.see(P, *offset, *record));
        sighting
    }

    #[test]
    fn everything_in_its_place_is_clean() {
        let verdict = Verdict::of(&ledger(&[(0, 10), (1, 11)]), &sighting(&[(0, 10), (1, 11), (2, 12)]));
        assert_eq!(verdict, Verdict { unacknowledged: 1, ..Verdict::default() });
        assert!(verdict.is_clean());
    }

    #[test]
    fn a_record_that_is_nowhere_is_lost() {
        let verdict = Verdict::of(&ledger(&[(0, 10), (1, 11)]), &sighting(&[(0, 10)]));
        assert_eq!(verdict.lost, 1);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_record_at_another_place_is_moved() {
        let verdict = Verdict::of(&ledger(&[(0, 10), (1, 11)]), &sighting(&[(0, 11), (1, 10)]));
        assert_eq!((verdict.lost, verdict.moved), (0, 2));
        assert_eq!(Verdict::of(&ledger(&[(0, 10), (0, 11)]), &sighting(&[(0, 11)])).moved, 1);
    }

    #[test]
    fn a_record_at_two_places_is_duplicated() {
        let verdict = Verdict::of(&ledger(&[(0, 10)]), &sighting(&[(0, 10), (1, 10)]));
        assert_eq!((verdict.lost, verdict.moved, verdict.duplicated), (0, 0, 1));
    }

    #[test]
    fn a_reader_that_goes_back_or_sees_something_else_is_noticed() {
        let seen = sighting(&[(0, 10), (1, 11), (0, 10)]);
        assert_eq!((seen.found(), seen.repeated()), (2, 1));
        assert_eq!(seen.differs_from(&sighting(&[(0, 10), (1, 12)])), 1);
        assert!(seen.reaches(&[Offset::new(2)]));
        assert!(!seen.reaches(&[Offset::new(2), Offset::new(1)]));
    }

    #[test]
    fn key_and_value_are_told_apart() {
        assert_ne!(fingerprint(Some(b"a"), None), fingerprint(None, Some(b"a")));
        assert_ne!(fingerprint(Some(b"ab"), Some(b"c")), fingerprint(Some(b"a"), Some(b"bc")));
    }
}
