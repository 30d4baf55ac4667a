//! Reads partitions that are dealt out by number, or those that a group is given.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
};

use crate::{
    target::{Subscriber, TargetError, Topic},
    targets::address::Address,
};

/// Records that are taken at once.
const COUNT: usize = 5_000;
/// How long brokers may take to say where a partition ends.
const ANSWER: Duration = Duration::from_secs(5);

/// A consumer.
pub(super) struct Reader {
    consumer: StreamConsumer,
}

impl Reader {
    /// From the beginning, or from now on; a group goes on where it was.
    pub(super) async fn open(
        address: &Address,
        mut config: ClientConfig,
        topic: &Topic,
        partitions: Vec<u32>,
        from_the_beginning: bool,
    ) -> Result<Self, TargetError> {
        let refused = |reason: String| address.refused("subscribe", reason);
        config.set("group.id", topic.group.as_deref().unwrap_or("pubg1-bench"));
        config.set("enable.auto.commit", if topic.group.is_some() { "true" } else { "false" });
        config.set("auto.offset.reset", "latest").set("fetch.wait.max.ms", "100").set("fetch.min.bytes", "1");
        let consumer: StreamConsumer = config.create().map_err(|error| refused(error.to_string()))?;
        if topic.group.is_some() {
            consumer.subscribe(&[&topic.name]).map_err(|error| refused(error.to_string()))?;
            return Ok(Self { consumer });
        }
        // Ends are asked for now: a consumer that is told "the end" looks for it when it first fetches.
        let name = topic.name.clone();
        let assigned = tokio::task::spawn_blocking(move || {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                let partition = i32::try_from(partition).unwrap_or(i32::MAX);
                let offset = if from_the_beginning {
                    Offset::Beginning
                } else {
                    let (_, end) =
                        consumer.fetch_watermarks(&name, partition, ANSWER).map_err(|error| error.to_string())?;
                    Offset::Offset(end)
                };
                list.add_partition_offset(&name, partition, offset).map_err(|error| error.to_string())?;
            }
            consumer.assign(&list).map_err(|error| error.to_string())?;
            Ok::<_, String>(consumer)
        });
        let consumer = assigned.await.map_err(|error| refused(error.to_string()))?.map_err(refused)?;
        Ok(Self { consumer })
    }
}

impl Subscriber for Reader {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let Ok(mut next) = tokio::time::timeout(wait, self.consumer.recv()).await else { return Ok(()) };
            let mut taken = 0;
            loop {
                // An error is one of a broker that is gone for now: librdkafka looks for another itself.
                if let Ok(record) = &next {
                    each(record.payload().unwrap_or_default());
                }
                taken += 1;
                // What is taken out of the queue is given, so nothing is taken out behind the last.
                match if taken < COUNT { self.consumer.recv().now_or_never() } else { None } {
                    Some(more) => next = more,
                    None => return Ok(()),
                }
            }
        })
    }
}
