//! What is committed for certain, and what may be.

use std::collections::{BTreeMap, HashMap};

use super::{Commits, History, Place, Step, Story};
use crate::verify::history::{
    Micros,
    groups::{Commit, CommitOutcome, Life, Poll},
};

pub(super) fn commits(history: &History, stories: &BTreeMap<Life, Story<'_>>) -> HashMap<Place, Commits> {
    let mut all: HashMap<Place, Commits> = HashMap::new();
    for (life, story) in stories {
        let mut teller =
            Teller { group: life.group, all: &mut all, generation: None, held: BTreeMap::new(), pending: Vec::new() };
        for step in &story.steps {
            match step {
                Step::Poll(poll) => teller.poll(poll),
                Step::Commit(commit) => teller.commit(commit),
            }
        }
    }
    for look in &history.groups.looks {
        for (partition, committed) in &look.committed {
            if let Some(offset) = committed {
                let commits = all.entry((look.group, *partition)).or_default();
                commits.certain.push((look.end_us, *offset));
                commits.possible.insert(*offset);
            }
        }
    }
    for commits in all.values_mut() {
        commits.certain.sort_unstable();
    }
    all
}

/// Goes through a member's life.
struct Teller<'a> {
    group: u32,
    all: &'a mut HashMap<Place, Commits>,
    generation: Option<u32>,
    /// What was delivered in this generation: the next offset of each partition.
    held: BTreeMap<u32, u64>,
    /// Commits that count if the generation is still the same at the next delivery.
    pending: Vec<(Micros, BTreeMap<u32, u64>)>,
}

impl Teller<'_> {
    fn of(&mut self, partition: u32) -> &mut Commits {
        self.all.entry((self.group, partition)).or_default()
    }

    fn certain(&mut self, since_us: Micros, offsets: impl IntoIterator<Item = (u32, u64)>) {
        for (partition, offset) in offsets {
            self.of(partition).certain.push((since_us, offset));
        }
    }

    fn poll(&mut self, poll: &Poll) {
        if poll.failed {
            // It may have reached the coordinator, or may do so later.
            if poll.commits || poll.auto {
                for (partition, offset) in self.held.clone() {
                    self.of(partition).unknown.insert(offset);
                }
            }
            return;
        }
        if poll.generation.is_some() && poll.generation == self.generation {
            for (since_us, offsets) in std::mem::take(&mut self.pending) {
                self.certain(since_us, offsets);
            }
            if poll.commits {
                self.certain(poll.end_us, self.held.clone());
            }
        } else {
            self.pending.clear();
            self.held.clear();
        }
        self.generation = poll.generation;
        for (partition, run) in &poll.runs {
            let next = run.offset + run.count;
            self.held.insert(*partition, next);
            if poll.commits || poll.auto {
                self.of(*partition).possible.insert(next);
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        if matches!(commit.outcome, CommitOutcome::Refused { .. }) {
            return;
        }
        for (partition, offset) in &commit.offsets {
            let commits = self.of(*partition);
            commits.possible.insert(*offset);
            if commit.outcome != CommitOutcome::Acknowledged {
                commits.unknown.insert(*offset);
            }
        }
        if commit.outcome == CommitOutcome::Acknowledged {
            if commit.named {
                self.certain(commit.end_us, commit.offsets.iter().copied());
            } else {
                self.pending.push((commit.end_us, self.held.clone()));
            }
        }
    }
}
