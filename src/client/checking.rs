//! Requests of those who check a cluster: records published one by one, and logs of single replicas.

use pubg1_model::{BrokerId, Offset, PartitionId, TopicName, record_batch::ProducerIdentity};
use reqwest::Method;

use super::{Client, ClientError, FetchedBatches, call::Call, reply::PublishReply};

impl Client {
    /// Publishes a JSON object that names its topic and partition.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn publish(
        &self,
        acks: &str,
        identity: Option<ProducerIdentity>,
        object: Vec<u8>,
    ) -> Result<PublishReply, ClientError> {
        let call = Call::new(Method::POST, format!("/publish?acks={acks}"));
        self.json(&call.object(object).producer(identity)).await
    }

    /// Record batches from an offset on, as one replica holds them.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_from_replica(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        replica: BrokerId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<FetchedBatches, ClientError> {
        let query = format!("offset={offset}&max_bytes={max_bytes}&replica={replica}");
        let path = format!("/topics/{topic}/partitions/{partition}/batches?{query}");
        self.fetch_by(&Call::new(Method::GET, path)).await
    }
}
