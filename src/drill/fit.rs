//! Whether a plan can be carried out on the cluster that is asked for: asked before anything is started.

use pubg1_model::topic::TopicConfig;

use super::plan::{Action, DrillPlan, Event};
use crate::{
    error::CommandError,
    verify::{faults::Target, payload::VALUE_BYTES_MIN},
};

/// What a batch of one record has around its value, generously.
const AROUND_A_VALUE: u64 = 128;

/// The cluster and the topic of a drill.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Brokers.
    pub brokers: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Replicas of each.
    pub replicas: u32,
}

/// Looks at every fault of the plan, and at its records.
///
/// # Errors
/// [`CommandError::Usage`] with everything that cannot be done.
pub fn check(plan: &DrillPlan, shape: Shape) -> Result<(), CommandError> {
    let mut problems: Vec<String> =
        plan.events.iter().filter_map(|event| Some(format!("{event}: {}", problem(event, shape)?))).collect();
    let most = TopicConfig::default().max_message_bytes.saturating_sub(AROUND_A_VALUE);
    if plan.bytes < VALUE_BYTES_MIN || plan.bytes as u64 > most {
        problems.push(format!("a value has {VALUE_BYTES_MIN} to {most} bytes, not {}", plan.bytes));
    }
    if problems.is_empty() { Ok(()) } else { Err(CommandError::Usage(problems.join("; "))) }
}

fn problem(event: &Event, Shape { brokers, partitions, replicas }: Shape) -> Option<String> {
    let count = |number: u32, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    match (event.target, event.action) {
        (Target::Broker(broker), _) if broker >= brokers => {
            Some(format!("there is no broker {broker} of {}, the first is 0", count(brokers, "broker")))
        }
        (Target::Leader(Some(partition)) | Target::Follower(Some(partition)), _) if partition >= partitions => {
            Some(format!("there is no partition {partition} of {}, the first is 0", count(partitions, "partition")))
        }
        (Target::Follower(_), _) if replicas.min(brokers) < 2 => {
            Some(format!("{} leave no follower", count(replicas.min(brokers), "replica")))
        }
        (Target::DataLeader, _) if brokers < 2 => Some("the only broker is the controller".to_owned()),
        (_, Action::Bridge) if brokers < 3 => Some(format!("it takes 3 brokers, not {brokers}")),
        (_, Action::Cut | Action::OneWay) if brokers < 2 => Some("it takes several brokers".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_does_not_have_is_refused() {
        let refused = |text: &str, (brokers, partitions, replicas): (u32, u32, u32)| {
            let plan: DrillPlan = text.parse().unwrap();
            let error = check(&plan, Shape { brokers, partitions, replicas }).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let four = (4, 4, 3);
        for (text, shape, reason) in [
            ("at 1s: kill broker 9 for 1s", four, "no broker 9 of 4 brokers"),
            ("at 1s: kill broker 4 for 1s", four, "no broker 4"),
            ("at 1s: kill leader 7 for 1s", four, "no partition 7 of 4 partitions"),
            ("at 1s: kill follower 4 for 1s", four, "no partition 4"),
            ("at 1s: kill follower for 1s", (4, 4, 1), "no follower"),
            ("at 1s: kill follower for 1s", (1, 4, 3), "no follower"),
            ("at 1s: kill data-leader for 1s", (1, 4, 1), "the only broker"),
            ("at 1s: bridge leader for 1s", (2, 4, 2), "3 brokers"),
            ("at 1s: cut leader for 1s", (1, 4, 1), "several brokers"),
            ("bytes 0\nat 1s: kill leader for 1s", four, "not 0"),
            ("bytes 1048576\nat 1s: kill leader for 1s", four, "not 1048576"),
        ] {
            let said = refused(text, shape);
            assert!(said.contains(reason), "{text}: {said}");
        }
        let both = refused("at 1s: kill broker 9 for 1s\nat 3s: kill leader 9 for 1s", four);
        assert!(both.contains("broker 9") && both.contains("partition 9"), "all at once: {both}");
    }

    #[test]
    fn what_a_cluster_has_is_taken() {
        for (text, brokers) in [
            ("at 1s: kill leader 3 for 1s\nat 3s: pause broker 3 for 1s\nat 5s: rolling", 4),
            ("at 1s: bridge leader for 1s", 3),
            ("bytes 1000000\nat 1s: kill leader for 1s", 1),
        ] {
            let plan: DrillPlan = text.parse().unwrap();
            assert!(check(&plan, Shape { brokers, partitions: 4, replicas: 3 }).is_ok(), "{text}");
        }
    }
}
