//! What operators change about a cluster: where partitions are kept, who leads them, which brokers there are.

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, PartitionId, TopicName,
    cluster::{ClusterImage, MetadataCommand, MetadataError, PartitionImage, ReplicaMove},
    controller::LeaderRequestError,
    placement,
};
use tokio::time::timeout;

use super::cluster_status::{alive_brokers, ask_controller, members};
use crate::{
    controller::MoveLeader,
    errors::{ClusterChangeError, MetadataUnavailable},
    handles::PlannedMove,
    metadata::{MembershipError, ProposeError},
    rpc::{Services, kind},
};

/// How long the controller is looked for.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a leadership may take to move. It goes on afterwards.
const MOVE_PATIENCE: Duration = Duration::from_secs(5);

impl From<ProposeError> for ClusterChangeError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(MetadataError::UnknownBroker(broker)) => Self::UnknownBroker(broker),
            ProposeError::Refused(error) => Self::Refused(error.to_string()),
            ProposeError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}

/// Makes a broker lead a partition, and waits until it does.
pub(crate) async fn move_leader(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
    to: BrokerId,
) -> Result<PartitionImage, ClusterChangeError> {
    let (place, _) = members(services, topic, partition)?;
    let question = MoveLeader { topic_id: place.topic_id, partition, to };
    let answer: Result<(), LeaderRequestError> =
        ask_controller(services, kind::MOVE_LEADER, &question, CONTROLLER_PATIENCE).await?;
    answer.map_err(|refused| ClusterChangeError::Refused(refused.to_string()))?;
    let placed = |image: &Arc<ClusterImage>| image.topic_by_id(place.topic_id)?.partition(partition).cloned();
    let mut images = services.metadata.images();
    let moved = images.wait_for(|image| placed(image).is_none_or(|partition| partition.leader == Some(to)));
    // What has become of it by then is told.
    timeout(MOVE_PATIENCE, moved).await.map(drop).unwrap_or_default();
    placed(&services.metadata.image()).ok_or_else(|| ClusterChangeError::unknown_topic(topic))
}

/// Begins to move a partition to other replicas.
pub(crate) async fn move_replicas(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
    to: Vec<BrokerId>,
) -> Result<PartitionImage, ClusterChangeError> {
    if to.is_empty() {
        return Err(ClusterChangeError::Invalid("a partition is kept by at least one broker".to_owned()));
    }
    let (place, _) = members(services, topic, partition)?;
    let image = services.metadata.image();
    if let Some(unknown) = to.iter().find(|broker| !image.brokers.contains_key(broker)) {
        return Err(ClusterChangeError::UnknownBroker(*unknown));
    }
    let expected = image.partition(topic, partition).map(|placed| placed.replicas.clone()).unwrap_or_default();
    let moves = vec![ReplicaMove { topic_id: place.topic_id, partition, expected, to }];
    services.metadata.propose(MetadataCommand::BeginMoves { moves }).await?;
    placed(services, topic, partition)
}

/// Takes a move back.
pub(crate) async fn cancel_move(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<PartitionImage, ClusterChangeError> {
    let (place, _) = members(services, topic, partition)?;
    let Some(to) = placed(services, topic, partition)?.moving_to else {
        return Err(ClusterChangeError::Refused(format!("partition {partition} of {topic} is not being moved")));
    };
    let command = MetadataCommand::CancelMove { topic_id: place.topic_id, partition, to };
    services.metadata.propose(command).await?;
    placed(services, topic, partition)
}

fn placed(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<PartitionImage, ClusterChangeError> {
    let image = services.metadata.image();
    image.partition(topic, partition).cloned().ok_or_else(|| ClusterChangeError::unknown_topic(topic))
}

/// Takes a broker out of service, or back.
pub(crate) async fn set_draining(
    services: &Services,
    broker: BrokerId,
    draining: bool,
) -> Result<(), ClusterChangeError> {
    let image = services.metadata.image();
    let known = image.brokers.get(&broker).ok_or(ClusterChangeError::UnknownBroker(broker))?;
    let command = MetadataCommand::SetDraining { broker, incarnation: known.incarnation, draining };
    services.metadata.propose(command).await?;
    Ok(())
}

/// Forgets a broker that keeps nothing.
pub(crate) async fn remove_broker(services: &Services, broker: BrokerId) -> Result<(), ClusterChangeError> {
    let votes = services.metadata.status().voters.contains(&broker);
    match services.metadata.propose(MetadataCommand::UnregisterBroker { broker }).await.map_err(Into::into) {
        Ok(_) => {}
        // Half of it was done before.
        Err(ClusterChangeError::UnknownBroker(_)) if votes => {}
        Err(error) => return Err(error),
    }
    if votes {
        services.metadata.remove_voter(broker).await.map_err(|error| match error {
            MembershipError::Refused(reason) => ClusterChangeError::Refused(reason),
            MembershipError::Unavailable(_) => {
                let retry_after_ms = services.node.retry_after_ms();
                MetadataUnavailable::NoLeader { retry_after_ms }.into()
            }
        })?;
    }
    Ok(())
}

/// Plans moves that even out what brokers keep and lead, and begins them unless they shall only be shown.
pub(crate) async fn rebalance(services: &Services, dry_run: bool) -> Result<Vec<PlannedMove>, ClusterChangeError> {
    let image = services.metadata.image();
    let alive = alive_brokers(services).await;
    let moves = placement::rebalance(&image, lives(alive.as_deref()));
    let planned = moves.iter().filter_map(|planned| {
        let topic = image.topic_by_id(planned.topic_id)?.name.clone();
        let (from, to) = (planned.expected.clone(), planned.to.clone());
        Some(PlannedMove { topic, partition: planned.partition, from, to })
    });
    let planned: Vec<PlannedMove> = planned.collect();
    if !dry_run && !moves.is_empty() {
        services.metadata.propose(MetadataCommand::BeginMoves { moves }).await?;
    }
    Ok(planned)
}

/// Which brokers live; all of them when nothing is known.
pub(super) fn lives(alive: Option<&[BrokerId]>) -> impl Fn(BrokerId) -> bool {
    move |broker| alive.is_none_or(|alive| alive.contains(&broker))
}
