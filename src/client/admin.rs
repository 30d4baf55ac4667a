//! What an operator asks and tells a cluster.

use pubg1_model::{BrokerId, PartitionId, TopicName};
use reqwest::Method;
use serde_json::json;

use super::{
    Client, ClientError,
    call::Call,
    reply::{HealthReply, MovesReply, ReplicasReply},
};

impl Client {
    /// How the cluster is. That it is not well is an answer, not an error.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn health(&self) -> Result<HealthReply, ClientError> {
        let answer = self.send(&Call::new(Method::GET, "/cluster/health").any_status()).await?;
        match answer.decode() {
            Ok(health) => Ok(health),
            Err(_) if !answer.status.is_success() => Err(answer.refusal()),
            Err(error) => Err(error),
        }
    }

    /// Every replica of a partition, as it answers itself.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn replicas(&self, topic: &TopicName, partition: PartitionId) -> Result<ReplicasReply, ClientError> {
        self.get(&format!("/topics/{topic}/partitions/{partition}/replicas")).await
    }

    /// Asks for a leader by its number.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn lead(&self, topic: &TopicName, partition: PartitionId, to: BrokerId) -> Result<(), ClientError> {
        let path = format!("/admin/topics/{topic}/partitions/{partition}/leader");
        self.send(&Call::new(Method::POST, path).json(&json!({ "leader": to }))).await.map(drop)
    }

    /// Begins to move a partition to these brokers.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn move_partition(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        to: &[BrokerId],
    ) -> Result<(), ClientError> {
        let path = format!("/admin/topics/{topic}/partitions/{partition}/replicas");
        self.send(&Call::new(Method::POST, path).json(&json!({ "replicas": to }))).await.map(drop)
    }

    /// Gives a move up.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn cancel_move(&self, topic: &TopicName, partition: PartitionId) -> Result<(), ClientError> {
        let path = format!("/admin/topics/{topic}/partitions/{partition}/replicas");
        self.send(&Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Tells a broker to give its leaderships away, or to take some again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn drain(&self, broker: BrokerId, drain: bool) -> Result<(), ClientError> {
        let path = format!("/admin/brokers/{broker}/drain");
        self.send(&Call::new(Method::POST, path).json(&json!({ "drain": drain }))).await.map(drop)
    }

    /// Takes a broker out of the cluster.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn remove_broker(&self, broker: BrokerId) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/admin/brokers/{broker}"))).await.map(drop)
    }

    /// Spreads replicas and leaderships evenly, or says what that would move.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn rebalance(&self, dry_run: bool) -> Result<MovesReply, ClientError> {
        self.post("/admin/rebalance", &json!({ "dry_run": dry_run })).await
    }
}
