//! What a run prints at its end.

use std::time::Duration;

use serde::Serialize;

use super::{
    availability::{Availability, Gap, Quantiles, measure, ms},
    faults::Happening,
    history::History,
    judge::{GroupCounts, Kind, Verdict, judge},
};
use crate::terminal::{Terminal, grouped};

/// Gaps that are listed in JSON.
const GAPS_MAX: usize = 100;
/// Of these, in the text.
const GAPS_SHOWN: usize = 20;

/// The numbers of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The brokers that clients talked to.
    pub brokers: Vec<String>,
    /// Whether producers had an identity.
    pub idempotent: bool,
    /// What was promised and what was found.
    pub verdict: Verdict,
    /// How it felt.
    pub availability: Availability,
    /// Why replicas were not compared, if they were not.
    pub not_compared: Option<String>,
    /// What was done to the cluster and what it did next.
    pub events: Vec<String>,
    /// From starting killed brokers to the last of them being ready.
    pub restart: Quantiles,
    /// From a fault to new leaders, as the brokers that are left tell it.
    pub succession: Quantiles,
}

impl Report {
    /// Judges and measures a history.
    #[must_use]
    pub fn of(history: &History, happenings: Vec<Happening>) -> Self {
        let mut availability = measure(history);
        availability.gaps.truncate(GAPS_MAX);
        let over = |time: fn(&Happening) -> Option<Duration>| Quantiles::of(happenings.iter().filter_map(time));
        Self {
            brokers: history.setting.brokers.clone(),
            idempotent: history.setting.idempotent,
            verdict: judge(history),
            availability,
            not_compared: history.ending.not_compared.clone(),
            restart: over(|happening| happening.restart),
            succession: over(|happening| happening.succession),
            events: happenings.into_iter().map(|happening| happening.what).collect(),
        }
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean()
    }

    /// What went wrong, in a sentence.
    #[must_use]
    pub fn accusation(&self) -> String {
        let counts = self.verdict.violations.iter().map(|(kind, count)| format!("{kind}: {}", grouped(*count)));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// The table, and below it what was broken in words.
    #[must_use]
    pub fn table(&self, terminal: Terminal) -> String {
        let mut rows = self.counts();
        rows.extend(self.times());
        let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
        let mut text = terminal.table(&["what", "result"], rows, &["result"]);
        for fault in &self.availability.faults {
            let failover = fault.failover_ms.map_or("no new leader".to_owned(), |ms| format!("{ms:.0} ms"));
            let failover = if fault.partitions_led == 0 { "nothing to fail over".to_owned() } else { failover };
            text.push_str(&format!(
                "\n{:.1} s: {}: {failover}, unavailable {:.0} ms, {} failed attempts, p99 {:.1} ms after {:.1} ms",
                fault.at_ms / 1000.0,
                fault.what,
                fault.unavailable_ms,
                fault.failed_attempts,
                fault.p99_after_ms,
                fault.p99_before_ms,
            ));
        }
        if self.availability.faults.is_empty() {
            // Whoever made faults elsewhere finds what they cost here.
            for gap in self.availability.gaps.iter().take(GAPS_SHOWN).filter(|gap| gap.epochs.0 != gap.epochs.1) {
                text.push_str(&change(gap));
            }
        }
        for finding in &self.verdict.examples {
            text.push_str(&format!("\n{}: {}", finding.kind, finding.what));
        }
        text
    }

    fn counts(&self) -> Vec<(String, String)> {
        let verdict = &self.verdict;
        let mut rows = vec![
            ("records sent".to_owned(), grouped(verdict.sent)),
            ("acknowledged".to_owned(), grouped(verdict.acknowledged)),
            ("outcome never known".to_owned(), grouped(verdict.unknown)),
            ("found".to_owned(), grouped(verdict.found)),
        ];
        rows.extend(Kind::ALL.iter().map(|(kind, name)| ((*name).to_owned(), grouped(verdict.count(*kind)))));
        if !self.idempotent {
            rows.push(("stored again by a repeated request".to_owned(), grouped(verdict.repeated)));
        }
        if verdict.lost_without_promise > 0 {
            rows.push(("lost, but not promised (acks=1)".to_owned(), grouped(verdict.lost_without_promise)));
        }
        if let Some(groups) = &verdict.groups {
            rows.extend(of_groups(verdict, groups));
        }
        rows.push(("reads compared".to_owned(), grouped(verdict.reads)));
        rows.push(("copies compared".to_owned(), grouped(verdict.copies_compared)));
        rows
    }

    fn times(&self) -> Vec<(String, String)> {
        let felt = &self.availability;
        let times = |of: &Quantiles| match of.count {
            0 => "none".to_owned(),
            1 => format!("{:.0} ms", of.max_ms),
            _ => format!("p50 {:.0}, p99 {:.0}, max {:.0} ms", of.p50_ms, of.p99_ms, of.max_ms),
        };
        let longest = felt.longest_gap_ms.values().copied().fold(0.0, f64::max);
        let mut rows = vec![
            (
                "attempts refused, unknown",
                format!("{}, {}", grouped(felt.refused_attempts), grouped(felt.unknown_attempts)),
            ),
            ("acknowledged records", format!("{:.0} /s", felt.records_per_second)),
            ("acknowledged after", quick(&felt.latency)),
            ("  the last attempt", quick(&felt.attempt_latency)),
            ("longest gap of a partition", format!("{longest:.0} ms")),
            ("gap where a leader changed", times(&felt.leader_changes)),
        ];
        if !felt.faults.is_empty() {
            rows.push(("faults", grouped(felt.faults.len() as u64)));
            rows.push(("failover, as clients saw it", times(&felt.failover)));
            rows.push(("failover, as brokers tell it", times(&self.succession)));
            rows.push(("unavailable, leader lost", times(&felt.unavailable)));
            rows.push(("unavailable, controller lost", times(&felt.unavailable_controller)));
            rows.push(("restart, until ready", times(&self.restart)));
        }
        rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What consumer groups did, and what was broken of what they were promised.
fn of_groups(verdict: &Verdict, groups: &GroupCounts) -> Vec<(String, String)> {
    let some = |number: u64, name: &str| (number > 0).then(|| (name.to_owned(), grouped(number)));
    let mut rows = vec![
        ("groups, generations seen", format!("{}, {}", grouped(groups.groups), grouped(groups.generations))),
        ("records delivered, again", format!("{}, {}", grouped(groups.delivered), grouped(groups.delivered_again))),
        ("polls answered, not", format!("{}, {}", grouped(groups.polls), grouped(groups.polls_failed))),
        (
            "commits stored, refused, unknown",
            format!(
                "{}, {}, {}",
                grouped(groups.commits),
                grouped(groups.commits_refused),
                grouped(groups.commits_unknown)
            ),
        ),
        (
            "  after a long silence, stored, refused",
            format!("{}, {}", grouped(groups.frozen_accepted), grouped(groups.frozen_refused)),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect::<Vec<_>>();
    rows.push(("longest wait of a member".to_owned(), format!("{} ms", grouped(groups.longest_wait_ms))));
    rows.extend(groups.fewest_members.map(|fewest| ("fewest members of a group".to_owned(), grouped(fewest))));
    rows.extend(some(groups.late_commits, "offsets set back by a late commit"));
    rows.extend(some(groups.unsure_receipts, "answers lost, counted as received"));
    rows.extend(Kind::OF_GROUPS.iter().map(|(kind, name)| ((*name).to_owned(), grouped(verdict.count(*kind)))));
    rows
}

/// `3.2 s: partition 1: 84 ms between broker 2 in epoch 5 and broker 3 in epoch 6`.
fn change(gap: &Gap) -> String {
    let leader = |broker: Option<u32>, epoch: Option<u32>| match (broker, epoch) {
        (Some(broker), Some(epoch)) => format!("broker {broker} in epoch {epoch}"),
        _ => "nobody".to_owned(),
    };
    let (before, after) = (leader(gap.leaders.0, gap.epochs.0), leader(gap.leaders.1, gap.epochs.1));
    let seconds = ms(gap.from_us) / 1000.0;
    format!("\n{seconds:.1} s: partition {}: {:.0} ms between {before} and {after}", gap.partition, gap.ms)
}

fn quick(of: &Quantiles) -> String {
    format!("p50 {:.1}, p99 {:.1}, max {:.1} ms", of.p50_ms, of.p99_ms, of.max_ms)
}
