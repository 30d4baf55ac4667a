//! What has changed between two looks at a cluster, in words.

use std::collections::{BTreeMap, BTreeSet};

use pubg1_model::BrokerId;

use super::{PartitionName, View};

/// With more changes than this at once, they are counted instead of listed.
const CHANGES_LISTED: usize = 8;

type Leaders = BTreeMap<PartitionName, (Option<BrokerId>, u32)>;

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    controller: Option<BrokerId>,
    leaders: Leaders,
    dead: BTreeSet<BrokerId>,
    health: String,
}

impl Seen {
    /// What has changed since, in words, and what there is to compare with the next time.
    #[must_use]
    pub fn changes(&self, view: &View) -> (Self, Vec<String>) {
        let leaders: Leaders = view
            .partitions()
            .filter(|(name, _)| !name.topic.is_internal())
            .map(|(name, partition)| (name, (partition.leader(), partition.leader_epoch)))
            .collect();
        let health = view.health.as_ref().map_or_else(String::new, |health| {
            let problems =
                if health.problems.is_empty() { String::new() } else { format!(": {}", health.problems.join("; ")) };
            format!("{}{problems}", health.status)
        });
        let dead: BTreeSet<BrokerId> = view
            .cluster
            .brokers
            .iter()
            .filter(|broker| broker.alive == Some(false))
            .map(|broker| broker.broker_id)
            .collect();
        let mut told = Vec::new();
        told.extend(dead.difference(&self.dead).map(|broker| format!("broker {broker} counts as dead")));
        told.extend(self.dead.difference(&dead).map(|broker| {
            let is_listed = view.cluster.brokers.iter().any(|listed| listed.broker_id == *broker);
            let what = if is_listed { "is there again" } else { "is no broker of the cluster any more" };
            format!("broker {broker} {what}")
        }));
        if view.cluster.controller != self.controller {
            let term =
                view.cluster.metadata.as_ref().map_or_else(String::new, |metadata| format!(", term {}", metadata.term));
            told.push(format!("controller: {}{term}", or_none(view.cluster.controller)));
        }
        let changed: Vec<String> = leaders
            .iter()
            .filter(|(name, now)| self.leaders.get(*name) != Some(*now))
            .map(|(name, (leader, epoch))| match self.leaders.get(name) {
                Some((before, _)) => {
                    format!("{name}: leader {}, epoch {epoch} (before: {})", or_none(*leader), or_none(*before))
                }
                None => format!("{name}: leader {}, epoch {epoch}", or_none(*leader)),
            })
            .collect();
        if changed.len() > CHANGES_LISTED {
            let led = leaders.values().filter(|(leader, _)| leader.is_some()).count();
            told.push(format!("{} leaderships changed; {led} of {} partitions are led", changed.len(), leaders.len()));
        } else {
            told.extend(changed);
        }
        if health != self.health {
            told.push(format!("health: {health}"));
        }
        (Self { controller: view.cluster.controller, leaders, dead, health }, told)
    }
}

/// A broker's number, or `none`.
#[must_use]
pub fn or_none(broker: Option<BrokerId>) -> String {
    broker.map_or_else(|| "none".to_owned(), |broker| broker.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::a_view;

    #[test]
    fn changes_are_told_once() {
        let mut view = a_view();
        let (seen, first) = Seen::default().changes(&view);
        assert!(first.contains(&"controller: 1, term 4".to_owned()), "{first:?}");
        assert!(first.contains(&"flights/0: leader 0, epoch 5".to_owned()), "{first:?}");
        let (seen, nothing) = seen.changes(&view);
        assert!(nothing.is_empty(), "{nothing:?}");
        view.topics[0].partitions[0].leader = 1;
        view.topics[0].partitions[0].leader_epoch = 6;
        view.cluster.brokers[2].alive = Some(true);
        let (_, changes) = seen.changes(&view);
        assert_eq!(changes, ["broker 2 is there again", "flights/0: leader 1, epoch 6 (before: 0)"]);
    }

    #[test]
    fn a_broker_that_was_removed_is_not_there_again() {
        let mut view = a_view();
        let (seen, _) = Seen::default().changes(&view);
        view.cluster.brokers.remove(2);
        assert_eq!(seen.changes(&view).1, ["broker 2 is no broker of the cluster any more"]);
    }

    #[test]
    fn many_changes_are_counted() {
        let mut view = a_view();
        let partition = view.topics[0].partitions[0].clone();
        view.topics[0].partitions = (0..20)
            .map(|number| crate::client::reply::PartitionReply {
                partition: pubg1_model::PartitionId(number),
                ..partition.clone()
            })
            .collect();
        let (_, changes) = Seen::default().changes(&view);
        assert!(changes.contains(&"20 leaderships changed; 20 of 20 partitions are led".to_owned()), "{changes:?}");
    }
}
