//! Where the leader of a partition is, and patience with a partition that has none.

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, LeaderEpoch, TopicName,
    cluster::{ClusterImage, PartitionImage},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Refusal, messages::Place};
use crate::{
    errors::OfflineReason,
    metadata::MetadataHandle,
    node::NodeContext,
    partition::{PartitionSlot, PartitionStatus},
};

/// How long a request waits in total for a leader that can take it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Pauses before a leader is asked again of which nothing new is heard. They double.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Who can take a request now.
pub(crate) enum Leader {
    /// The replica on this broker.
    Here(Arc<PartitionSlot>),
    /// Another broker, in this epoch, as far as the image tells.
    There(BrokerId, LeaderEpoch),
    /// Nobody.
    Absent(Absent),
}

/// Why nobody can take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The topic is gone.
    Deleted,
    /// This broker shuts down.
    Draining,
    /// This broker alone keeps the partition, and is reading it.
    Recovering,
    /// This broker alone keeps the partition, and cannot serve it.
    Offline(Arc<OfflineReason>),
    /// This broker has just started and knows only who led when it ended: others know who leads now.
    Outdated,
    /// A leader is to come: an election is under way, or the one that is named has not begun to lead.
    Awaited(Option<BrokerId>),
}

/// A partition, and the way to whoever leads it.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) node: &'a NodeContext,
    pub(crate) metadata: &'a MetadataHandle,
    pub(crate) topic: &'a TopicName,
    pub(crate) place: Place,
}

impl Route<'_> {
    /// The replica here, if this broker keeps one.
    pub(crate) fn own(&self) -> Option<Arc<PartitionSlot>> {
        let slot = self.node.table.get(self.topic, self.place.partition)?;
        (slot.identity.topic_id == self.place.topic_id).then_some(slot)
    }

    /// Who can take a request now.
    pub(crate) fn leader(&self) -> Leader {
        let own = self.own();
        let Some(slot) = own.filter(|slot| slot.leads()) else { return self.leader_elsewhere() };
        Leader::Here(slot)
    }

    fn leader_elsewhere(&self) -> Leader {
        let node = self.node;
        let image = self.metadata.image();
        let Some(partition) = self.in_image(&image) else {
            // It may have been created while this broker was away.
            let is_current = self.metadata.is_opened();
            return Leader::Absent(if is_current { Absent::Deleted } else { Absent::Outdated });
        };
        if node.is_draining() {
            return Leader::Absent(Absent::Draining);
        }
        let this = node.config.broker_id;
        match partition.leader {
            Some(leader) if leader != this => Leader::There(leader, partition.leader_epoch),
            _ if self.is_outdated(partition) => Leader::Absent(Absent::Outdated),
            leader => Leader::Absent(self.own_trouble(partition, this).unwrap_or(Absent::Awaited(leader))),
        }
    }

    /// Whether the image may be too old to say who leads: until this broker has caught up with the metadata log, it is
    /// the one of its former life. Where this broker alone keeps the partition, nobody else serves it sooner.
    fn is_outdated(&self, partition: &PartitionImage) -> bool {
        let this = self.node.config.broker_id;
        !self.metadata.is_opened() && partition.members().any(|member| member != this)
    }

    /// Whether whoever asks had better ask another broker than wait here for a leader.
    fn others_know_better(&self) -> bool {
        let image = self.metadata.image();
        self.in_image(&image).is_some_and(|partition| self.is_outdated(partition))
    }

    pub(crate) fn in_image<'i>(&self, image: &'i ClusterImage) -> Option<&'i PartitionImage> {
        image.topic_by_id(self.place.topic_id)?.partition(self.place.partition)
    }

    /// Why this broker does not serve what it alone keeps: nobody else could, so there is nothing to wait for.
    fn own_trouble(&self, partition: &PartitionImage, this: BrokerId) -> Option<Absent> {
        if partition.replicas != [this] {
            return None;
        }
        match self.own()?.view().status {
            PartitionStatus::Recovering => Some(Absent::Recovering),
            PartitionStatus::Offline(reason) => Some(Absent::Offline(reason)),
            PartitionStatus::Closed => Some(Absent::Draining),
            _ => None,
        }
    }

    /// Has whoever leads do something: `here` on this broker's replica, or `there` by asking another broker. Where
    /// nothing was done, or `again` says that it does no harm, it waits for a change and tries again, but not for ever;
    /// and not at all while other brokers know better who leads.
    pub(crate) async fn run<T, E: Refusal>(
        &self,
        mut patience: Patience,
        here: impl AsyncFn(&PartitionSlot) -> Result<T, E>,
        there: impl AsyncFn(BrokerId, LeaderEpoch) -> Result<T, E>,
        again: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let retry_after_ms = self.node.retry_after_ms();
        loop {
            patience.look();
            let error = match self.leader() {
                Leader::Here(slot) => match here(&slot).await {
                    Err(error) => error,
                    done => return done,
                },
                Leader::There(leader, epoch) => match there(leader, epoch).await {
                    Err(error) => error.told_elsewhere(leader, retry_after_ms),
                    done => return done,
                },
                Leader::Absent(absent @ Absent::Awaited(_)) => E::absent(absent, retry_after_ms),
                Leader::Absent(absent) => return Err(E::absent(absent, retry_after_ms)),
            };
            if !(again(&error) || error.is_not_leading()) {
                return Err(error);
            }
            if self.others_know_better() {
                let is_refused = error.is_not_leading();
                return Err(if is_refused { E::absent(Absent::Outdated, retry_after_ms) } else { error });
            }
            if !patience.wait(self).await {
                return Err(error);
            }
        }
    }
}

/// Waits for changes, [`PATIENCE`] in total.
pub(crate) struct Patience {
    images: watch::Receiver<Arc<ClusterImage>>,
    /// Since when it has been needed.
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(metadata: &MetadataHandle) -> Self {
        Self { images: metadata.images(), since: None, pause: PAUSE_MIN }
    }

    /// What has changed until now is known.
    fn look(&mut self) {
        self.images.borrow_and_update();
    }

    /// Waits until there is a reason to try again; `false` when there was time enough for it.
    async fn wait(&mut self, route: &Route<'_>) -> bool {
        let now = Instant::now();
        let until = *self.since.get_or_insert(now) + PATIENCE;
        if now >= until {
            return false;
        }
        let pause = self.pause.min(until - now);
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        let begins_to_lead = async {
            // One that leads already and refuses says nothing when it changes its mind.
            let Some(slot) = route.own().filter(|slot| !slot.leads()) else { return std::future::pending().await };
            let mut views = slot.published.subscribe();
            views
                .wait_for(|published| published.view.status == PartitionStatus::Leader)
                .await
                .map(drop)
                .unwrap_or_default();
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = begins_to_lead => {}
            () = route.node.draining() => {}
            // The image's sender lives as long as the metadata's handle.
            Ok(()) = self.images.changed() => self.pause = PAUSE_MIN,
        }
        true
    }
}
