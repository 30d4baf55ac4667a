//! What must hold in every run, one file each. An invariant is told what happens and says what contradicts it.

#[path = "invariants/acked_is_kept.rs"]
mod acked_is_kept;
#[path = "invariants/consumers_skip_nothing.rs"]
mod consumers_skip_nothing;
#[path = "invariants/group_offsets_never_go_back.rs"]
mod group_offsets_never_go_back;
#[path = "invariants/high_watermark_is_monotonic.rs"]
mod high_watermark_is_monotonic;
#[path = "invariants/offsets_are_dense.rs"]
mod offsets_are_dense;
#[path = "invariants/reads_never_contradict.rs"]
mod reads_never_contradict;
#[path = "invariants/replicas_agree.rs"]
mod replicas_agree;
#[path = "invariants/single_leader_per_epoch.rs"]
mod single_leader_per_epoch;

pub(crate) use acked_is_kept::AckedIsKept;
pub(crate) use consumers_skip_nothing::ConsumersSkipNothing;
pub(crate) use group_offsets_never_go_back::GroupOffsetsNeverGoBack;
pub(crate) use high_watermark_is_monotonic::HighWatermarkIsMonotonic;
pub(crate) use offsets_are_dense::OffsetsAreDense;
pub(crate) use reads_never_contradict::ReadsNeverContradict;
pub(crate) use replicas_agree::replicas_agree;
pub(crate) use single_leader_per_epoch::SingleLeaderPerEpoch;
