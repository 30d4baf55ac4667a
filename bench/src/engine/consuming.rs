//! A consumer's thread: takes records as they come and says how long they took.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Phase, Shared,
    clock::Clock,
    recorder::{Recorder, Told},
    threads::Watched,
};
use crate::target::{Message, RUN_SHIFT, Subscriber, TargetError};

/// How long one call waits for records; the end of a run interrupts it.
const WAIT: Duration = Duration::from_secs(1);
/// Pause after a failure: the system may be away for a while.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn consume(
    shared: &Shared,
    clock: Clock,
    mut recorder: Recorder,
    subscriber: &mut dyn Subscriber,
    mut phase: Watched,
) {
    loop {
        let mut count = 0;
        let received = {
            let mut each = |payload: &[u8]| {
                if let Some((due_ns, number)) = Message::read_stamp(payload)
                    && number >> RUN_SHIFT == shared.mark >> RUN_SHIFT
                {
                    count += u64::from(recorder.consumed(due_ns, clock.now_ns()));
                }
            };
            tokio::select! {
                received = subscriber.receive(WAIT, &mut each) => Some(received),
                _ = phase.wait_for(|(phase, _)| *phase == Phase::Over) => None,
            }
        };
        shared.consumed.fetch_add(count, Ordering::Relaxed);
        let now_ns = clock.now_ns();
        recorder.hand_over(now_ns);
        match received {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                recorder.overcame(now_ns, [(kind(&error), 1)].into());
                tokio::time::sleep(PAUSE).await;
            }
            None => break,
        }
        // A receiver that always has something at once would not notice the end.
        if phase.has_changed().is_err() || phase.borrow().0 == Phase::Over {
            break;
        }
    }
    subscriber.close().await;
    recorder.finish(Told::Consumed);
}

fn kind(error: &TargetError) -> String {
    match error {
        TargetError::Unreachable { .. } => "consume: no answer",
        TargetError::Refused { .. } => "consume: refused",
        TargetError::Unsupported(_) => "consume: unsupported",
    }
    .to_owned()
}
