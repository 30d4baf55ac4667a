//! Parts of errors that need help to travel between brokers, or to be put into words.

use pubg1_model::BrokerId;

/// Who leads, in words.
pub(super) fn not_leader(leader: Option<BrokerId>) -> String {
    match leader {
        Some(leader) => format!("broker {leader} leads the partition and does not answer for it at present"),
        None => "the partition has no leader at present".to_owned(),
    }
}

/// Paths as text. What is not text in them is only shown, so it may become a replacement character.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::errors) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub(in crate::errors) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(PathBuf::from)
    }
}

/// Where batches were written.
pub(crate) mod appended {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::partition::Appended;

    type Place = (pubg1_model::Offset, pubg1_model::Offset, bool);

    pub(crate) fn serialize<S: Serializer>(appended: &[Appended], serializer: S) -> Result<S::Ok, S::Error> {
        let place = |place: &Appended| -> Place { (place.base_offset, place.last_offset, place.duplicate) };
        appended.iter().map(place).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Appended>, D::Error> {
        let places = Vec::<Place>::deserialize(deserializer)?;
        let place = |(base_offset, last_offset, duplicate)| Appended { base_offset, last_offset, duplicate };
        Ok(places.into_iter().map(place).collect())
    }
}
