//! A broker in this process: composition, placement, the orderly end. No domain logic.
//!
//! Order of the start: listen, lock the data directory and begin recovery, serve HTTP (so that
//! `/readyz` can say how far recovery is), announce the address. Order of the end: new work is
//! refused and long polls are let go, HTTP stops, the partitions flush, the metadata log closes.

mod announcement;
mod signals;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
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
    let server = pubg1_web::serve(vec![listener], state).map_err(|error| cannot_listen(settings, &error))?;
    let announcement = Announcement::make(&settings.data_dir, &reachable)?;
    tracing::info!(
        event = "listening",
        http = reachable,
        advertised = url,
        rpc = %settings.rpc,
        data_dir = %settings.data_dir.display(),
        flush = %settings.flush,
        pid = std::process::id(),
        "the broker listens (rpc stays closed while it is alone)"
    );
    let ended = until_stopped(&broker, server, stop, Duration::from_millis(settings.drain_timeout_ms)).await;
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
        flush: match settings.flush {
            Flush::Quorum => FlushPolicy::Quorum,
            Flush::Interval { ms } => FlushPolicy::Interval { ms },
        },
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
        ..defaults
    }
}

/// Serves until somebody says stop, something cannot go on, or the server ends by itself.
async fn until_stopped(
    broker: &BrokerHandle,
    server: Server,
    mut stop: Stop,
    deadline: Duration,
) -> Result<(), CommandError> {
    let http = server.handle();
    let mut server = actix_rt::spawn(server);
    tokio::select! {
        source = stop.requested() => tracing::info!(event = "draining", source, "the broker stops"),
        fatal = broker.fatal() => return Err(end_at_once(&fatal.to_string())),
        ended = &mut server => {
            let reason = ended.map_or_else(|error| error.to_string(), |ended| format!("{ended:?}"));
            return Err(end_at_once(&format!("the HTTP server ended by itself: {reason}")));
        }
    }
    tokio::select! {
        drained = drain(broker, &http, deadline) => drained,
        fatal = broker.fatal() => Err(end_at_once(&fatal.to_string())),
        source = stop.requested() => Err(end_at_once(&format!("told a second time to stop ({source})"))),
    }
}

async fn drain(broker: &BrokerHandle, http: &ServerHandle, deadline: Duration) -> Result<(), CommandError> {
    let until = Instant::now() + deadline;
    broker.begin_drain();
    // Half of the time for requests under way, the rest for flushing.
    if tokio::time::timeout(deadline / 2, http.stop(true)).await.is_err() {
        tracing::warn!(event = "connections_cut", "some requests were not finished in time");
        http.stop(false).await;
    }
    let report = broker.drain(until.saturating_duration_since(Instant::now())).await;
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
