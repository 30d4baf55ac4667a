//! What is to be done for a stream as a whole: that it has finished is said, a generation that has caught up takes its
//! place, and topics that no stream needs any more are deleted.
//!
//! The broker that leads the first partition of a generation's changelog does that. Two that take themselves for it do no
//! harm: the metadata log takes each step once.

use std::sync::Arc;

use pubg1_model::{
    PartitionId, TopicId,
    cluster::{ClusterImage, MetadataCommand, StreamImage, StreamState, StreamStateKind},
    streams::document::Stop,
};

use super::{
    cell::StreamPlan,
    describe::{TaskReport, reports},
    topics::{delete_topics, internal_topics, is_stream_topic},
};
use crate::{
    handles::{StreamTaskKind, StreamTaskState},
    metadata::ProposeError,
    rpc::Services,
};

/// Topics of a stream are there before the stream is: so old they are when no stream is to come any more.
const ORPHAN_AGE_MS: i64 = 60_000;

/// Looks after the generations whose changelogs are kept here, and after what is left of those that are gone.
pub(super) async fn upkeep(services: &Services, plans: Vec<Arc<StreamPlan>>) {
    for plan in plans {
        let first = services.node.table.find((plan.changelog.0, PartitionId(0)));
        if first.is_some_and(|slot| slot.leader_view().is_ok()) {
            look_after(services, &plan).await;
        }
    }
    if services.metadata.is_controller() {
        delete_orphans(services).await;
    }
}

async fn look_after(services: &Services, plan: &StreamPlan) {
    let image = services.metadata.image();
    let Some(stream) = image.stream_by_id(plan.id) else { return };
    let Some(generation) = stream.generations().find(|known| known.generation == plan.generation) else { return };
    let is_next = stream.generation != plan.generation;
    let may_finish = plan.document.stop == Stop::Latest && generation.state == StreamState::Running;
    if !is_next && !may_finish {
        return;
    }
    let told = reports(services, &image, generation).await;
    if told.len() != usize::try_from(generation.tasks()).unwrap_or(0) {
        return;
    }
    let is_finished = |report: &TaskReport| report.task.state == StreamTaskState::Finished;
    if may_finish && told.values().all(is_finished) {
        finish(services, generation).await;
    }
    // A second stage is only as far as the first has come, so it counts when that is there.
    let is_there = |report: &TaskReport| {
        let merges = report.task.kind == StreamTaskKind::Merge;
        report.was_caught_up && (!merges || report.task.lag() == Some(0))
    };
    if is_next && told.values().all(|report| is_there(report) || is_finished(report)) {
        switch(services, stream, generation.generation).await;
    }
}

async fn finish(services: &Services, stream: &StreamImage) {
    let (id, generation) = (stream.id, stream.generation);
    let (from, to) = (StreamStateKind::Running, StreamState::Finished);
    match services.metadata.propose_own(MetadataCommand::SetStreamState { id, generation, from, to }).await {
        Ok(_) => tracing::info!(stream = %stream.name, "a stream has finished"),
        Err(error) => tracing::debug!(stream = %stream.name, %error, "that a stream has finished is not stored yet"),
    }
}

/// The next generation takes the place of the former, of which only its output stays.
async fn switch(services: &Services, stream: &StreamImage, generation: u32) {
    match services.metadata.propose_own(MetadataCommand::SwitchStream { id: stream.id, generation }).await {
        Ok(_) => {
            tracing::info!(stream = %stream.name, generation, "a stream goes on with its new declaration");
            delete_topics(services, internal_topics(stream)).await;
        }
        Err(ProposeError::Refused(_)) => {}
        Err(error) => tracing::debug!(stream = %stream.name, %error, "a new generation waits for the metadata log"),
    }
}

/// Deletes the topics of streams that are gone: whoever wanted to may have ended before.
async fn delete_orphans(services: &Services) {
    let (image, now_ms) = (services.metadata.image(), services.node.config.clock.now_ms());
    let is_left = |image: &ClusterImage, id: TopicId, created_ms: i64| {
        image.stream_using(id).is_none() && now_ms.saturating_sub(created_ms) > ORPHAN_AGE_MS
    };
    let topics = image.topics.values().filter(|topic| is_stream_topic(&topic.name));
    let left: Vec<TopicId> =
        topics.filter(|topic| is_left(&image, topic.id, topic.created_ms)).map(|topic| topic.id).collect();
    delete_topics(services, left).await;
}
