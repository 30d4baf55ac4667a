//! Consumer groups that read while producers write and faults happen: members that poll and commit through changing
//! brokers, leave and join again, freeze for longer than their session, and read to the end when nobody writes any more.

mod freezer;
mod member;
mod observer;
mod seat;

use std::{sync::Arc, time::Duration};

use pubg1_model::{GroupId, PartitionId, TopicName};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{
    PREPARE_DEADLINE,
    brokers::{Brokers, Dice},
    clock::Recorder,
    faults::GroupTargets,
    history::{Entry, groups::GroupEnd},
    payload::Payload,
};
use crate::{
    client::{Client, ClientError, group_reply::PlacedOffset},
    error::CommandError,
};
pub use freezer::Freezer;
use member::Member;

const POLL: Duration = Duration::from_millis(50);
/// How long members may take to leave.
const LEAVE_DEADLINE: Duration = Duration::from_secs(20);

/// Which groups a run has.
#[derive(Clone, Copy, Debug)]
pub struct GroupPlan {
    /// How many.
    pub groups: u32,
    /// Members of each.
    pub members: u32,
    /// How long a member may be silent.
    pub session: Duration,
    /// Whether members leave, join again and freeze.
    pub restless: bool,
}

/// How members shall live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// They leave, join again and freeze, as chance has it.
    Restless,
    /// They read on and commit everything.
    Steady,
    /// They commit and leave.
    Leave,
}

/// What all members have in common.
#[derive(Clone, Debug)]
struct Sharing {
    brokers: Brokers,
    topic: TopicName,
    payload: Payload,
    attempt_timeout: Duration,
    session: Duration,
    recorder: Recorder,
    freezer: Arc<Freezer>,
}

/// Groups that read.
pub struct Groups {
    names: Vec<GroupId>,
    sharing: Sharing,
    course: watch::Sender<Course>,
    members: JoinSet<Result<(), CommandError>>,
    observers: JoinSet<()>,
    first_offsets: Vec<u64>,
}

impl Groups {
    /// Begins.
    ///
    /// # Errors
    /// Nobody keeps the groups' first offsets.
    pub async fn start(
        plan: GroupPlan,
        run: &str,
        brokers: &Brokers,
        (topic, payload): (&TopicName, &Payload),
        attempt_timeout: Duration,
        (recorder, dice): (&Recorder, &mut Dice),
        first_offsets: &[u64],
    ) -> Result<Self, CommandError> {
        let sharing = Sharing {
            brokers: brokers.clone(),
            topic: topic.clone(),
            payload: payload.clone(),
            attempt_timeout,
            session: plan.session,
            recorder: recorder.clone(),
            freezer: Arc::new(Freezer::default()),
        };
        let names = (0..plan.groups).map(|number| format!("verify-{run}-{number}").parse());
        let names: Vec<GroupId> = names
            .collect::<Result<_, _>>()
            .map_err(|error: pubg1_model::InvalidName| CommandError::Usage(error.to_string()))?;
        let (course, follow) = watch::channel(if plan.restless { Course::Restless } else { Course::Steady });
        let (mut members, mut observers) = (JoinSet::new(), JoinSet::new());
        for (number, name) in (0..).zip(&names) {
            begin_at(brokers, name, topic, first_offsets).await?;
            for member in 0..plan.members {
                let dice = Dice::new(dice.below(u64::MAX));
                members.spawn(Member::new(sharing.clone(), (number, name), member, follow.clone(), dice).run());
            }
            let dice = Dice::new(dice.below(u64::MAX));
            observers.spawn(observer::run(sharing.clone(), (number, name.clone()), first_offsets.len(), dice));
        }
        Ok(Self { names, sharing, course, members, observers, first_offsets: first_offsets.to_vec() })
    }

    /// Whom faults may hit.
    #[must_use]
    pub fn targets(&self) -> GroupTargets {
        GroupTargets { names: self.names.clone(), freezer: Arc::clone(&self.sharing.freezer) }
    }

    /// Lets every group read to the end and its members leave. Why one could not stands in the history.
    ///
    /// # Errors
    /// Nobody says where the topic ends.
    pub async fn finish(mut self, deadline: Duration) -> Result<(), CommandError> {
        let until = Instant::now() + deadline;
        self.course.send_replace(Course::Steady);
        let brokers = &self.sharing.brokers;
        let partitions = u32::try_from(self.first_offsets.len()).unwrap_or(0);
        let ends = brokers.end_offsets(&self.sharing.topic, partitions, deadline).await?;
        let client = brokers.together()?;
        let mut problems = Vec::new();
        for name in &self.names {
            problems.push(self.drained(&client, name, &ends, until).await.err());
        }
        self.course.send_replace(Course::Leave);
        let left = tokio::time::timeout(LEAVE_DEADLINE, left(&mut self.members)).await;
        let trouble = left.unwrap_or_else(|_| vec!["members did not leave in time".to_owned()]);
        self.observers.shutdown().await;
        for ((number, name), mut problem) in (0..).zip(&self.names).zip(problems) {
            let committed = match committed(&client, name, &self.sharing.topic, partitions).await {
                Ok(committed) => committed,
                Err(error) => {
                    problem = Some(error.to_string());
                    Vec::new()
                }
            };
            // Members do not say which group they were of.
            let problem = if number == 0 { problem.or_else(|| trouble.first().cloned()) } else { problem };
            let ends = (0..).zip(ends.iter().copied()).collect();
            self.sharing.recorder.record(Entry::GroupEnd(GroupEnd { group: number, committed, ends, problem }));
        }
        Ok(())
    }

    /// Waits until a group has committed everything.
    async fn drained(&self, client: &Client, name: &GroupId, ends: &[u64], until: Instant) -> Result<(), String> {
        let partitions = u32::try_from(ends.len()).unwrap_or(0);
        loop {
            let missing = match committed(client, name, &self.sharing.topic, partitions).await {
                Ok(committed) => committed.into_iter().zip(ends.iter().zip(&self.first_offsets)).find_map(
                    |((partition, committed), (end, first))| {
                        let done = end == first || committed == Some(*end);
                        (!done).then(|| format!("{committed:?} is committed of {end} in partition {partition}"))
                    },
                ),
                Err(error) => Some(error.to_string()),
            };
            match missing {
                None => return Ok(()),
                Some(problem) if Instant::now() > until => return Err(problem),
                Some(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// What is older than the run shall not be read.
async fn begin_at(
    brokers: &Brokers,
    group: &GroupId,
    topic: &TopicName,
    first_offsets: &[u64],
) -> Result<(), CommandError> {
    let placed = |(partition, offset): (u32, &u64)| PlacedOffset::next(topic, PartitionId(partition), *offset);
    let old: Vec<PlacedOffset> = (0..).zip(first_offsets).filter(|(_, offset)| **offset > 0).map(placed).collect();
    let until = Instant::now() + PREPARE_DEADLINE;
    while !old.is_empty() {
        match brokers.together()?.commit_for_group(group, &old).await {
            Ok(()) => break,
            Err(error) if error.is_retriable() && Instant::now() < until => tokio::time::sleep(POLL).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a group has committed in each partition.
async fn committed(
    client: &Client,
    group: &GroupId,
    topic: &TopicName,
    partitions: u32,
) -> Result<Vec<(u32, Option<u64>)>, ClientError> {
    let described = client.group(group).await?;
    Ok(observer::committed(&described, topic, partitions))
}

/// Waits until all members have left; what those say that gave up.
async fn left(members: &mut JoinSet<Result<(), CommandError>>) -> Vec<String> {
    let mut trouble = Vec::new();
    while let Some(ended) = members.join_next().await {
        trouble.extend(gave_up(ended));
    }
    trouble
}

fn gave_up(ended: Result<Result<(), CommandError>, JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("a member gave up: {error}")),
        Err(error) => Some(format!("a member ended: {error}")),
    }
}
