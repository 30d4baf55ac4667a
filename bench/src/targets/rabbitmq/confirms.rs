//! Confirms come record by record, by number; whoever sent a batch waits for all of its records.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::oneshot;

use crate::target::SendError;

/// What becomes of a batch.
pub(super) type Outcome = oneshot::Receiver<Result<(), SendError>>;

/// The batches of one publisher that are not confirmed.
#[derive(Default)]
pub(super) struct Confirms(Mutex<State>);

#[derive(Default)]
struct State {
    /// Which connection these batches are on.
    connection: u64,
    /// The number of the next record.
    next: u64,
    /// In the order of their numbers.
    batches: VecDeque<Batch>,
}

struct Batch {
    first: u64,
    records: u64,
    /// Not confirmed yet.
    left: u64,
    done: Option<oneshot::Sender<Result<(), SendError>>>,
}

impl Confirms {
    /// So many records are about to be sent on this connection: the number of the first, and what
    /// becomes of them. `None`: the connection has ended.
    pub(super) fn expect(&self, connection: u64, records: u64) -> Option<(u64, Outcome)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.connection != connection {
            return None;
        }
        let (done, outcome) = oneshot::channel();
        let first = state.next;
        state.next += records;
        state.batches.push_back(Batch { first, records, left: records, done: Some(done) });
        Some((first, outcome))
    }

    /// The current connection.
    pub(super) fn connection(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).connection
    }

    /// These records are confirmed, or refused.
    pub(super) fn settle(&self, numbers: impl IntoIterator<Item = u64>, outcome: &Result<(), SendError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = 0;
        for number in numbers {
            let holds = |batch: &Batch| (batch.first..batch.first + batch.records).contains(&number);
            if !state.batches.get(place).is_some_and(holds) {
                let behind = state.batches.partition_point(|batch| batch.first <= number);
                let Some(found) = behind.checked_sub(1).filter(|found| holds(&state.batches[*found])) else { continue };
                place = found;
            }
            let batch = &mut state.batches[place];
            batch.left = batch.left.saturating_sub(1);
            if (batch.left == 0 || outcome.is_err())
                && let Some(done) = batch.done.take()
            {
                // Whoever gave up waiting is not told.
                done.send(outcome.clone()).ok();
            }
        }
        while state.batches.front().is_some_and(|batch| batch.left == 0) {
            state.batches.pop_front();
        }
    }

    /// The connection has ended: nothing on it is confirmed any more.
    pub(super) fn end(&self, error: &SendError) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.connection += 1;
        for done in state.batches.drain(..).filter_map(|batch| batch.done) {
            done.send(Err(error.clone())).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> SendError {
        SendError { kind: "connection".into(), reason: "ended".into() }
    }

    #[test]
    fn a_batch_is_done_when_its_last_record_is_confirmed() {
        let confirms = Confirms::default();
        let (first, mut one) = confirms.expect(0, 3).unwrap();
        let (second, mut two) = confirms.expect(0, 2).unwrap();
        assert_eq!((first, second), (0, 3));
        confirms.settle([4, 0, 2], &Ok(()));
        assert!(one.try_recv().is_err() && two.try_recv().is_err());
        confirms.settle([3], &Ok(()));
        assert_eq!(two.try_recv().unwrap(), Ok(()));
        confirms.settle([1, 99], &Ok(()));
        assert_eq!(one.try_recv().unwrap(), Ok(()));
        assert!(confirms.0.lock().unwrap().batches.is_empty());
    }

    #[test]
    fn one_refused_record_fails_the_batch() {
        let confirms = Confirms::default();
        let (first, mut outcome) = confirms.expect(0, 3).unwrap();
        confirms.settle([first + 1], &Err(error()));
        assert_eq!(outcome.try_recv().unwrap(), Err(error()));
        confirms.settle([first, first + 2], &Ok(()));
        assert!(confirms.0.lock().unwrap().batches.is_empty());
    }

    #[test]
    fn the_end_of_a_connection_fails_all_that_was_on_it() {
        let confirms = Confirms::default();
        let (_, mut outcome) = confirms.expect(0, 3).unwrap();
        confirms.end(&error());
        assert_eq!(outcome.try_recv().unwrap(), Err(error()));
        assert!(confirms.expect(0, 1).is_none());
        assert_eq!(confirms.expect(confirms.connection(), 1).unwrap().0, 3);
    }
}
