//! Looks at the cluster again and again beside the launcher, which a slow answer must not hold up.

use std::{collections::BTreeMap, time::Duration};

use pubg1_model::TopicName;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    client::{Client, ClientError},
    view::View,
};

/// Ends of more partitions than this are not asked for: it would be a request each.
const ENDS_MAX: usize = 64;

/// What was seen, or why nothing was.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) view: Result<View, String>,
    /// How many records the topics have held, where that was asked for.
    pub(super) records: BTreeMap<TopicName, u64>,
}

/// The task that looks. It ends when this is dropped.
pub(super) struct Watcher {
    sights: mpsc::Receiver<Sight>,
    task: JoinHandle<()>,
}

impl Watcher {
    pub(super) fn start(client: Client, interval: Duration) -> Self {
        let (sender, sights) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if sender.send(look(&client).await).await.is_err() {
                    return;
                }
            }
        });
        Self { sights, task }
    }

    pub(super) async fn next(&mut self) -> Sight {
        match self.sights.recv().await {
            Some(sight) => sight,
            // The task only ends with this.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(client: &Client) -> Sight {
    match View::look(client).await {
        Ok(view) => {
            let records = ends(client, &view).await;
            Sight { view: Ok(view), records }
        }
        Err(error) => Sight { view: Err(error.to_string()), records: BTreeMap::new() },
    }
}

async fn ends(client: &Client, view: &View) -> BTreeMap<TopicName, u64> {
    let mut records = BTreeMap::new();
    let public = || view.topics.iter().filter(|topic| !topic.name.is_internal());
    if public().map(|topic| topic.partitions.len()).sum::<usize>() > ENDS_MAX {
        return records;
    }
    for topic in public() {
        let mut sum = 0;
        for partition in topic.partitions.iter().filter(|partition| partition.leader().is_some()) {
            match client.offsets(&topic.name, partition.partition).await {
                Ok(offsets) => sum += offsets.end_offset.get(),
                Err(ClientError::Refused { .. }) => {}
                Err(_) => return records,
            }
        }
        records.insert(topic.name.clone(), sum);
    }
    records
}
