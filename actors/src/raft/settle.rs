//! Asks the other brokers how the group stands, until it is clear what an empty store is to do.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use pubg1_model::BrokerId;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    GroupConfig,
    formation::{Decision, Past, begin_probation, decide, found, past},
    network::ask,
    store::{Store, StoreError},
    wire::{self, KIND_STANDING, Standing, StandingQuestion},
};

/// How long one broker is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// The pause between two rounds of questions at first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));
/// A broker that comes back without its disk asks again after this time: a vote that it gave in its former life has
/// made a leader by then, or never will. One that has never registered had no life to speak of.
const FORMER_LIFE: Duration = Duration::from_secs(1);

/// How a broker takes part in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It has just founded it.
    Founder,
    /// It was there before.
    Member,
    /// It neither votes nor campaigns until it has caught up and registered.
    Probation,
}

/// How the broker takes part, once it is clear. `waiting` is told what is waited for.
pub(crate) async fn settle(
    store: &Store,
    group: &GroupConfig,
    waiting: impl Fn(Option<String>),
) -> Result<Part, StoreError> {
    match past(store)? {
        Past::Member => return Ok(Part::Member),
        Past::Probation => return Ok(Part::Probation),
        Past::None => {}
    }
    let voters = group.voter_ids();
    let former_life_over = Instant::now() + FORMER_LIFE;
    let (mut answers, mut pause) = (BTreeMap::new(), PAUSES.0);
    loop {
        match decide(group.broker, &voters, &answers) {
            Decision::Found(vote) => {
                found(store, group.broker, &group.voters, vote).await?;
                waiting(None);
                return Ok(Part::Founder);
            }
            Decision::Probation(_) if Instant::now() < former_life_over && was_registered(&answers) => {
                answers.clear();
                sleep_until(former_life_over).await;
                continue;
            }
            Decision::Probation(vote) => {
                begin_probation(store, vote).await?;
                waiting(None);
                return Ok(Part::Probation);
            }
            Decision::Conflict(other) => waiting(Some(format!(
                "this broker and broker {other} were told of different voters; start all of them with the same list"
            ))),
            Decision::Ask(others) => {
                let silent: Vec<String> =
                    others.iter().filter(|broker| !answers.contains_key(*broker)).map(BrokerId::to_string).collect();
                if pause > PAUSES.0 && !silent.is_empty() {
                    waiting(Some(format!("the first start waits for an answer of brokers {}", silent.join(", "))));
                }
            }
        }
        ask_all(group, &voters, &mut answers).await;
        if let Decision::Ask(_) | Decision::Conflict(_) = decide(group.broker, &voters, &answers) {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

fn was_registered(answers: &BTreeMap<BrokerId, Standing>) -> bool {
    answers.values().any(|standing| standing.registered)
}

/// One round: everyone that a decision needs, and everyone anew.
async fn ask_all(group: &GroupConfig, voters: &[BrokerId], answers: &mut BTreeMap<BrokerId, Standing>) {
    let question =
        StandingQuestion { broker: group.broker, address: group.rpc_address.clone(), voters: voters.to_vec() };
    let Ok(body) = wire::encode(&question) else { return };
    let mut targets: Vec<BrokerId> = match decide(group.broker, voters, answers) {
        Decision::Ask(targets) => targets,
        _ => voters.to_vec(),
    };
    targets.retain(|broker| *broker != group.broker);
    targets.sort_unstable();
    targets.dedup();
    let asked = targets.into_iter().map(|broker| {
        let (body, transport) = (body.clone(), &group.transport);
        async move { (broker, ask::<Standing>(&**transport, broker, KIND_STANDING, body, ANSWER_PATIENCE).await) }
    });
    for (broker, answer) in join_all(asked).await {
        if let Ok(Ok(standing)) = answer {
            for (node, known) in standing.membership.nodes() {
                group.transport.learn(super::types::broker_id(*node), &known.addr);
            }
            answers.insert(broker, standing);
        }
    }
}
