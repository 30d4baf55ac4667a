//! How large a run of the model is, and which rule it breaks on purpose.

use pubg1_model::replication::Counting;

/// A rule broken on purpose. A model that does not catch every one of them proves nothing.
///
/// Each is a lie told to the shipped functions (a message changed on its way, a fact kept from
/// them), so that the functions themselves stay whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The controller compares offsets, not adopted epochs.
    PicksByOffsetAlone,
    /// A replica that has forgotten counts towards the quorum of a fence.
    CountsForgetfulInFence,
    /// A wiped replica does not take its promise from the metadata.
    ForgetsPromise,
    /// A leader that restarted leads on in its epoch.
    ResumesLeadership,
    /// A wiped replica adopts at the epoch's start offset.
    AdoptsAtEpochStart,
    /// A leader counts a follower that has not adopted its epoch.
    CountsBeforeAdoption,
    /// A replica counts what is not flushed, on a disk that loses it.
    AcknowledgesBeforeFlush,
    /// A follower truncates to the high watermark it remembers.
    TruncatesToHighWatermark,
    /// The life that answered a fence is not asked for when it is to lead.
    IgnoresIncarnation,
    /// A leader is committed without a look at the epoch.
    CommitsLeaderUnchecked,
    /// A change of the replica set needs quorums of the new set only.
    MovesWithoutOldQuorum,
    /// A change of the replica set ends before the new set has caught up.
    EndsMoveEarly,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Three new replicas in epoch 0, and nobody has ever led.
    Founding,
    /// Replica 0 has just begun to lead epoch 1, with an empty log; all have answered the fence.
    Led,
}

/// The bounds of a run; within them it is exhaustive.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Where it begins.
    pub start: Start,
    /// The last epoch that may begin.
    pub epochs: u32,
    /// How many records are produced.
    pub records: u8,
    /// How many processes end, with or without the loss of what is not flushed.
    pub crashes: u8,
    /// How many disks are wiped (or machines reboot, when log ends count).
    pub wipes: u8,
    /// How often the controller is deposed with an election in its hands.
    pub controller_changes: u8,
    /// How often a leader steps down by itself.
    pub step_downs: u8,
    /// Whether the replica set changes from {0, 1, 2} to {0, 1, 3}.
    pub moves: bool,
    /// Whether that may be cancelled.
    pub cancels: bool,
    /// What counts as held.
    pub counting: Counting,
    /// Whether high watermarks travel; when they do not, every hint is lost.
    pub hints: bool,
    /// The broken rule.
    pub mutant: Option<Mutant>,
}

impl Scope {
    /// Two elections after the first leader, no fault.
    pub const BASE: Self = Self {
        start: Start::Led,
        epochs: 3,
        records: 1,
        crashes: 0,
        wipes: 0,
        controller_changes: 0,
        step_downs: 0,
        moves: false,
        cancels: false,
        counting: Counting::Flushed,
        hints: false,
        mutant: None,
    };

    pub fn breaks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// How many replicas there are.
    pub fn replicas(&self) -> usize {
        if self.moves { 4 } else { 3 }
    }
}
