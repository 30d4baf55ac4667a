//! How many different values: exact to [`EXACT_MAX`], then a HyperLogLog sketch.
//!
//! Both are sets: neither the order of the values nor the way they were merged changes the answer.
//! The sketch keeps an estimate of its own that depends on the order of arrival; it is not used.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
};

use datasketches::hll::{HllSketch, HllType, HllUnion};

use crate::streams::{
    codec::{Damaged, Reader, put_bytes, put_len},
    group,
    value::Value,
};

/// How many values are told apart exactly.
pub(super) const EXACT_MAX: usize = 1024;
/// The sketch has 2¹² registers: about 1.6 % off.
const LG_REGISTERS: u8 = 12;

#[derive(Clone, Debug)]
pub(crate) enum Distinct {
    /// The bytes of the values.
    Exact {
        values: BTreeSet<Box<[u8]>>,
        bytes: usize,
    },
    Sketch(Box<HllUnion>),
}

/// What the sketch hashes: the bytes and nothing else.
struct Hashed<'a>(&'a [u8]);

impl Hash for Hashed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact { values: BTreeSet::new(), bytes: 0 }
    }
}

impl Distinct {
    pub(crate) fn add(&mut self, value: &Value<'_>) {
        let mut bytes = Vec::with_capacity(24);
        group::push(value, true, &mut bytes);
        self.add_bytes(bytes.into_boxed_slice());
    }

    fn add_bytes(&mut self, value: Box<[u8]>) {
        match self {
            Self::Exact { values, bytes } => {
                let length = value.len();
                if values.insert(value) {
                    *bytes += length;
                    if values.len() > EXACT_MAX {
                        self.estimate_from_now_on();
                    }
                }
            }
            Self::Sketch(sketch) => sketch.update_value(Hashed(&value)),
        }
    }

    fn estimate_from_now_on(&mut self) {
        let Self::Exact { values, .. } = self else { return };
        // The number of registers is one that the sketch knows.
        let Ok(mut sketch) = HllUnion::new(LG_REGISTERS) else { return };
        for value in values.iter() {
            sketch.update_value(Hashed(value));
        }
        *self = Self::Sketch(Box::new(sketch));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact { values, .. } => {
                for value in values {
                    self.add_bytes(value.clone());
                }
            }
            Self::Sketch(other) => {
                self.estimate_from_now_on();
                if let Self::Sketch(sketch) = self {
                    sketch.update(&other.to_sketch(HllType::Hll8));
                }
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate is a count")]
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Exact { values, .. } => values.len() as u64,
            Self::Sketch(sketch) => sketch.composite_estimate().round() as u64,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            // A value has its length in the set besides its bytes, and half as much for the tree.
            Self::Exact { values, bytes } => bytes + values.len() * 40,
            Self::Sketch(_) => (1 << LG_REGISTERS) + 512,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact { values, .. } => {
                out.push(0);
                put_len(values.len(), out);
                for value in values {
                    put_bytes(value, out);
                }
            }
            Self::Sketch(sketch) => {
                out.push(1);
                put_bytes(&sketch.to_sketch(HllType::Hll8).serialize(), out);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        match reader.u8()? {
            0 => {
                let mut all = Self::default();
                for _ in 0..reader.len(1)? {
                    all.add_bytes(reader.bytes()?.into());
                }
                Ok(all)
            }
            1 => {
                let sketch = HllSketch::deserialize(reader.bytes()?).map_err(|_| Damaged)?;
                if sketch.lg_config_k() != LG_REGISTERS || sketch.target_type() != HllType::Hll8 {
                    return Err(Damaged);
                }
                let mut union = HllUnion::new(LG_REGISTERS).map_err(|_| Damaged)?;
                union.update(&sketch);
                Ok(Self::Sketch(Box::new(union)))
            }
            _ => Err(Damaged),
        }
    }
}
