//! Quantiles: exact to [`EXACT_MAX`] values, then a DDSketch, which is within 1 % of the value.
//!
//! A sketch counts the values between powers of γ = 1.01 / 0.99. The counters are kept sparse and
//! none is ever collapsed, so neither order nor merging changes an answer. The powers are a table
//! made by multiplication: logarithms may differ from machine to machine.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::streams::codec::{Damaged, Reader, put_f64, put_i64, put_len, put_u64};

/// How many values are kept themselves.
pub(super) const EXACT_MAX: usize = 64;
const GAMMA: f64 = 1.01 / 0.99;
/// Smaller magnitudes count as zero.
const MAGNITUDE_MIN: f64 = 1e-9;
/// γ to this power is below [`MAGNITUDE_MIN`].
const KEY_MIN: i32 = -1037;

/// The powers of γ from [`KEY_MIN`] on, to the last finite one.
static POWERS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut first = 1.0;
    for _ in 0..KEY_MIN.unsigned_abs() {
        first /= GAMMA;
    }
    std::iter::successors(Some(first), |power| Some(power * GAMMA)).take_while(|power| power.is_finite()).collect()
});

/// The values' magnitudes by the power of γ below them.
type Bins = BTreeMap<i32, u64>;

#[derive(Clone, Debug)]
pub(crate) enum Quantiles {
    /// All values, ascending.
    Exact(Vec<f64>),
    Sketch(Box<Sketch>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sketch {
    negative: Bins,
    zeros: u64,
    positive: Bins,
    count: u64,
    min: f64,
    max: f64,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

/// The largest power of γ that is not above a magnitude.
fn key_of(magnitude: f64) -> i32 {
    let below = POWERS.partition_point(|power| *power <= magnitude);
    KEY_MIN + i32::try_from(below).unwrap_or(i32::MAX / 2) - 1
}

/// The value that stands for all between a power and the next: 1 % from both.
fn value_of(key: i32) -> f64 {
    let index = usize::try_from(key - KEY_MIN).unwrap_or(0);
    POWERS.get(index).or(POWERS.last()).map_or(0.0, |power| power * (2.0 * GAMMA / (1.0 + GAMMA)))
}

impl Sketch {
    fn add(&mut self, value: f64, count: u64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.count += count;
        if value.abs() <= MAGNITUDE_MIN {
            self.zeros += count;
        } else {
            let bins = if value < 0.0 { &mut self.negative } else { &mut self.positive };
            *bins.entry(key_of(value.abs())).or_default() += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            (self.min, self.max) = (other.min, other.max);
        }
        if other.count > 0 {
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
        }
        for (bins, others) in [(&mut self.negative, &other.negative), (&mut self.positive, &other.positive)] {
            for (key, count) in others {
                *bins.entry(*key).or_default() += count;
            }
        }
        self.zeros += other.zeros;
        self.count += other.count;
    }

    /// The value with so many others before it. The smallest and the largest are known exactly.
    fn at(&self, rank: u64) -> f64 {
        let mut passed = 0;
        let negative = self.negative.iter().rev().map(|(key, count)| (-value_of(*key), *count));
        let positive = self.positive.iter().map(|(key, count)| (value_of(*key), *count));
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            passed += count;
            if passed > rank {
                return value.clamp(self.min, self.max);
            }
        }
        self.max
    }
}

impl Quantiles {
    pub(crate) fn add(&mut self, value: f64) {
        match self {
            Self::Exact(values) => {
                let at = values.partition_point(|known| known.total_cmp(&value).is_lt());
                values.insert(at, value);
                if values.len() > EXACT_MAX {
                    self.estimate_from_now_on();
                }
            }
            Self::Sketch(sketch) => sketch.add(value, 1),
        }
    }

    fn estimate_from_now_on(&mut self) {
        let Self::Exact(values) = self else { return };
        let mut sketch = Box::new(Sketch::default());
        for value in values.iter() {
            sketch.add(*value, 1);
        }
        *self = Self::Sketch(sketch);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(values) => {
                for value in values {
                    self.add(*value);
                }
            }
            Self::Sketch(other) => {
                self.estimate_from_now_on();
                if let Self::Sketch(sketch) = self {
                    sketch.merge(other);
                }
            }
        }
    }

    /// The quantile: the value at `q · (n − 1)`, between two of them in proportion while all values
    /// are known, else the lower one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is a count")]
    #[expect(clippy::cast_precision_loss, reason = "a rank is as exact as q")]
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        match self {
            Self::Exact(values) => {
                let last = values.len().checked_sub(1)?;
                let rank = q * last as f64;
                let (lower, upper) = (rank.floor() as usize, rank.ceil() as usize);
                let (a, b) = (*values.get(lower)?, *values.get(upper.min(last))?);
                Some(if lower == upper { a } else { a + (b - a) * (rank - rank.floor()) })
            }
            Self::Sketch(sketch) => {
                let last = sketch.count.checked_sub(1)?;
                Some(if q <= 0.0 {
                    sketch.min
                } else if q >= 1.0 {
                    sketch.max
                } else {
                    sketch.at((q * last as f64) as u64)
                })
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(values) => values.capacity() * 8,
            Self::Sketch(sketch) => size_of::<Sketch>() + (sketch.negative.len() + sketch.positive.len()) * 24,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(values) => {
                out.push(0);
                put_len(values.len(), out);
                for value in values {
                    put_f64(*value, out);
                }
            }
            Self::Sketch(sketch) => {
                out.push(1);
                put_u64(sketch.zeros, out);
                put_f64(sketch.min, out);
                put_f64(sketch.max, out);
                for bins in [&sketch.negative, &sketch.positive] {
                    put_len(bins.len(), out);
                    for (key, count) in bins {
                        put_i64(i64::from(*key), out);
                        put_u64(*count, out);
                    }
                }
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        match reader.u8()? {
            0 => {
                let mut all = Self::default();
                for _ in 0..reader.len(8)? {
                    all.add(reader.f64()?);
                }
                Ok(all)
            }
            1 => {
                let zeros = reader.u64()?;
                let (min, max) = (reader.f64()?, reader.f64()?);
                if min.is_nan() || max.is_nan() || min > max {
                    return Err(Damaged);
                }
                let mut sketch = Sketch { zeros, min, max, count: zeros, ..Sketch::default() };
                for bins in [&mut sketch.negative, &mut sketch.positive] {
                    for _ in 0..reader.len(2)? {
                        let key = i32::try_from(reader.i64()?).map_err(|_| Damaged)?;
                        let count = reader.u64()?;
                        sketch.count = sketch.count.checked_add(count).ok_or(Damaged)?;
                        bins.insert(key, count);
                    }
                }
                Ok(Self::Sketch(Box::new(sketch)))
            }
            _ => Err(Damaged),
        }
    }
}
