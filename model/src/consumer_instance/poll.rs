//! The life of a poll: begun, delivered, confirmed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Confirmation, ConsumerInstance, PollId, PollStart,
    state::{Delivery, Position},
};
use crate::{BrokerId, Offset, TopicPartition};

/// A broker in one of its lives: who polls for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The broker.
    pub broker: BrokerId,
    /// Its life.
    pub incarnation: u64,
}

/// A poll to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewPoll {
    /// Its number, larger than that of every poll before it.
    pub poll: PollId,
    /// The number that the edge has drawn for its request: a repetition is recognised by it.
    pub attempt: u64,
    /// Who polls.
    pub edge: Edge,
    /// The last poll that the client says it has.
    pub acknowledged: Option<PollId>,
    /// How long it may take, in milliseconds.
    pub held_for_ms: u64,
}

/// A poll has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub poll: PollId,
    /// Where to read.
    pub partitions: Vec<(TopicPartition, PollStart)>,
}

/// Another poll of the instance is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Its number.
    pub poll: PollId,
    /// Who polls.
    pub edge: Edge,
    /// When it is given up, at the latest.
    pub until_ms: u64,
}

/// What a poll is about to give to the client in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The partition.
    pub partition: TopicPartition,
    /// Where it begins.
    pub from: Offset,
    /// The offset after its last record; `from` when there is none.
    pub next: Offset,
}

/// The poll is over, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollOver;

/// Why it is not known how far the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryUnknown {
    /// The edge will say.
    UntilConfirmed(UnderWay),
    /// Nobody will say any more.
    ForEver,
}

/// A poll that somebody holds.
#[derive(Clone, Debug)]
pub(super) struct OpenPoll {
    pub(super) poll: PollId,
    attempt: u64,
    edge: Edge,
    until_ms: u64,
    granted: BTreeMap<TopicPartition, PollStart>,
    is_delivered: bool,
}

impl OpenPoll {
    /// One whose delivery was found in the log.
    pub(super) const fn found(poll: PollId, edge: Edge, until_ms: u64) -> Self {
        Self { poll, attempt: 0, edge, until_ms, granted: BTreeMap::new(), is_delivered: true }
    }

    /// Takes partitions out: what is read of them is not to be delivered.
    pub(super) fn withdraw(&mut self, is_withdrawn: impl Fn(&TopicPartition) -> bool) {
        self.granted.retain(|partition, _| !is_withdrawn(partition));
    }
}

impl ConsumerInstance {
    /// The poll that others have to wait for, if there is one.
    #[must_use]
    pub fn under_way(&self, now_ms: u64) -> Option<UnderWay> {
        let OpenPoll { poll, edge, until_ms, is_delivered, .. } = *self.open.as_ref()?;
        // What the client confirms itself has ended with its delivery.
        let is_over = is_delivered && self.definition().confirmation == Confirmation::Token;
        (now_ms < until_ms && !is_over).then_some(UnderWay { poll, edge, until_ms })
    }

    /// Whether a poll is under way.
    #[must_use]
    pub fn is_polling(&self, now_ms: u64) -> bool {
        self.under_way(now_ms).is_some()
    }

    /// Whether a poll has taken longer than it may: nobody has to wait for it any longer.
    #[must_use]
    pub fn has_run_out(&self, now_ms: u64) -> bool {
        self.open.as_ref().is_some_and(|open| now_ms >= open.until_ms)
    }

    /// Its edge is gone: nobody will hear of the poll any more. What it has delivered stays unknown until the next poll
    /// delivers it again. Says whether there was one.
    pub fn drop_poll(&mut self, poll: PollId) -> bool {
        self.open.take_if(|open| open.poll == poll).is_some()
    }

    /// Begins a poll. What the client has acknowledged counts as received; what was delivered otherwise and not
    /// confirmed is forgotten, and so given again. `committed` tells what the group has committed: who has committed
    /// what it was given has it.
    ///
    /// # Errors
    /// [`UnderWay`].
    pub fn begin_poll(
        &mut self,
        new: NewPoll,
        committed: impl Fn(&TopicPartition) -> Option<Offset>,
        now_ms: u64,
    ) -> Result<Begun, UnderWay> {
        self.touch(now_ms);
        if let Some(open) = &self.open
            && (open.attempt, open.edge, open.is_delivered) == (new.attempt, new.edge, false)
        {
            let partitions = open.granted.iter().map(|(partition, start)| (partition.clone(), *start)).collect();
            return Ok(Begun { poll: open.poll, partitions });
        }
        if let Some(under_way) = self.under_way(now_ms) {
            return Err(under_way);
        }
        if let Some(acknowledged) = new.acknowledged {
            self.settle(acknowledged, true);
        }
        self.change_positions(|partition, position| {
            position.delivered = None;
            position.catch_up(committed(partition));
        });
        let start = |partition: &TopicPartition| {
            let known = self.positions.get(partition).and_then(|position| position.confirmed);
            known
                .or_else(|| committed(partition))
                .map_or(PollStart::Reset(self.definition().auto_offset_reset), PollStart::At)
        };
        let granted: BTreeMap<_, _> =
            self.assignment.iter().map(|partition| (partition.clone(), start(partition))).collect();
        let partitions = granted.iter().map(|(partition, start)| (partition.clone(), *start)).collect();
        let NewPoll { poll, attempt, edge, held_for_ms, .. } = new;
        let until_ms = now_ms.saturating_add(held_for_ms);
        self.open = Some(OpenPoll { poll, attempt, edge, until_ms, granted, is_delivered: false });
        Ok(Begun { poll, partitions })
    }

    /// Looks at what the group has committed; see [`ConsumerInstance::begin_poll`]. Before positions are committed they
    /// are not behind that.
    pub fn catch_up(&mut self, committed: impl Fn(&TopicPartition) -> Option<Offset>) {
        self.change_positions(|partition, position| position.catch_up(committed(partition)));
    }

    fn change_positions(&mut self, change: impl Fn(&TopicPartition, &mut Position)) {
        let mut changed = Vec::new();
        for (partition, position) in &mut self.positions {
            let before = *position;
            change(partition, position);
            if *position != before {
                changed.push(partition.clone());
            }
        }
        changed.into_iter().for_each(|partition| self.mark(partition));
    }

    /// Notes what a poll gives to the client. Returns the partitions that it must not give: they were lost since it
    /// began, or moved.
    ///
    /// # Errors
    /// [`PollOver`]: nothing of it may be given.
    pub fn deliver(&mut self, poll: PollId, ranges: &[Range], now_ms: u64) -> Result<Vec<TopicPartition>, PollOver> {
        self.touch(now_ms);
        let open = self.open.as_mut().filter(|open| open.poll == poll).ok_or(PollOver)?;
        if open.is_delivered {
            // Said before; the answer got lost.
            return Ok(self.not_delivered(poll, ranges));
        }
        if now_ms >= open.until_ms {
            return Err(PollOver);
        }
        open.is_delivered = true;
        let (edge, granted) = (open.edge, std::mem::take(&mut open.granted));
        let mut refused = Vec::new();
        for Range { partition, from, next } in ranges {
            // A position that retention has passed is left where the edge says.
            if !granted.contains_key(partition) || next < from {
                refused.push(partition.clone());
                continue;
            }
            let position = self.positions.entry(partition.clone()).or_insert_with(|| Position::begun_at(*from));
            let delivered = (next > from).then_some(Delivery { poll, edge, next: *next });
            if position.confirmed != Some(*from) || position.delivered != delivered {
                (position.confirmed, position.delivered) = (Some(*from), delivered);
                self.mark(partition.clone());
            }
        }
        Ok(refused)
    }

    fn not_delivered(&self, poll: PollId, ranges: &[Range]) -> Vec<TopicPartition> {
        let is_delivered = |range: &&Range| {
            self.positions.get(&range.partition).is_some_and(|position| match position.delivered {
                Some(delivery) => delivery.poll == poll && delivery.next == range.next,
                None => range.from == range.next && position.confirmed == Some(range.from),
            })
        };
        ranges.iter().filter(|range| !is_delivered(range)).map(|range| range.partition.clone()).collect()
    }

    /// The edge says whether the client has what a poll has delivered. For one that the client confirms itself it only
    /// says that nothing was given.
    ///
    /// # Errors
    /// [`PollOver`].
    pub fn confirm(&mut self, poll: PollId, received: bool, now_ms: u64) -> Result<(), PollOver> {
        self.touch(now_ms);
        let was_open = match self.definition().confirmation {
            Confirmation::Edge => self.drop_poll(poll),
            // Its delivery may be repeated yet.
            Confirmation::Token if self.open.as_ref().is_some_and(|open| open.poll == poll && open.is_delivered) => {
                return Ok(());
            }
            Confirmation::Token => return if self.drop_poll(poll) { Ok(()) } else { Err(PollOver) },
        };
        let settled = self.settle(poll, received);
        if was_open || settled { Ok(()) } else { Err(PollOver) }
    }

    /// Ends what a poll has delivered: received, or not. Says whether there was anything.
    fn settle(&mut self, poll: PollId, received: bool) -> bool {
        let mut settled = Vec::new();
        for (partition, position) in &mut self.positions {
            let Some(delivery) = position.delivered.take_if(|delivery| delivery.poll == poll) else { continue };
            if received {
                (position.confirmed, position.by) = (Some(delivery.next), Some(poll));
            }
            settled.push(partition.clone());
        }
        let any = !settled.is_empty();
        settled.into_iter().for_each(|partition| self.mark(partition));
        any
    }

    /// The client says itself that it has what this poll delivered.
    ///
    /// # Errors
    /// [`PollOver`]: the poll is an older one than the last that the client has acknowledged.
    pub fn acknowledge(&mut self, poll: PollId, now_ms: u64) -> Result<(), PollOver> {
        self.touch(now_ms);
        let is_last = self.positions.values().filter_map(|position| position.by).max() == Some(poll);
        if self.settle(poll, true) || is_last { Ok(()) } else { Err(PollOver) }
    }

    /// The positions that a commit without offsets means.
    ///
    /// # Errors
    /// [`DeliveryUnknown`].
    pub fn positions_to_commit(&self, now_ms: u64) -> Result<Vec<(TopicPartition, Offset)>, DeliveryUnknown> {
        let is_unknown = self.positions.values().any(|position| position.delivered.is_some());
        if is_unknown && self.definition().confirmation == Confirmation::Edge {
            let under_way = self.under_way(now_ms);
            return Err(under_way.map_or(DeliveryUnknown::ForEver, DeliveryUnknown::UntilConfirmed));
        }
        Ok(self.confirmed_positions())
    }

    /// The positions as far as deliveries are confirmed.
    #[must_use]
    pub fn confirmed_positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.positions().map(|(partition, offset)| (partition.clone(), offset)).collect()
    }

    /// The positions to be committed without being asked, if it is time for that. It counts as done.
    pub fn take_auto_commit(&mut self, now_ms: u64) -> Vec<(TopicPartition, Offset)> {
        let Some(interval) = self.definition().auto_commit_interval_ms else { return Vec::new() };
        if now_ms < self.auto_commit_due_ms {
            return Vec::new();
        }
        self.auto_commit_due_ms = now_ms.saturating_add(interval);
        self.unasked_positions()
    }

    /// The positions that may be committed without being asked: not those that were moved behind what the group has
    /// committed, which would take that back.
    #[must_use]
    pub fn unasked_positions(&self) -> Vec<(TopicPartition, Offset)> {
        let unasked = self.positions.iter().filter(|(_, position)| !position.is_sought);
        unasked.filter_map(|(partition, position)| Some((partition.clone(), position.confirmed?))).collect()
    }
}
