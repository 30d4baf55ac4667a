//! Leader epochs: the checkpoint's text, the rules of assignment, and the search for the point
//! where two random logs part.

use proptest::prelude::*;

use super::*;

fn epochs(entries: &[(u32, u64)]) -> LeaderEpochs {
    let mut epochs = LeaderEpochs::default();
    for (epoch, start) in entries {
        epochs.assign(LeaderEpoch::new(*epoch), Offset::new(*start));
    }
    epochs
}

fn pairs(epochs: &LeaderEpochs) -> Vec<(u32, u64)> {
    epochs.entries().iter().map(|entry| (entry.epoch.get(), entry.start_offset.get())).collect()
}

fn answer(epoch: u32, end: u64) -> Option<(LeaderEpoch, Offset)> {
    Some((LeaderEpoch::new(epoch), Offset::new(end)))
}

#[test]
fn an_epoch_begins_once() {
    let mut epochs = epochs(&[(1, 0), (3, 10)]);
    assert!(!epochs.assign(LeaderEpoch::new(3), Offset::new(12)), "it has begun already");
    assert_eq!(pairs(&epochs), [(1, 0), (3, 10)]);
    assert!(epochs.assign(LeaderEpoch::new(5), Offset::new(10)));
    assert_eq!(pairs(&epochs), [(1, 0), (5, 10)], "epoch 3 appended nothing");
    assert!(epochs.assign(LeaderEpoch::new(2), Offset::new(4)));
    assert_eq!(pairs(&epochs), [(1, 0), (2, 4)], "what contradicts the log goes");
    assert_eq!(epochs.latest(), Some(LeaderEpoch::new(2)));
}

#[test]
fn the_end_of_an_epoch_is_the_start_of_the_next() {
    let epochs = epochs(&[(2, 5), (4, 10), (7, 20)]);
    let end = |epoch| epochs.end_offset_for(LeaderEpoch::new(epoch), Offset::new(25));
    assert_eq!(end(2), answer(2, 10));
    assert_eq!(end(3), answer(2, 10), "3 is unknown: the newest below it");
    assert_eq!(end(7), answer(7, 25));
    assert_eq!(end(9), answer(7, 25));
    assert_eq!(end(1), answer(1, 5), "all known epochs are newer");
    assert_eq!(LeaderEpochs::default().end_offset_for(LeaderEpoch::ZERO, Offset::ZERO), None);
}

#[test]
fn the_epoch_at_an_offset_is_the_last_that_began() {
    let epochs = epochs(&[(2, 5), (4, 10)]);
    let at = |offset| epochs.epoch_at(Offset::new(offset)).map(LeaderEpoch::get);
    assert_eq!([at(4), at(5), at(9), at(10), at(99)], [None, Some(2), Some(2), Some(4), Some(4)]);
}

#[test]
fn the_head_and_the_tail_are_cut() {
    let whole = epochs(&[(1, 0), (2, 10), (4, 20)]);
    for (offset, expected) in [
        (0, vec![(1, 0), (2, 10), (4, 20)]),
        (5, vec![(1, 5), (2, 10), (4, 20)]),
        (10, vec![(2, 10), (4, 20)]),
        (25, vec![(4, 25)]),
    ] {
        let mut cut = whole.clone();
        assert_eq!(cut.start_from(Offset::new(offset)), cut != whole);
        assert_eq!(pairs(&cut), expected, "from {offset}");
        assert!(!cut.start_from(Offset::new(offset)), "twice is once");
    }
    for (offset, expected) in [(25, vec![(1, 0), (2, 10), (4, 20)]), (20, vec![(1, 0), (2, 10)]), (0, vec![])] {
        let mut cut = whole.clone();
        assert_eq!(cut.truncate_to(Offset::new(offset)), expected.len() < 3);
        assert_eq!(pairs(&cut), expected, "to {offset}");
    }
    assert!(!epochs(&[(1, 5)]).start_from(Offset::new(3)), "nothing lies below");
}

#[test]
fn the_text_is_kafkas() {
    let text = "0\n2\n0 0\n3 1200\n";
    let epochs = epochs(&[(0, 0), (3, 1200)]);
    assert_eq!(epochs.encode(), text);
    assert_eq!(LeaderEpochs::decode(text.as_bytes()), Ok(epochs));
    assert_eq!(LeaderEpochs::decode(b"0\n0\n"), Ok(LeaderEpochs::default()));
}

#[test]
fn a_damaged_checkpoint_is_refused_with_its_line() {
    for (text, line) in [
        (b"".as_slice(), 1),
        (b"\xff", 1),
        (b"1\n0\n", 1),
        (b"0\n", 2),
        (b"0\nx\n", 2),
        (b"0\n2\n0 0\n", 2),
        (b"0\n1\n0 0\n1 5\n", 2),
        (b"0\n1\n0\n", 3),
        (b"0\n1\n-1 0\n", 3),
        (b"0\n1\n0 99999999999999999999\n", 3),
        (b"0\n2\n1 0\n1 5\n", 4),
        (b"0\n2\n1 5\n2 5\n", 4),
        (&[0; 100], 1),
    ] {
        let error = LeaderEpochs::decode(text).unwrap_err();
        assert_eq!(error.line, line, "{:?}: {error}", String::from_utf8_lossy(text));
    }
}

/// The epoch of every record of a log.
type Log = Vec<u32>;

fn epochs_of(log: &Log) -> LeaderEpochs {
    let mut epochs = LeaderEpochs::default();
    for (offset, epoch) in (0..).zip(log) {
        epochs.assign(LeaderEpoch::new(*epoch), Offset::new(offset));
    }
    epochs
}

fn end(log: &Log) -> Offset {
    Offset::new(log.len() as u64)
}

/// Replicas as elections leave them: in each epoch one of them, whatever its log, appends some
/// records, and each of the others may copy a part of them after truncating to the common prefix.
fn any_replicas() -> impl Strategy<Value = Vec<Log>> {
    let copied = proptest::collection::vec(proptest::option::of(0_usize..6), 3);
    let epoch = (0_usize..3, 0_usize..6, copied);
    proptest::collection::vec(epoch, 1..8).prop_map(|history| {
        let mut logs: Vec<Log> = vec![Vec::new(); 3];
        for (epoch, (leader, records, copied)) in (1..).zip(history) {
            logs[leader].extend(std::iter::repeat_n(epoch, records));
            let led = logs[leader].clone();
            for (log, copied) in logs.iter_mut().zip(copied) {
                let Some(copied) = copied else { continue };
                let common = common_prefix(log, &led);
                log.truncate(common);
                log.extend_from_slice(&led[common..led.len().min(common + copied)]);
            }
        }
        logs
    })
}

fn common_prefix(a: &Log, b: &Log) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

proptest! {
    #[test]
    fn question_and_answer_end_at_the_longest_common_prefix(logs in any_replicas()) {
        for (follower, leader) in [(0, 1), (1, 2), (2, 0), (1, 0)] {
            let (mut follower, leader) = (logs[follower].clone(), &logs[leader]);
            let expected = common_prefix(&follower, leader);
            let leader_epochs = epochs_of(leader);
            let mut epochs = epochs_of(&follower);
            // Each answer is about an older epoch than the one before.
            for _ in 0..=follower.len() {
                let Some(asked) = epochs.latest() else { break };
                let Some(answer) = leader_epochs.end_offset_for(asked, end(leader)) else {
                    follower.clear();
                    break;
                };
                let (to, done) = match epochs.divergence(end(&follower), answer) {
                    Divergence::At(offset) => (offset, true),
                    Divergence::AskAgain(offset) => (offset, false),
                };
                follower.truncate(usize::try_from(to.get()).unwrap());
                epochs.truncate_to(to);
                prop_assert_eq!(&epochs, &epochs_of(&follower));
                if done {
                    break;
                }
            }
            prop_assert_eq!(follower.len(), expected);
        }
    }

    #[test]
    fn the_checkpoint_comes_back(logs in any_replicas(), cut in 0_u64..9) {
        for log in logs {
            let mut epochs = epochs_of(&log);
            epochs.start_from(Offset::new(cut));
            prop_assert_eq!(LeaderEpochs::decode(epochs.encode().as_bytes()), Ok(epochs));
        }
    }

    #[test]
    fn entries_always_grow(steps in proptest::collection::vec((0_u8..3, 0_u32..9, 0_u64..30), 0..30)) {
        let mut epochs = LeaderEpochs::default();
        for (step, epoch, offset) in steps {
            let before = epochs.clone();
            let changed = match step {
                0 => epochs.assign(LeaderEpoch::new(epoch), Offset::new(offset)),
                1 => epochs.truncate_to(Offset::new(offset)),
                _ => epochs.start_from(Offset::new(offset)),
            };
            prop_assert_eq!(changed, epochs != before);
            let grows = |pair: &[EpochStart]| {
                pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
            };
            prop_assert!(epochs.entries().windows(2).all(grows));
        }
    }

    #[test]
    fn arbitrary_text_is_no_reason_to_panic(bytes: Vec<u8>, text in "0\n[0-9]{0,3}\n([0-9 -]{0,9}\n){0,4}") {
        LeaderEpochs::decode(&bytes).ok();
        LeaderEpochs::decode(text.as_bytes()).ok();
    }
}
