//! The dashboards, one in each module.

pub(crate) mod drill;
pub(crate) mod internals;
pub(crate) mod overview;
pub(crate) mod streams;
pub(crate) mod topics;

/// The parts of the API that write records.
pub(crate) const PRODUCE: &str = "api=~\"publish|produce|produce_ndjson|produce_batches\"";
/// The parts of the API that read records.
pub(crate) const FETCH: &str = "api=~\"consume|fetch|fetch_batches|poll\"";

/// The middle and the tail.
pub(crate) const P50_P99: [(&str, &str); 2] = [("0.5", "p50"), ("0.99", "p99")];
/// The middle, and two tails.
pub(crate) const P50_P95_P99: [(&str, &str); 3] = [("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99")];

/// The buckets of the time of requests to a part of the API.
pub(crate) fn request_time(api: &str) -> String {
    format!("pubg1_request_duration_seconds_bucket{{#, {api}}}")
}
