//! A broker in this process: composition, placement, the orderly end. No domain logic.
//!
//! Order of the start: listen, lock the data directory and begin recovery, serve HTTP (so that
//! `/readyz` can say how far recovery is), announce the address. Order of the end: leaderships go to
//! other brokers, new work is refused and long polls are let go, HTTP stops, the partitions flush,
//! the metadata log closes.

mod announcement;
mod signals;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::dev::{Server, ServerHandle};
use pubg1_actors::{AdmissionLimits, Broker, BrokerConfig, BrokerHandle, DefaultTopic, FlushPolicy};
use pubg1_metrics::Metrics;
use pubg1_model::BrokerId;
use pubg1_web::{AppState, Limits};

use crate::{
    cli::BrokerCommand,
    commands::config::load,
    config::{BrokerSettings, Flush},
    error::{CommandError, FAILURE},
    logging,
    terminal::Terminal,
};
use announcement::Announcement;
use signals::Stop;

/// How long a broker that others stand in for refuses requests before it stops listening.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs a broker until it is told to stop.
///
/// # Errors
/// A configuration that is refused, an address or a directory that cannot be had, and what ends a
/// broker that cannot go on.
pub fn run(args: &BrokerCommand, terminal: Terminal) -> Result<(), CommandError> {
    let settings = load(&args.settings)?.settings;
    logging::init(settings.logging_format, &settings.logging_filter, terminal.color);
    actix_rt::System::new().block_on(serve(&settings, args.exit_with_stdin))
}

async fn serve(settings: &BrokerSettings, exit_with_stdin: bool) -> Result<(), CommandError> {
    let stop = signals::listen(exit_with_stdin)
        .map_err(|error| CommandError::Failed(format!("cannot listen for signals: {error}")))?;
    let listener = TcpListener::bind(settings.http).map_err(|error| cannot_listen(settings, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(settings, &error))?;
    let reachable = format!("http://{}", reachable_at(address));
    let url = settings.advertise_http.clone().unwrap_or_else(|| reachable.clone());
    warn_about(settings, &url);

    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let metrics = Metrics::new().map_err(|error| failed(&error))?;
    let broker = Broker::start(broker_config(settings, &url), metrics).map_err(|error| failed(&error))?;
    let limits = Limits { workers: settings.http_workers, ..Limits::default() };
    let state = AppState::new(broker.clone(), limits, address.port());
    let door = listener.try_clone().map_err(|error| cannot_listen(settings, &error))?;
    let server =
        pubg1_web::serve(vec![listener], Arc::clone(&state)).map_err(|error| cannot_listen(settings, &error))?;
    let announcement = Announcement::make(&settings.data_dir, &reachable)?;
    tracing::info!(
        event = "listening",
        http = reachable,
        advertised = url,
        rpc = settings.advertised_rpc(),
        data_dir = %settings.data_dir.display(),
        flush = %settings.flush,
        pid = std::process::id(),
        "the broker listens{}",
        if settings.expects_peers() { "" } else { " (not for other brokers: it has no voters)" }
    );
    let deadline = Duration::from_millis(settings.drain_timeout_ms);
    let ended = until_stopped(&broker, &state, (server, door), stop, deadline).await;
    drop(announcement);
    ended
}

fn cannot_listen(settings: &BrokerSettings, error: &io::Error) -> CommandError {
    CommandError::Failed(format!(
        "cannot listen on {}: {error}; choose another address with --http, port 0 takes a free one",
        settings.http
    ))
}

/// Where this machine reaches the address: "any address" is none to connect to.
const fn reachable_at(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    address
}

fn warn_about(settings: &BrokerSettings, url: &str) {
    if !settings.http.ip().is_loopback() {
        tracing::warn!(
            event = "open_to_the_network",
            "{} can be reached from other machines and nobody is authenticated: \
             whoever reaches it may read, write and delete everything",
            settings.http
        );
    }
    if settings.http.ip().is_unspecified() && settings.advertise_http.is_none() {
        tracing::warn!(
            event = "advertised_locally",
            "clients on other machines will be told {url}, which is themselves: set --advertise-http"
        );
    }
}

fn broker_config(settings: &BrokerSettings, url: &str) -> BrokerConfig {
    let defaults = BrokerConfig::new(BrokerId(settings.node_id), &settings.data_dir, url);
    BrokerConfig {
        cluster_id: settings.cluster_id.clone(),
        rpc_listen: settings.expects_peers().then(|| settings.rpc.to_string()),
        rpc_advertised: settings.advertised_rpc().unwrap_or_default(),
        voters: settings.voters.iter().map(|voter| (BrokerId(voter.id), voter.address.to_string())).collect(),
        rack: settings.rack.clone(),
        replication_factor: settings.replication_factor,
        session_timeout_ms: settings.session_timeout_ms,
        flush: match settings.flush {
            Flush::Quorum => FlushPolicy::Quorum,
            Flush::Interval { ms } => FlushPolicy::Interval { ms },
        },
        page_cache_bytes: settings.page_cache_bytes,
        partition_arbiters: settings.partition_arbiters,
        admission: AdmissionLimits {
            bytes_max: settings.in_flight_bytes_max,
            requests_max: settings.in_flight_requests_max,
            ..AdmissionLimits::default()
        },
        default_topic: Some(DefaultTopic {
            name: settings.default_topic.clone(),
            partitions: settings.default_topic_partitions,
        }),
        topic_defaults: settings.topic.clone(),
        partitions_default: settings.partitions_default,
        retention_check_interval_ms: settings.retention_check_interval_ms,
        offsets_retention_ms: settings.offsets_retention_ms,
        streams_threads: settings.streams_threads,
        ..defaults
    }
}

/// Serves until somebody says stop, something cannot go on, or the server ends by itself.
async fn until_stopped(
    broker: &BrokerHandle,
    state: &AppState,
    (server, door): (Server, TcpListener),
    mut stop: Stop,
    deadline: Duration,
) -> Result<(), CommandError> {
    let http = server.handle();
    let mut server = actix_rt::spawn(server);
    let source = tokio::select! {
        source = stop.requested() => source,
        fatal = broker.fatal() => return Err(end_at_once(&fatal.to_string())),
        ended = &mut server => {
            let reason = ended.map_or_else(|error| error.to_string(), |ended| format!("{ended:?}"));
            return Err(end_at_once(&format!("the HTTP server ended by itself: {reason}")));
        }
    };
    tracing::info!(event = "draining", %source, "the broker stops");
    let hand_over = source.leaves_others();
    tokio::select! {
        drained = drain(broker, state, (&http, door), deadline, hand_over) => drained,
        fatal = broker.fatal() => Err(end_at_once(&fatal.to_string())),
        source = stop.requested() => Err(end_at_once(&format!("told a second time to stop ({source})"))),
    }
}

async fn drain(
    broker: &BrokerHandle,
    state: &AppState,
    (http, door): (&ServerHandle, TcpListener),
    deadline: Duration,
    hand_over: bool,
) -> Result<(), CommandError> {
    let until = Instant::now() + deadline;
    state.part_from_clients();
    if hand_over {
        // It serves meanwhile. Half of the time for this, half of the rest for requests under way, and what is left
        // for flushing.
        broker.resign_leaderships(deadline / 2).await;
    }
    broker.begin_drain();
    let has_others = hand_over && broker.image().brokers.len() > 1;
    // Whoever connects from here on is not the server's, but is answered until everything is closed.
    http.pause().await;
    let closing = async {
        if has_others {
            // Clients that are connected are sent to others. When their connections close hardly any is left.
            tokio::time::sleep(FAREWELL.min(deadline / 8)).await;
        }
        let left = until.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left / 2, http.stop(true)).await.is_err() {
            tracing::warn!(event = "connections_cut", "some requests were not finished in time");
            http.stop(false).await;
        }
        broker.drain(until.saturating_duration_since(Instant::now())).await
    };
    let (report, turned_away) = pubg1_web::turn_away(door, closing).await;
    if let Err(error) = turned_away {
        tracing::debug!(%error, "who connected last was not answered");
    }
    if report.is_complete() {
        tracing::info!(event = "stopped", "everything is flushed and closed");
        return Ok(());
    }
    let unfinished = report.unfinished.join(", ");
    Err(CommandError::Failed(format!("not everything was closed in time: {unfinished}; the next start recovers it")))
}

/// Nothing that happens from here on may be acknowledged: no drain, no destructors of threads that
/// still work.
fn end_at_once(reason: &str) -> CommandError {
    tracing::error!(event = "ended", reason, "the broker ends at once");
    std::process::exit(i32::from(FAILURE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn offsets_are_kept_for_as_long_as_is_set() {
        let kept = |settings: &BrokerSettings| broker_config(settings, "http://a").offsets_retention_ms;
        assert_eq!(kept(&BrokerSettings::default()), 7 * 24 * 60 * 60 * 1000);
        let named = [("PUBG1_GROUPS_OFFSETS_RETENTION_MS".to_owned(), "5000".to_owned())];
        assert_eq!(kept(&Config::load(None, named, []).unwrap().settings), 5000);
    }
}
