//! Waiting for a cluster: until it is well, until another broker decides.

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::WaitArgs;
use crate::{
    client::{Client, ClientError},
    error::CommandError,
    terminal::Terminal,
    view::View,
};

const POLL: Duration = Duration::from_millis(50);
/// Where milliseconds are counted.
pub const POLL_FAST: Duration = Duration::from_millis(5);
const NOT_FOUND: u16 = 404;

/// Asks again and again. What it waits for says `Ok`; `Err` is the reason why not yet.
///
/// # Errors
/// [`CommandError::Unhealthy`] with the last reason when time is up, and errors that do not pass.
pub async fn until<T, F: Future<Output = Result<Result<T, String>, ClientError>>>(
    timeout: Duration,
    poll: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T, CommandError> {
    let begun = Instant::now();
    loop {
        let reason = match ask().await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => reason,
            Err(error) if error.is_retriable() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if begun.elapsed() >= timeout {
            let waited = humantime::format_duration(timeout);
            return Err(CommandError::Unhealthy(format!("after {waited}: {reason}")));
        }
        tokio::time::sleep(poll).await;
    }
}

/// Waits until all is well.
///
/// # Errors
/// [`CommandError::Unhealthy`] when it does not become so.
pub async fn until_well(client: &Client, terminal: Terminal, args: &WaitArgs) -> Result<(), CommandError> {
    let begun = Instant::now();
    let view = until(args.timeout, POLL, || async {
        let view = View::look(client).await?;
        Ok(why_not_well(&view, args).map_or(Ok(view), Err))
    })
    .await?;
    let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let partitions = view.partitions().count();
    let document = json!({
        "brokers": view.cluster.brokers.len(),
        "partitions": partitions,
        "controller": view.cluster.controller,
        "waited_ms": waited_ms,
    });
    terminal.print(&document, |_| {
        format!("{} brokers, {partitions} partitions, all led and in sync ({waited_ms} ms)", view.cluster.brokers.len())
    })
}

/// Why this is not what is waited for; `None` when it is.
fn why_not_well(view: &View, args: &WaitArgs) -> Option<String> {
    if let Some(wanted) = args.brokers {
        // A broker that says nothing of the others' lives knows only of itself.
        let alive = view.cluster.brokers.iter().filter(|broker| broker.alive != Some(false)).count() as u64;
        if alive < wanted {
            return Some(format!("{alive} of {wanted} brokers are alive"));
        }
    }
    if let Some(missing) = args.topic.iter().find(|name| view.topics.iter().all(|topic| topic.name != **name)) {
        return Some(format!("there is no topic {missing}"));
    }
    if let Some(broker) = view.cluster.brokers.iter().find(|broker| broker.alive == Some(false)) {
        return Some(format!("broker {} is not alive", broker.broker_id));
    }
    if let Some((name, partition)) = view.partitions().find(|(_, partition)| !partition.is_whole()) {
        return Some(match partition.leader() {
            None => format!("nobody leads {name}"),
            Some(leader) => format!("a replica of {name}, led by {leader}, is not in sync"),
        });
    }
    let health = view.health.as_ref().filter(|health| !health.is_ok())?;
    Some(format!("the cluster is {}: {}", health.status, health.problems.join("; ")))
}

/// Says which broker decides, or waits for another one.
///
/// # Errors
/// [`CommandError::Unhealthy`] when there is none in time.
pub async fn controller(
    client: &Client,
    terminal: Terminal,
    other_than: Option<u32>,
    since_ms: Option<u64>,
    timeout: Duration,
) -> Result<(), CommandError> {
    let since_ms = since_ms.unwrap_or_else(now_ms);
    let (controller, term) = until(timeout, POLL_FAST, || async {
        let cluster = match client.cluster().await {
            Err(error) if error.status() == Some(NOT_FOUND) => return Ok(Err(error.to_string())),
            cluster => cluster?,
        };
        let term = cluster.metadata.as_ref().map(|metadata| metadata.term);
        Ok(match cluster.controller {
            None => Err("there is no controller".to_owned()),
            Some(controller) if Some(controller.0) == other_than => Err(format!("{controller} is the controller")),
            Some(controller) => Ok((controller, term)),
        })
    })
    .await?;
    let elapsed_ms = now_ms().saturating_sub(since_ms);
    let document = json!({ "controller": controller, "term": term, "elapsed_ms": elapsed_ms });
    terminal.print(&document, |_| match term {
        Some(term) => format!("broker {controller} is the controller, in term {term}"),
        None => format!("broker {controller} is the controller"),
    })
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::a_view;

    fn args(brokers: Option<u64>, topics: &[&str]) -> WaitArgs {
        let topic = topics.iter().map(|name| name.parse().unwrap()).collect();
        WaitArgs { brokers, topic, timeout: Duration::ZERO }
    }

    #[test]
    fn the_first_thing_that_is_missing_is_the_reason() {
        let mut view = a_view();
        let why = |view: &View, args: &WaitArgs| why_not_well(view, args).unwrap_or_default();
        assert_eq!(why(&view, &args(Some(3), &[])), "2 of 3 brokers are alive");
        assert_eq!(why(&view, &args(Some(2), &["other"])), "there is no topic other");
        assert_eq!(why(&view, &args(None, &["flights"])), "broker 2 is not alive");
        view.cluster.brokers[2].alive = Some(true);
        assert_eq!(why(&view, &args(None, &[])), "a replica of flights/0, led by 0, is not in sync");
        view.topics[0].partitions[0].replicas[2].in_sync = true;
        assert_eq!(why(&view, &args(None, &[])), "nobody leads flights/1");
        view.topics[0].partitions.pop();
        assert!(why(&view, &args(None, &[])).contains("no replica is alive"));
        view.health = None;
        assert_eq!(why_not_well(&view, &args(Some(3), &["flights"])), None);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_reason() {
        let mut asked = 0;
        let result = until::<(), _>(Duration::from_millis(30), Duration::from_millis(1), || {
            asked += 1;
            async { Ok(Err("not yet".to_owned())) }
        });
        let error = result.await.unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (10, "after 30ms: not yet"));
        assert!(asked > 1);
        assert_eq!(until(Duration::ZERO, POLL, || async { Ok(Ok(3)) }).await.unwrap(), 3);
    }
}
