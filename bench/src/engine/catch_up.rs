//! Reading everything from the start, as fast as it comes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    report::CatchUp,
    target::{Target, TargetError, Topic},
};

/// How long one call waits for records.
const WAIT: Duration = Duration::from_millis(500);

/// Reads the topic from its beginning until so many records are there. Whoever gets nothing for as
/// long as `patience` has all there is.
///
/// # Errors
/// The subscriber's.
pub async fn catch_up(
    target: &Arc<dyn Target>,
    topic: &Topic,
    expected: u64,
    patience: Duration,
) -> Result<CatchUp, TargetError> {
    let mut subscriber = target.replay(topic).await?;
    let begun = Instant::now();
    let (mut records, mut bytes, mut last) = (0, 0, begun);
    while records < expected && last.elapsed() < patience {
        let before = records;
        let mut each = |payload: &[u8]| {
            records += 1;
            bytes += payload.len() as u64;
        };
        subscriber.receive(WAIT, &mut each).await?;
        if records > before {
            last = Instant::now();
        }
    }
    // Waiting in vain is no reading.
    Ok(CatchUp { records, bytes, seconds: last.duration_since(begun).as_secs_f64() })
}
