//! What can be asked of a broker about its cluster, and what operators change there.

use std::{collections::BTreeSet, time::Duration};

use pubg1_model::{
    BrokerId, Offset, PartitionId, TopicName, TopicPartition,
    cluster::{PartitionImage, TopicImage},
};

use super::BrokerHandle;
use crate::{
    broker,
    errors::{ClusterChangeError, FetchError, LookupError, MetadataUnavailable},
    partition::{LeaderView, ReplicaBatches, ReplicaStatus},
};

/// How the cluster stands, as its controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The broker that says so.
    pub controller: BrokerId,
    /// Brokers that it hears from.
    pub alive: Vec<BrokerId>,
    /// Partitions that nobody leads, and why.
    pub offline: Vec<OfflinePartition>,
    /// Partitions with a replica that is not in sync.
    pub under_replicated: u64,
}

/// A partition that nobody leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflinePartition {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: PartitionId,
    /// Why, and what it waits for.
    pub reason: String,
}

/// How the metadata group stands, as this broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataGroup {
    /// The leader, which is the controller; `None` while there is none.
    pub controller: Option<BrokerId>,
    /// Its term.
    pub term: u64,
    /// The last entry of the log that has been applied here.
    pub last_applied: u64,
    /// The brokers that decide.
    pub voters: BTreeSet<BrokerId>,
}

/// A move of a partition to other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: PartitionId,
    /// The replicas now.
    pub from: Vec<BrokerId>,
    /// The replicas afterwards, the preferred leader first.
    pub to: Vec<BrokerId>,
}

impl BrokerHandle {
    /// The broker that decides about topics and leaders, as far as is known here.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        self.services().metadata.controller().borrow().map(|leads| leads.broker)
    }

    /// How the metadata group stands, as this broker sees it. No message is sent.
    #[must_use]
    pub fn metadata_group(&self) -> MetadataGroup {
        let status = self.services().metadata.status();
        MetadataGroup {
            controller: self.controller(),
            term: status.term,
            last_applied: status.last_applied.unwrap_or(0),
            voters: status.voters.into_iter().collect(),
        }
    }

    /// How the cluster stands; asked of the controller, which is looked for as long as `patience` lasts.
    ///
    /// # Errors
    /// [`MetadataUnavailable`] when no controller answers.
    pub async fn cluster_status(&self, patience: Duration) -> Result<ClusterStatus, MetadataUnavailable> {
        let status = broker::cluster_status(self.services(), patience).await?;
        let offline = status.offline.into_iter().map(|offline| OfflinePartition {
            topic: offline.topic,
            partition: offline.partition,
            reason: offline.reason,
        });
        Ok(ClusterStatus {
            controller: status.controller,
            alive: status.alive,
            offline: offline.collect(),
            under_replicated: status.under_replicated,
        })
    }

    /// The replicas that are in sync, of each partition of a topic, as the leaders see it; none where that is not
    /// known.
    pub async fn in_sync(&self, topic: &TopicImage) -> Vec<Vec<BrokerId>> {
        broker::in_sync(self.services(), topic).await
    }

    /// The partitions of the cluster as their leaders see them; those are left out whose leader does not answer in time.
    pub async fn leader_views(&self) -> Vec<(TopicPartition, LeaderView)> {
        broker::leader_views(self.services(), &self.image()).await
    }

    /// What each replica of a partition says of itself, or why it says nothing.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn replica_statuses(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<Vec<(BrokerId, Result<ReplicaStatus, String>)>, LookupError> {
        broker::replica_statuses(self.services(), topic, partition).await
    }

    /// Batches of one replica's own log, below the high watermark that it knows; to compare replicas.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn replica_batches(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        replica: BrokerId,
        from: Option<Offset>,
        max_bytes: usize,
    ) -> Result<ReplicaBatches, FetchError> {
        broker::replica_batches(self.services(), (topic, partition), replica, from, max_bytes).await
    }

    /// Makes a replica that is in sync the leader of its partition, and waits a moment until it is.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn move_leader(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        to: BrokerId,
    ) -> Result<PartitionImage, ClusterChangeError> {
        broker::move_leader(self.services(), topic, partition, to).await
    }

    /// Begins to move a partition to other replicas; the image says when that has ended.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn move_replicas(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        to: Vec<BrokerId>,
    ) -> Result<PartitionImage, ClusterChangeError> {
        broker::move_replicas(self.services(), topic, partition, to).await
    }

    /// Takes the move of a partition back.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn cancel_move(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<PartitionImage, ClusterChangeError> {
        broker::cancel_move(self.services(), topic, partition).await
    }

    /// Takes a broker out of service, so that it leads nothing and gets nothing new, or back. It serves on.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn set_draining(&self, broker: BrokerId, draining: bool) -> Result<(), ClusterChangeError> {
        broker::set_draining(self.services(), broker, draining).await
    }

    /// Forgets a broker that keeps no partition any more.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn remove_broker(&self, broker: BrokerId) -> Result<(), ClusterChangeError> {
        broker::remove_broker(self.services(), broker).await
    }

    /// Plans moves that even out what brokers keep and lead, and begins them unless they shall only be shown.
    ///
    /// # Errors
    /// [`ClusterChangeError`].
    pub async fn rebalance(&self, dry_run: bool) -> Result<Vec<PlannedMove>, ClusterChangeError> {
        broker::rebalance(self.services(), dry_run).await
    }
}
