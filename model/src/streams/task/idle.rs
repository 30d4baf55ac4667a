//! Silence: what time a partition without news is moved to, and who is too far ahead.

use serde::{Deserialize, Serialize};

use super::{Task, TaskKind};
use crate::streams::partition::FINISHED;

/// Without a window's end in between, an idle partition follows the others by no less than this.
const STEP_MS: i64 = 1_000;

/// What the other partitions need to know of a partition's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTime {
    /// The partition.
    pub partition: u32,
    /// Its time.
    pub watermark_ms: Option<i64>,
    /// Its time right after its last record; none: it never had one.
    pub watermark_at_record_ms: Option<i64>,
    /// The time at which something that it has open closes.
    pub next_close_ms: Option<i64>,
    /// Whether all its records have been read.
    pub is_caught_up: bool,
    /// How long ago the last one was read or appended.
    pub silent_ms: i64,
}

impl TaskTime {
    /// Whether it is not waited for: it was read to its end and is silent, or never had a record.
    #[must_use]
    pub const fn is_idle(&self, idle_timeout_ms: i64) -> bool {
        self.is_caught_up && (self.watermark_at_record_ms.is_none() || self.silent_ms >= idle_timeout_ms)
    }
}

/// The time that an idle partition is to be moved to, by what is known of all partitions (its own included); `None`
/// when it is not idle, or where it should be. A partition of which nothing is known counts as one with unread records:
/// it holds back all.
///
/// Idle partitions follow the others. When all are idle, time goes on as the clock does since their last records; but
/// only as far as something that is open closes, so that a stream at rest comes to rest.
#[must_use]
pub fn idle_target(own: u32, all: &[Option<TaskTime>], idle_timeout_ms: i64) -> Option<i64> {
    let known = || all.iter().flatten();
    let own = known().find(|time| time.partition == own).filter(|own| own.is_idle(idle_timeout_ms))?;
    if all.iter().any(Option::is_none) {
        return None;
    }
    let active = known().filter(|time| !time.is_idle(idle_timeout_ms));
    let to = if active.clone().next().is_some() {
        active.map(|time| time.watermark_ms).min().flatten()?
    } else {
        let clock = known()
            .filter_map(|time| Some(time.watermark_at_record_ms?.saturating_add(time.silent_ms.max(0))))
            .max()?;
        let closes = known().filter_map(|time| time.next_close_ms).any(|close| close <= clock);
        let furthest = known().filter_map(|time| time.watermark_ms).max();
        if closes { clock.max(furthest.unwrap_or(clock)) } else { furthest? }
    };
    (own.watermark_ms < Some(to) && to < FINISHED).then_some(to)
}

/// Whether a partition is so far ahead of the others that it should not be read now. Those that are idle, and those of
/// which nothing is known, do not count.
#[must_use]
pub fn is_ahead(own: u32, all: &[Option<TaskTime>], idle_timeout_ms: Option<i64>, max_skew_ms: i64) -> bool {
    let known = || all.iter().flatten();
    let Some(at) = known().find(|time| time.partition == own).and_then(|own| own.watermark_ms) else { return false };
    let counts = |time: &&TaskTime| {
        time.partition != own && !idle_timeout_ms.is_some_and(|timeout| time.is_idle(timeout)) && !time.is_settled()
    };
    let others = known().filter(counts).map(|time| time.watermark_ms.unwrap_or(i64::MIN)).min();
    others.is_some_and(|earliest| at > earliest.saturating_add(max_skew_ms))
}

impl TaskTime {
    /// Whether it never had a record and has none.
    const fn is_settled(&self) -> bool {
        self.is_caught_up && self.watermark_at_record_ms.is_none()
    }
}

impl Task {
    /// What the other partitions need to know; `None` for a second stage. `is_caught_up`: whether the position is the
    /// end of what may be read.
    #[must_use]
    pub fn time(&self, now_ms: i64, is_caught_up: bool) -> Option<TaskTime> {
        let windows = self.stage.windows()?;
        let silent_ms = self.progress.last_record_ms.map_or(0, |last| now_ms.saturating_sub(last).max(0));
        Some(TaskTime {
            partition: windows.partition(),
            watermark_ms: windows.watermark(),
            watermark_at_record_ms: windows.watermark_at_record(),
            next_close_ms: windows.next_close(),
            is_caught_up: is_caught_up && self.has_begun() && !self.progress.is_finished,
            silent_ms,
        })
    }

    /// The time that this partition is to be moved to now, see [`idle_target`]; for [`Task::advance`]. A
    /// [`TaskKind::Whole`] task looks at itself alone. Steps that would close nothing are put off.
    #[must_use]
    pub fn idle_target(&self, all: &[Option<TaskTime>]) -> Option<i64> {
        let timeout = self.spec.plan.time.idle_timeout_ms?;
        let windows = self.stage.windows()?;
        let own = windows.partition();
        let alone: Vec<Option<TaskTime>>;
        let all = if matches!(self.spec.kind, TaskKind::Whole { .. }) {
            alone = all.iter().filter(|time| time.is_some_and(|time| time.partition == own)).copied().collect();
            alone.as_slice()
        } else {
            all
        };
        let to = idle_target(own, all, timeout)?;
        let Some(at) = windows.watermark() else { return Some(to) };
        let is_far = to.saturating_sub(at) >= STEP_MS;
        // Sessions close at any time.
        let closes = windows.next_boundary(at).is_none_or(|boundary| boundary <= to);
        (is_far || closes).then_some(to)
    }
}
