//! Topics that clients named and this broker did not know: deleted ones, or such as it has not heard of yet.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use pubg1_model::TopicId;
use tokio::time::{Duration, Instant};

/// After this time the broker would have heard of the topic.
const LONG: Duration = Duration::from_millis(900);
/// So many are remembered. One that is forgotten costs its client another attempt.
const COUNT_MAX: usize = 64;

/// When topics were first asked for that were unknown.
#[derive(Debug, Default)]
pub(crate) struct UnknownTopics(Mutex<VecDeque<(TopicId, Instant)>>);

impl UnknownTopics {
    /// Whether this topic was asked for before, so long ago that the broker would know of it by now.
    pub(crate) fn was_long_ago(&self, topic: TopicId, now: Instant) -> bool {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, first)) = topics.iter().find(|(known, _)| *known == topic) {
            return now.saturating_duration_since(*first) >= LONG;
        }
        if topics.len() == COUNT_MAX {
            topics.pop_front();
        }
        topics.push_back((topic, now));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_unknown_for_good_after_a_while() {
        let (topics, now) = (UnknownTopics::default(), Instant::now());
        let topic = |number: u8| TopicId::from_bytes([number; 16]);
        assert!(!topics.was_long_ago(topic(0), now));
        assert!(!topics.was_long_ago(topic(0), now + LONG / 2));
        assert!(topics.was_long_ago(topic(0), now + LONG));
        for number in 1..=64 {
            assert!(!topics.was_long_ago(topic(number), now));
        }
        assert!(!topics.was_long_ago(topic(0), now + LONG), "the oldest is forgotten");
    }
}
