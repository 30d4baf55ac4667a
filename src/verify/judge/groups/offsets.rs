//! Whoever asks what is committed is told no less than was acknowledged, or told to somebody, before.

use std::collections::BTreeMap;

use super::{Case, GroupCounts, Place};
use crate::verify::{
    history::{Micros, groups::Look},
    judge::{
        Kind, Verdict,
        realtime::{Known, with_known_before},
    },
};

/// When somebody asked, and what was committed by the answer.
type Told<'a> = (Micros, (&'a Look, Option<u64>));

pub(super) fn judge(case: &Case<'_>, counts: &mut GroupCounts, verdict: &mut Verdict) {
    let mut answers: BTreeMap<Place, Vec<Told<'_>>> = BTreeMap::new();
    for look in &case.history.groups.looks {
        for (partition, committed) in &look.committed {
            answers.entry((look.group, *partition)).or_default().push((look.start_us, (look, *committed)));
        }
    }
    for ((group, partition), answers) in answers {
        let Some(commits) = case.commits.get(&(group, partition)) else { continue };
        let known = commits.certain.iter().map(|(since_us, what)| Known { since_us: *since_us, what: *what }).collect();
        with_known_before(known, answers, |most, (look, committed)| {
            if committed.is_some_and(|committed| committed >= most) {
                return;
            }
            if committed.is_some_and(|committed| commits.unknown.contains(&committed)) {
                counts.late_commits += 1;
                return;
            }
            verdict.accuse(Kind::OffsetRegressed, || {
                let told = committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
                format!(
                    "group {group}, partition {partition}: {told} was said at {} us to be committed; {most} were known \
                     at {} us",
                    look.end_us, look.start_us
                )
            });
        });
    }
}
