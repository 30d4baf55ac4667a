//! The replica as leader: chosen, flushing its tail, appending, answering its followers.

use super::{Replica, Role, StaleEpoch};
use crate::{
    BrokerId, LeaderEpoch, Offset,
    cluster::Incarnation,
    replication::{
        Effect, LeaderProgress, ReplicaSet,
        leader::NotAdmitted,
        message::{EpochEndAnswer, EpochEndQuery, EpochSpan, FetchAnswer, ReplicaFetch},
    },
};

/// Why a replica does not take the leadership that the metadata log names it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotElectable {
    /// It has not promised this epoch, or a newer one since.
    #[error("named as leader of epoch {epoch}, but epoch {promised} is promised")]
    OtherPromise {
        /// The epoch of the leadership.
        epoch: LeaderEpoch,
        /// The epoch that is promised.
        promised: LeaderEpoch,
    },
    /// A former life of the broker answered the fence.
    #[error("the leader of epoch {epoch} is a former life of this broker; a leadership is never resumed")]
    FormerLife {
        /// The epoch of the leadership.
        epoch: LeaderEpoch,
    },
    /// It has led the epoch before, or it has forgotten.
    #[error("epoch {epoch} cannot be led by a replica that has led it before, or has forgotten")]
    NotFit {
        /// The epoch of the leadership.
        epoch: LeaderEpoch,
    },
}

/// The replica does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead the partition; in epoch {promised} look for its leader")]
pub struct NotLeader {
    /// The epoch that it has promised.
    pub promised: LeaderEpoch,
}

/// Why a fetch of a follower gets no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchRefused {
    /// This replica does not lead.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The follower is in another epoch.
    #[error(transparent)]
    StaleEpoch(#[from] StaleEpoch),
    /// The follower knows of a newer epoch: this leadership is over.
    #[error("epoch {received} has begun, this replica leads epoch {leading}")]
    NewerEpoch {
        /// The epoch of the request.
        received: LeaderEpoch,
        /// The epoch of the leadership.
        leading: LeaderEpoch,
    },
    /// The broker is not in the replica set as this leader knows it; it may learn of it soon.
    #[error("broker {broker} is not in the replica set that this leader knows; try again")]
    UnknownReplica {
        /// Who asks.
        broker: BrokerId,
    },
    /// The request comes from a former life of its broker.
    #[error("broker {broker} has registered anew, this is a request of its former life")]
    FormerLife {
        /// Who asks.
        broker: BrokerId,
    },
    /// The follower has to look again for where the logs part.
    #[error("the log ends at {log_end}, before the fetch offset {fetch_offset}; look for where the logs part")]
    BeyondLogEnd {
        /// What was asked for.
        fetch_offset: Offset,
        /// The leader's log end offset.
        log_end: Offset,
    },
    /// The records are deleted: the follower begins again at the start of the leader's log.
    #[error("the log starts at {log_start}, after the fetch offset {fetch_offset}; begin again there")]
    BelowLogStart {
        /// What was asked for.
        fetch_offset: Offset,
        /// The leader's log start offset.
        log_start: Offset,
    },
}

/// Why the end of an epoch is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryRefused {
    /// This replica does not lead.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// It leads another epoch than the one asked.
    #[error("asked as leader of epoch {received}, this replica leads epoch {leading}")]
    OtherEpoch {
        /// The epoch of the request.
        received: LeaderEpoch,
        /// The epoch of the leadership.
        leading: LeaderEpoch,
    },
}

impl Replica {
    /// The metadata log names this replica as leader of `epoch`, in the life `incarnation`. The
    /// tail is flushed first; leading begins when [`Replica::on_flushed`] says so, or at once.
    ///
    /// `set` is the replica set at that entry of the metadata log, or later.
    ///
    /// # Errors
    /// [`NotElectable`], and then a newer epoch has to be asked for.
    pub fn elect(
        &mut self,
        epoch: LeaderEpoch,
        incarnation: Incarnation,
        set: ReplicaSet,
        now_ms: u64,
    ) -> Result<Vec<Effect>, NotElectable> {
        let promised = self.durable.promised_epoch;
        if promised != epoch {
            return Err(NotElectable::OtherPromise { epoch, promised });
        }
        if self.identity.incarnation != incarnation {
            return Err(NotElectable::FormerLife { epoch });
        }
        if !matches!(self.role, Role::Waiting) || self.durable.adopted_epoch.is_none_or(|adopted| adopted >= epoch) {
            return Err(NotElectable::NotFit { epoch });
        }
        self.role = Role::Elected { set, now_ms };
        Ok(match self.begin_flush() {
            Some(flush) => vec![Effect::Flush(flush)],
            None => self.lead_when_flushed(),
        })
    }

    pub(super) fn lead_when_flushed(&mut self) -> Vec<Effect> {
        if self.flushed < self.log_end {
            return Vec::new();
        }
        let Role::Elected { set, now_ms } = std::mem::replace(&mut self.role, Role::Waiting) else {
            return Vec::new();
        };
        let epoch = self.durable.promised_epoch;
        self.durable.adopted_epoch = Some(epoch);
        self.epochs.assign(epoch, self.log_end);
        self.role = Role::Leader(LeaderProgress::new(self.identity.broker, epoch, self.log_end, set, now_ms));
        let mut effects = vec![
            Effect::Store(self.durable),
            Effect::RecordEpochStart { epoch, start_offset: self.log_end },
            Effect::Lead { epoch },
        ];
        effects.extend(self.advance());
        effects
    }

    /// `records` were appended to the log, in the epoch that this replica leads. Answers the first
    /// of their offsets; what is committed by it is in the effects.
    ///
    /// # Errors
    /// [`NotLeader`], and the log must not have been written to.
    pub fn append(&mut self, records: u64) -> Result<(Offset, Vec<Effect>), NotLeader> {
        self.as_leader()?;
        let base_offset = self.log_end;
        self.log_end = base_offset.plus(records);
        Ok((base_offset, self.advance()))
    }

    fn as_leader(&self) -> Result<&LeaderProgress, NotLeader> {
        self.leading().ok_or(NotLeader { promised: self.durable.promised_epoch })
    }

    /// Moves the high watermark to what is committed, never back.
    pub(super) fn advance(&mut self) -> Vec<Effect> {
        let committed = self.leading().and_then(|progress| progress.committed(self.counted()));
        match committed {
            Some(to) if to > self.high_watermark => {
                self.high_watermark = to;
                vec![Effect::AdvanceHighWatermark { to }]
            }
            _ => Vec::new(),
        }
    }

    /// Where the epoch that a follower asks about ends in this leader's log.
    ///
    /// # Errors
    /// [`QueryRefused`] when this replica does not lead the epoch.
    pub fn epoch_end(&self, query: &EpochEndQuery) -> Result<EpochEndAnswer, QueryRefused> {
        let leading = self.as_leader()?.epoch();
        if query.epoch != leading {
            return Err(QueryRefused::OtherEpoch { received: query.epoch, leading });
        }
        let end = self.epochs.end_offset_for(query.asked_epoch, self.log_end);
        Ok(EpochEndAnswer { epoch: leading, end })
    }

    /// A follower fetches: its acknowledgement is counted, and the answer says what it gets, from
    /// its fetch offset up to `read_to`, which the caller chooses by bytes, and what it may adopt.
    ///
    /// # Errors
    /// [`FetchRefused`]. Nothing has been counted.
    pub fn on_fetch(
        &mut self,
        from: BrokerId,
        fetch: &ReplicaFetch,
        log_start: Offset,
        read_to: Offset,
        now_ms: u64,
    ) -> Result<(FetchAnswer, Vec<Effect>), FetchRefused> {
        let (log_end, fetch_offset) = (self.log_end, fetch.fetch_offset);
        let promised = self.durable.promised_epoch;
        let Role::Leader(progress) = &mut self.role else { return Err(NotLeader { promised }.into()) };
        let epoch = progress.epoch();
        if fetch.epoch < epoch {
            return Err(StaleEpoch { received: fetch.epoch, promised: epoch }.into());
        }
        if fetch.epoch > epoch {
            return Err(FetchRefused::NewerEpoch { received: fetch.epoch, leading: epoch });
        }
        if fetch_offset > log_end {
            return Err(FetchRefused::BeyondLogEnd { fetch_offset, log_end });
        }
        if fetch_offset < log_start {
            return Err(FetchRefused::BelowLogStart { fetch_offset, log_start });
        }
        let adopt_at = progress.on_fetch(from, fetch, log_end, now_ms).map_err(|refused| match refused {
            NotAdmitted::UnknownReplica => FetchRefused::UnknownReplica { broker: from },
            NotAdmitted::FormerLife => FetchRefused::FormerLife { broker: from },
        })?;
        let effects = self.advance();
        let spans = self.spans(fetch_offset, read_to.min(log_end));
        Ok((FetchAnswer { epoch, high_watermark: self.high_watermark, adopt_at, spans }, effects))
    }

    /// The epochs of the records from `from` to `to`.
    fn spans(&self, from: Offset, to: Offset) -> Vec<EpochSpan> {
        let entries = self.epochs.entries();
        let ends = entries.iter().skip(1).map(|next| next.start_offset).chain([to]);
        let span = |(entry, end): (&crate::leader_epochs::EpochStart, Offset)| EpochSpan {
            epoch: entry.epoch,
            start_offset: entry.start_offset.max(from),
            end_offset: end.min(to),
        };
        entries.iter().zip(ends).map(span).filter(|span| span.start_offset < span.end_offset).collect()
    }

    /// The metadata log has changed the replica set. A leader that is in it no longer steps down.
    pub fn on_replica_set(&mut self, set: ReplicaSet, now_ms: u64) -> Vec<Effect> {
        let (broker, log_end) = (self.identity.broker, self.log_end);
        match &mut self.role {
            Role::Leader(_) if !set.contains(broker) => self.step_down(),
            Role::Elected { .. } if !set.contains(broker) => self.step_down(),
            Role::Leader(progress) => {
                progress.on_replica_set(set, log_end, now_ms);
                self.advance()
            }
            Role::Elected { set: current, .. } => {
                *current = set;
                Vec::new()
            }
            Role::Waiting | Role::Follower(_) => Vec::new(),
        }
    }

    /// Whether the change of the replica set that this leader knows of can be ended, in the epoch
    /// that it leads.
    #[must_use]
    pub fn is_move_complete(&self) -> bool {
        self.leading().is_some_and(|progress| progress.is_move_complete(self.counted()))
    }
}
