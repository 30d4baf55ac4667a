//! What is told of streams: what the image says, and what the brokers that run their tasks say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use pubg1_model::{
    BrokerId, PartitionId, StreamName, TopicId, TopicName,
    cluster::{ClusterImage, PauseReason, StreamImage, StreamState},
    streams::{document::StreamDocument, task::TaskKind},
};
use pubg1_transport::Payload;
use serde::{Deserialize, Serialize};

use super::{
    StreamTasks,
    cell::kind_of,
    declare::{find, known_image},
    messages::Describe,
    wire::kind,
};
use crate::{
    errors::StreamError,
    handles::{StreamDescription, StreamListing, StreamPhase, StreamTask, StreamTaskState, StreamTopics},
    rpc::Services,
};

/// How long another broker may take to tell.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// A task, as the broker that runs it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskReport {
    /// Whether it has read everything there was at some time since it began to run there.
    pub(super) was_caught_up: bool,
    pub(super) task: StreamTask,
}

/// The tasks of a changelog that run here, by their partition of it.
pub(super) async fn reports_here(tasks: &StreamTasks, changelog: TopicId) -> Vec<(PartitionId, TaskReport)> {
    let cells = tasks.of_changelog(changelog);
    let asked = cells.iter().map(|cell| async {
        let told = cell.ask(Describe).await.flatten();
        let report = told.unwrap_or_else(|| TaskReport { was_caught_up: false, task: cell.outline() });
        (cell.partition(), report)
    });
    join_all(asked).await
}

/// What the tasks of a generation say, by their partition of the changelog. Those that do not answer are missing.
pub(super) async fn reports(
    services: &Services,
    image: &ClusterImage,
    stream: &StreamImage,
) -> BTreeMap<PartitionId, TaskReport> {
    let Some(changelog) = image.topic_by_id(stream.changelog) else { return BTreeMap::new() };
    let leaders: BTreeSet<BrokerId> = changelog.partitions.iter().filter_map(|partition| partition.leader).collect();
    let id = stream.changelog;
    let asked = leaders.into_iter().map(|leader| async move {
        let told = if leader == services.node.config.broker_id {
            reports_here(&services.streams, id).await
        } else {
            let asked = services.node.rpc.call(leader, kind::STATUS, &id, Payload::empty(), STATUS_TIMEOUT).await;
            asked.map(|(told, _)| told).unwrap_or_default()
        };
        (leader, told)
    });
    let mut all = BTreeMap::new();
    for (leader, told) in join_all(asked).await {
        // One that was deposed just now may still tell of a task; the one that follows it counts.
        let leads = |partition: PartitionId| changelog.partition(partition).is_some_and(|it| it.leader == Some(leader));
        all.extend(told.into_iter().filter(|(partition, _)| leads(*partition)));
    }
    all
}

fn phase(state: &StreamState) -> (StreamPhase, Option<String>) {
    match state {
        StreamState::Running => (StreamPhase::Running, None),
        StreamState::Finished => (StreamPhase::Finished, None),
        StreamState::Paused { reason } => (StreamPhase::Paused, Some(words(reason))),
    }
}

fn words(reason: &PauseReason) -> String {
    match reason {
        PauseReason::Asked => "it was asked to pause".to_owned(),
        PauseReason::Memory { task, bytes, limit } => format!(
            "its tasks on one broker held {bytes} bytes, {limit} are allowed (limits.memory); task {task} was the last \
             to grow"
        ),
        PauseReason::Gap { partition, expected, log_start } => format!(
            "records of partition {partition} were deleted before they were read: it was at offset {expected}, the \
             oldest is {log_start} (on_gap)"
        ),
        PauseReason::Failed { task, problem } => format!("task {task} cannot go on: {problem}"),
    }
}

fn topic_name(image: &ClusterImage, id: TopicId, instead: &TopicName) -> TopicName {
    image.topic_by_id(id).map_or_else(|| instead.clone(), |topic| topic.name.clone())
}

/// The streams, by name.
pub(crate) fn list(services: &Services) -> Result<Vec<StreamListing>, StreamError> {
    let image = known_image(services)?;
    let listing = |stream: &Arc<StreamImage>| {
        let (phase, reason) = phase(&stream.state);
        let named = |id: TopicId| image.topic_by_id(id).map(|topic| topic.name.clone());
        Some(StreamListing {
            name: stream.name.clone(),
            generation: stream.generation,
            phase,
            reason,
            input: named(stream.input_topic)?,
            output: named(stream.output)?,
            created_ms: stream.created_ms,
            next_generation: stream.next.as_ref().map(|next| next.generation),
        })
    };
    Ok(image.streams.values().filter_map(listing).collect())
}

/// A stream and its tasks.
pub(crate) async fn describe(services: &Services, name: &StreamName) -> Result<StreamDescription, StreamError> {
    let (image, stream) = find(services, name)?;
    let mut description = generation(services, &image, &stream).await?;
    if let Some(next) = &stream.next {
        description.next = Some(Box::new(generation(services, &image, next).await?));
    }
    Ok(description)
}

async fn generation(
    services: &Services,
    image: &ClusterImage,
    stream: &StreamImage,
) -> Result<StreamDescription, StreamError> {
    let document = StreamDocument::parse(stream.document.as_bytes())?;
    let mut told = reports(services, image, stream).await;
    let (phase, reason) = phase(&stream.state);
    let task = |partition: u32| {
        let kind = TaskKind::of(partition, stream.partitions, stream.shards)?;
        if let Some(report) = told.remove(&PartitionId(partition)) {
            return Some(report.task);
        }
        let (kind, number) = kind_of(kind);
        let leader = image.partition_by_id(stream.changelog, PartitionId(partition))?.leader;
        let state = match phase {
            StreamPhase::Paused => StreamTaskState::Paused,
            StreamPhase::Running | StreamPhase::Finished => StreamTaskState::Unknown,
        };
        Some(StreamTask { leader, state, ..StreamTask::unknown(kind, number) })
    };
    let mut tasks: Vec<StreamTask> = (0..stream.tasks()).filter_map(task).collect();
    let inputs = usize::try_from(stream.partitions).unwrap_or(0).min(tasks.len());
    let (readers, merges) = tasks.split_at_mut(inputs);
    if !merges.is_empty() {
        mark_those_that_hold_back(readers);
    }
    let timed: &[StreamTask] = if merges.is_empty() { readers } else { merges };
    let watermark_ms = timed.iter().map(|task| task.watermark_ms).min().flatten();
    let name = |id: TopicId, instead: &TopicName| topic_name(image, id, instead);
    let topics = StreamTopics {
        input: name(stream.input_topic, &document.input),
        output: name(stream.output, &document.output),
        late: name(stream.late, &document.late_output),
        changelog: name(stream.changelog, &document.output),
        partials: stream.partials.map(|partials| name(partials, &document.output)),
    };
    Ok(StreamDescription {
        name: stream.name.clone(),
        generation: stream.generation,
        document: Arc::clone(&stream.document),
        phase,
        reason,
        created_ms: stream.created_ms,
        topics,
        watermark_ms,
        tasks,
        next: None,
    })
}

/// The merge waits for the one that is furthest behind, and for those that say nothing.
fn mark_those_that_hold_back(readers: &mut [StreamTask]) {
    let counts = |task: &StreamTask| !task.is_idle && task.state != StreamTaskState::Finished;
    let earliest = readers.iter().filter(|task| counts(task)).map(|task| task.watermark_ms).min().flatten();
    let furthest = readers.iter().map(|task| task.watermark_ms).max().flatten();
    for task in readers {
        let is_last = task.watermark_ms.is_none() || task.watermark_ms == earliest && earliest < furthest;
        task.holds_back = counts(task) && is_last;
    }
}
