//! The ids of the topics that were deleted last.

use std::collections::{BTreeSet, VecDeque};

use super::TOMBSTONES_MAX;
use crate::TopicId;

/// The newest deleted topics: a broker that was away tells by them what to remove from its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tombstones {
    /// The oldest first.
    order: VecDeque<TopicId>,
    ids: BTreeSet<TopicId>,
}

impl Tombstones {
    /// Adds one; the oldest goes when there are too many.
    pub(super) fn insert(&mut self, id: TopicId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > TOMBSTONES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: TopicId) -> bool {
        self.ids.contains(&id)
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = TopicId> {
        self.order.iter().copied()
    }
}

impl FromIterator<TopicId> for Tombstones {
    fn from_iter<I: IntoIterator<Item = TopicId>>(ids: I) -> Self {
        let mut tombstones = Self::default();
        for id in ids {
            tombstones.insert(id);
        }
        tombstones
    }
}
