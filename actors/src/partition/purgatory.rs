//! Requests that wait for an offset: data in order, not futures in the actor.

use std::collections::VecDeque;

use pubg1_model::Offset;

/// Waiting requests, ordered by the high watermark that completes them.
///
/// Requests arrive almost always in the order of their offsets, so this is a queue; only a duplicate
/// whose original is still waiting goes further to the front.
#[derive(Debug)]
pub(super) struct Purgatory<T> {
    waiting: VecDeque<(Offset, T)>,
}

impl<T> Purgatory<T> {
    pub(super) const fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Parks `request` until the high watermark reaches `completed_at`, the offset after its last
    /// record. Among equals the first parked is the first completed.
    pub(super) fn park(&mut self, completed_at: Offset, request: T) {
        match self.waiting.back() {
            Some((last, _)) if *last > completed_at => {
                let at = self.waiting.partition_point(|(offset, _)| *offset <= completed_at);
                self.waiting.insert(at, (completed_at, request));
            }
            _ => self.waiting.push_back((completed_at, request)),
        }
    }

    /// Hands over every request that a high watermark of `high_watermark` completes, in order.
    pub(super) fn complete_up_to(&mut self, high_watermark: Offset, mut complete: impl FnMut(T)) {
        while self.waiting.front().is_some_and(|(offset, _)| *offset <= high_watermark) {
            if let Some((_, request)) = self.waiting.pop_front() {
                complete(request);
            }
        }
    }

    /// Hands over every request that is `expired`; the others keep their order.
    pub(super) fn expire(&mut self, mut expired: impl FnMut(&T) -> bool, mut give_up: impl FnMut(T)) {
        if !self.waiting.iter().any(|(_, request)| expired(request)) {
            return;
        }
        for (offset, request) in std::mem::take(&mut self.waiting) {
            if expired(&request) { give_up(request) } else { self.waiting.push_back((offset, request)) }
        }
    }

    /// Empties it, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..).map(|(_, request)| request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn completed(purgatory: &mut Purgatory<u32>, high_watermark: u64) -> Vec<u32> {
        let mut out = Vec::new();
        purgatory.complete_up_to(Offset::new(high_watermark), |request| out.push(request));
        out
    }

    #[test]
    fn requests_complete_when_the_high_watermark_reaches_their_end() {
        let mut purgatory = Purgatory::new();
        purgatory.park(Offset::new(5), 1);
        purgatory.park(Offset::new(7), 2);
        purgatory.park(Offset::new(5), 3);
        assert!(completed(&mut purgatory, 4).is_empty());
        assert_eq!(completed(&mut purgatory, 5), [1, 3]);
        assert_eq!(completed(&mut purgatory, 100), [2]);
        assert!(purgatory.is_empty());
    }

    #[test]
    fn expiry_takes_only_what_is_expired() {
        let mut purgatory = Purgatory::new();
        for n in 0..6 {
            purgatory.park(Offset::new(u64::from(n)), n);
        }
        let mut gone = Vec::new();
        purgatory.expire(|n| n % 2 == 0, |n| gone.push(n));
        assert_eq!(gone, [0, 2, 4]);
        assert_eq!(completed(&mut purgatory, 6), [1, 3, 5]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Park(u64),
        Advance(u64),
        Expire(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..60u64).prop_map(Step::Park),
            2 => (0..60u64).prop_map(Step::Advance),
            1 => (2..5u32).prop_map(Step::Expire),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Beside a plain list: every request is answered once, in the order of its offset and then of its
        /// arrival, and never before the high watermark has reached it.
        #[test]
        fn behaves_like_a_sorted_list(steps in steps()) {
            let mut purgatory = Purgatory::new();
            let mut list: Vec<(u64, u32)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Park(offset) => {
                        purgatory.park(Offset::new(offset), next);
                        list.push((offset, next));
                        list.sort_unstable();
                        next += 1;
                    }
                    Step::Advance(high_watermark) => {
                        let due: Vec<u32> =
                            list.extract_if(.., |(offset, _)| *offset <= high_watermark).map(|(_, n)| n).collect();
                        prop_assert_eq!(completed(&mut purgatory, high_watermark), due);
                    }
                    Step::Expire(modulus) => {
                        let due: Vec<u32> =
                            list.extract_if(.., |(_, n)| *n % modulus == 0).map(|(_, n)| n).collect();
                        let mut gone = Vec::new();
                        purgatory.expire(|n| n % modulus == 0, |n| gone.push(n));
                        prop_assert_eq!(gone, due);
                    }
                }
                prop_assert_eq!(purgatory.len(), list.len());
            }
            let rest: Vec<u32> = list.into_iter().map(|(_, n)| n).collect();
            prop_assert_eq!(purgatory.drain().collect::<Vec<_>>(), rest);
        }
    }
}
