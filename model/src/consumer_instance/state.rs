//! What an instance is, whatever polls it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Confirmation, Edge, InstanceDefinition, PollId, Subscription,
    poll::OpenPoll,
    records::{InstanceChange, StoredInstance, StoredPosition},
};
use crate::{Offset, TopicPartition};

/// How long after a change of coordinator the edge of a delivery may still confirm it, in milliseconds. The next poll
/// waits for that, unless the edge is known to be gone.
pub(super) const CONFIRMATION_GRACE_MS: u64 = 500;

/// A partition that an instance has no say in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition {0} is not assigned to the instance")]
pub struct NotAssigned(pub TopicPartition);

/// How far an instance is in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Below it: the client has it. `None`: nothing was read yet, and no reset was resolved.
    pub(super) confirmed: Option<Offset>,
    /// The poll by whose delivery it came there.
    pub(super) by: Option<PollId>,
    /// Where it began, since the partition is its own. `None`: its record is of a version that did not say so.
    pub(super) begun: Option<Offset>,
    /// It was moved here, behind what the group has committed.
    pub(super) is_sought: bool,
    /// What the client was given and may yet be known to have.
    pub(super) delivered: Option<Delivery>,
}

impl Position {
    /// Of a partition in which nothing was given yet.
    pub(super) fn begun_at(offset: Offset) -> Self {
        Self { begun: Some(offset), ..Self::default() }
    }

    /// The group has committed this. Unless it was moved behind that, whoever reads here has come as far: it has
    /// committed what it was given without its being known that it has it.
    pub(super) fn catch_up(&mut self, committed: Option<Offset>) {
        if committed <= self.confirmed {
            self.is_sought = false;
        } else if !self.is_sought && self.confirmed.is_some() {
            self.confirmed = committed;
        }
    }
}

/// Records that the client was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) poll: PollId,
    pub(super) edge: Edge,
    /// The offset after the last of them.
    pub(super) next: Offset,
}

/// A consumer instance.
#[derive(Clone, Debug)]
pub struct ConsumerInstance {
    stored: StoredInstance,
    pub(super) assignment: BTreeSet<TopicPartition>,
    assignment_version: u64,
    pub(super) positions: BTreeMap<TopicPartition, Position>,
    pub(super) open: Option<OpenPoll>,
    last_call_ms: u64,
    /// When it may commit by itself again.
    pub(super) auto_commit_due_ms: u64,
    /// Whether the definition has to be stored.
    is_changed: bool,
    /// The positions that have to be stored, or removed.
    changed: BTreeSet<TopicPartition>,
}

impl ConsumerInstance {
    /// An instance that was created just now. The definition is one that was validated.
    #[must_use]
    pub fn new(definition: InstanceDefinition, creation: u64, created_ms: i64, now_ms: u64) -> Self {
        let subscription = Subscription::None;
        let stored = StoredInstance { creation, created_ms, definition, subscription, member_id: None };
        Self { is_changed: true, ..Self::restore(stored, now_ms) }
    }

    /// An instance as its definition was stored. Its positions follow by [`ConsumerInstance::restore_position`]; its
    /// timers begin anew.
    #[must_use]
    pub fn restore(stored: StoredInstance, now_ms: u64) -> Self {
        let assignment = match &stored.subscription {
            Subscription::Manual(partitions) => partitions.iter().cloned().collect(),
            _ => BTreeSet::new(),
        };
        Self {
            stored,
            assignment,
            assignment_version: 0,
            positions: BTreeMap::new(),
            open: None,
            last_call_ms: now_ms,
            auto_commit_due_ms: now_ms,
            is_changed: false,
            changed: BTreeSet::new(),
        }
    }

    /// Takes over a position as it was stored. A delivery that nobody has confirmed may still be confirmed by its edge.
    pub fn restore_position(&mut self, partition: TopicPartition, stored: StoredPosition, now_ms: u64) {
        let StoredPosition { confirmed, by, is_sought, begun, delivered } = stored;
        let delivered = delivered.map(|(poll, edge, next)| Delivery { poll, edge, next });
        if let Some(Delivery { poll, edge, .. }) = delivered
            && self.open.as_ref().is_none_or(|open| open.poll < poll)
        {
            self.open = Some(OpenPoll::found(poll, edge, now_ms + CONFIRMATION_GRACE_MS));
        }
        self.positions.insert(partition, Position { confirmed, by, begun, is_sought, delivered });
    }

    /// What it was told at its creation.
    #[must_use]
    pub const fn definition(&self) -> &InstanceDefinition {
        &self.stored.definition
    }

    /// The number that its creator has drawn for it: a creation that is repeated is recognised by it.
    #[must_use]
    pub const fn creation(&self) -> u64 {
        self.stored.creation
    }

    /// What it reads.
    #[must_use]
    pub const fn subscription(&self) -> &Subscription {
        &self.stored.subscription
    }

    /// Whether it reads topics together with the other members of its group.
    #[must_use]
    pub const fn shares(&self) -> bool {
        matches!(self.stored.subscription, Subscription::Topics(_) | Subscription::Pattern(_))
    }

    /// Its member in the group. One that shares and has none was expelled.
    #[must_use]
    pub fn member_id(&self) -> Option<&str> {
        self.stored.member_id.as_deref()
    }

    /// The partitions that are its own.
    pub fn assignment(&self) -> impl ExactSizeIterator<Item = &TopicPartition> {
        self.assignment.iter()
    }

    /// Whether a partition is its own.
    #[must_use]
    pub fn owns(&self, partition: &TopicPartition) -> bool {
        self.assignment.contains(partition)
    }

    /// Whether it was given anything of a partition, or moved there, since that is its own.
    #[must_use]
    pub fn was_given(&self, partition: &TopicPartition) -> bool {
        self.positions.contains_key(partition)
    }

    /// Another number whenever the assignment is another one.
    #[must_use]
    pub const fn assignment_version(&self) -> u64 {
        self.assignment_version
    }

    /// The next offset of each partition in which it is known, as far as deliveries are confirmed.
    pub fn positions(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.positions.iter().filter_map(|(partition, position)| Some((partition, position.confirmed?)))
    }

    /// A call of the client has come.
    pub fn touch(&mut self, now_ms: u64) {
        self.last_call_ms = now_ms;
    }

    /// Whether its client was silent for too long. A poll under way is no silence.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        !self.is_polling(now_ms)
            && now_ms.saturating_sub(self.last_call_ms) >= self.stored.definition.instance_timeout_ms
    }

    /// Says what it reads, and who it is in its group. Partitions by hand are assigned at once; those of a member
    /// follow by [`ConsumerInstance::set_assignment`].
    pub fn subscribe(&mut self, subscription: Subscription, member_id: Option<String>, version: u64) {
        let by_hand = match &subscription {
            Subscription::Manual(partitions) => Some(partitions.iter().cloned().collect()),
            Subscription::None => Some(BTreeSet::new()),
            Subscription::Topics(_) | Subscription::Pattern(_) => None,
        };
        if self.stored.subscription != subscription {
            self.stored.subscription = subscription;
            self.is_changed = true;
        }
        self.set_member(member_id);
        if let Some(partitions) = by_hand {
            self.set_assignment(partitions, version);
        }
    }

    /// It has joined its group as this member, or was taken out.
    pub fn set_member(&mut self, member_id: Option<String>) {
        self.is_changed |= self.stored.member_id != member_id;
        self.stored.member_id = member_id;
    }

    /// It was expelled from its group: nothing is its own any more.
    pub fn expel(&mut self, version: u64) {
        self.set_member(None);
        self.set_assignment(BTreeSet::new(), version);
    }

    /// These partitions are its own from now on; what it knew of others is forgotten. The version is taken over when
    /// anything changes.
    pub fn set_assignment(&mut self, assignment: BTreeSet<TopicPartition>, version: u64) {
        if assignment != self.assignment {
            self.assignment = assignment;
            self.assignment_version = version;
        }
        self.forget(|partition, assignment| !assignment.contains(partition));
    }

    /// Forgets what it knows of partitions that are gone. Those that it was given by hand are no longer its own.
    pub fn forget_partitions(&mut self, is_gone: impl Fn(&TopicPartition) -> bool, version: u64) {
        let by_hand = match &mut self.stored.subscription {
            Subscription::Manual(partitions) => {
                let before = partitions.len();
                partitions.retain(|partition| !is_gone(partition));
                before != partitions.len()
            }
            _ => false,
        };
        if by_hand {
            self.is_changed = true;
            self.assignment.retain(|partition| !is_gone(partition));
            self.assignment_version = version;
        }
        self.forget(|partition, _| is_gone(partition));
    }

    fn forget(&mut self, is_lost: impl Fn(&TopicPartition, &BTreeSet<TopicPartition>) -> bool) {
        let Self { positions, changed, assignment, open, .. } = self;
        positions.retain(|partition, _| {
            let is_lost = is_lost(partition, assignment);
            if is_lost {
                changed.insert(partition.clone());
            }
            !is_lost
        });
        if let Some(open) = open {
            open.withdraw(|partition| is_lost(partition, assignment));
        }
    }

    /// Moves to these offsets. A poll under way is refused these partitions. One whose client says itself what it has
    /// is not sent back below where it began: what is there others have committed.
    ///
    /// # Errors
    /// [`NotAssigned`]; then nothing has changed.
    pub fn seek(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), NotAssigned> {
        if let Some((foreign, _)) = offsets.iter().find(|(partition, _)| !self.owns(partition)) {
            return Err(NotAssigned(foreign.clone()));
        }
        let is_bound = self.definition().confirmation == Confirmation::Token;
        for (partition, offset) in offsets {
            let position = self.positions.entry(partition.clone()).or_insert_with(|| Position::begun_at(*offset));
            let Position { by, begun, .. } = *position;
            let offset = begun.filter(|_| is_bound).map_or(*offset, |begun| begun.max(*offset));
            *position = Position { confirmed: Some(offset), by, begun, is_sought: true, delivered: None };
            self.changed.insert(partition.clone());
            if let Some(open) = &mut self.open {
                open.withdraw(|withdrawn| withdrawn == partition);
            }
        }
        Ok(())
    }

    pub(super) fn mark(&mut self, partition: TopicPartition) {
        self.changed.insert(partition);
    }

    /// What has changed since this was called last, and is to be stored.
    pub fn take_changes(&mut self) -> Vec<InstanceChange> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.is_changed) {
            changes.push(InstanceChange::Definition(self.stored.clone()));
        }
        for partition in std::mem::take(&mut self.changed) {
            let stored = self.positions.get(&partition).map(|position| StoredPosition {
                confirmed: position.confirmed,
                by: position.by,
                is_sought: position.is_sought,
                begun: position.begun,
                delivered: position.delivered.map(|Delivery { poll, edge, next }| (poll, edge, next)),
            });
            changes.push(InstanceChange::Position(partition, stored));
        }
        changes
    }

    /// What has to be stored when the instance goes: its positions are removed. The definition's removal is the
    /// caller's.
    #[must_use]
    pub fn into_removals(self) -> Vec<TopicPartition> {
        let Self { positions, mut changed, .. } = self;
        changed.extend(positions.into_keys());
        changed.into_iter().collect()
    }
}
