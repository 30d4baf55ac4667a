//! Requests by part of the API: how many, how long, with which answer, and where their time went.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::labels::label_values;
use crate::registry::Families;
use crate::{buckets, catalogue, seconds};

label_values! {
    /// A part of the HTTP API. Routes that do the same work share one.
    pub enum Api {
        /// `POST /publish`.
        Publish = "publish",
        /// `GET /consume`.
        Consume = "consume",
        /// `GET /metadata`.
        SimpleMetadata = "simple_metadata",
        /// `GET /offset`.
        Offset = "offset",
        /// `POST /commit_offset`.
        CommitOffset = "commit_offset",
        /// `GET /loglen`.
        LogLength = "log_length",
        /// `POST /topics/{t}` and `POST /topics/{t}/partitions/{p}` with JSON.
        Produce = "produce",
        /// `POST /topics/{t}` with NDJSON.
        ProduceNdjson = "produce_ndjson",
        /// `POST /topics/{t}/partitions/{p}/batches`.
        ProduceBatches = "produce_batches",
        /// `GET /topics/{t}/partitions/{p}/records`.
        Fetch = "fetch",
        /// `GET /topics/{t}/partitions/{p}/batches`.
        FetchBatches = "fetch_batches",
        /// Topics and partitions described.
        Topics = "topics",
        /// Topics created, changed and deleted, records deleted.
        Admin = "admin",
        /// `POST /producers`.
        Producers = "producers",
        /// Consumer instances: created, subscribed, committed, deleted.
        Consumers = "consumers",
        /// `GET …/records` of a consumer instance, and of a group in one call.
        Poll = "poll",
        /// Consumer groups described, rewound, deleted.
        Groups = "groups",
        /// Streams declared, described, read, paused, deleted.
        Streams = "streams",
        /// Brokers and the cluster described.
        Cluster = "cluster",
        /// Liveness, readiness and health.
        Health = "health",
        /// `GET /metrics` and `GET /metrics/kafka`.
        Metrics = "metrics",
        /// The API's description and its viewer.
        Docs = "docs",
        /// Everything else, unknown routes among it.
        Other = "other",
    }
}

impl Api {
    /// The phases whose series exist from the start. Others begin when they are first observed.
    pub const fn phases(self) -> &'static [Phase] {
        match self {
            Api::Publish | Api::CommitOffset | Api::Produce | Api::ProduceNdjson | Api::ProduceBatches => {
                &[Phase::Queue, Phase::Append, Phase::Flush]
            }
            Api::Fetch | Api::FetchBatches | Api::Poll => &[Phase::Wait],
            _ => &[],
        }
    }
}

label_values! {
    /// A part of a request's time.
    pub enum Phase {
        /// From the handle's call until the partition took the message up: permits and mailbox.
        Queue = "queue",
        /// The append to the log in memory.
        Append = "append",
        /// From the append until the high watermark passed it: on disk, and later on the replicas.
        Flush = "flush",
        /// A long poll that waits for records.
        Wait = "wait",
    }
}

label_values! {
    /// The budget that was used up.
    pub enum ThrottleReason {
        /// Bytes of requests that wait to be appended.
        Bytes = "bytes",
        /// Requests that wait to be appended.
        Requests = "requests",
        /// Long polls that wait for records.
        Waits = "waits",
    }
}

/// Codes with a series of their own; any other counts as its class. Sorted, for the search.
const CODES: [u16; 27] = [
    200, 201, 204, 206, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 414, 415, 416, 422, 429, 431,
    500, 501, 503, 504,
];
const CODE_NAMES: [&str; 27] = [
    "200", "201", "204", "206", "304", "307", "308", "400", "401", "403", "404", "405", "406", "408", "409", "410",
    "413", "414", "415", "416", "422", "429", "431", "500", "501", "503", "504",
];
const CLASS_NAMES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// Codes whose series exist from the start for every part of the API.
const CODES_FROM_START: [u16; 6] = [200, 400, 404, 429, 500, 503];

/// Position of a code's counter: first the codes, then the classes.
fn code_index(status: u16) -> usize {
    CODES.binary_search(&status).unwrap_or_else(|_| {
        CODES.len()
            + match status {
                100..=199 => 0,
                200..=299 => 1,
                300..=399 => 2,
                400..=499 => 3,
                500..=599 => 4,
                _ => 5,
            }
    })
}

/// The handles of one part of the API.
pub struct RequestMetrics {
    api: Api,
    answered: IntCounterVec,
    answered_by_code: [OnceLock<IntCounter>; CODES.len() + CLASS_NAMES.len()],
    duration: Histogram,
    phases: HistogramVec,
    phase_handles: [OnceLock<Histogram>; Phase::ALL.len()],
    in_flight: IntGauge,
}

impl RequestMetrics {
    /// Counts an answer and the time it took.
    pub fn observe(&self, status: u16, duration: Duration) {
        self.code(status).inc();
        self.duration.observe(seconds(duration));
    }

    /// The histogram of one phase, in seconds.
    pub fn phase(&self, phase: Phase) -> &Histogram {
        self.phase_handles[phase.index()]
            .get_or_init(|| self.phases.with_label_values(&[self.api.as_str(), phase.as_str()]))
    }

    /// Adds the time of one phase.
    pub fn observe_phase(&self, phase: Phase, duration: Duration) {
        self.phase(phase).observe(seconds(duration));
    }

    /// Counts a request as being served until the guard is dropped.
    #[must_use = "the request counts as served until this is dropped"]
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    fn code(&self, status: u16) -> &IntCounter {
        let index = code_index(status);
        self.answered_by_code[index].get_or_init(|| {
            let name = CODE_NAMES.iter().chain(&CLASS_NAMES).nth(index).copied().unwrap_or("other");
            self.answered.with_label_values(&[self.api.as_str(), name])
        })
    }
}

/// A request that is being served. Dropping it ends that.
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The handles of every part of the API.
pub(crate) struct Requests {
    by_api: Vec<RequestMetrics>,
    throttled: Vec<IntCounter>,
}

impl Requests {
    pub(crate) fn register(families: &Families) -> Result<Requests, Error> {
        let answered = families.counter_vec(&catalogue::REQUESTS)?;
        let duration = families.histogram_vec(&catalogue::REQUEST_DURATION, &buckets::REQUEST_SECONDS)?;
        let phases = families.histogram_vec(&catalogue::REQUEST_PHASE_DURATION, &buckets::REQUEST_SECONDS)?;
        let in_flight = families.gauge_vec(&catalogue::REQUESTS_IN_FLIGHT)?;
        let mut by_api = Vec::with_capacity(Api::ALL.len());
        for &api in Api::ALL {
            let label = &[api.as_str()];
            let metrics = RequestMetrics {
                api,
                answered: answered.clone(),
                answered_by_code: [const { OnceLock::new() }; _],
                duration: duration.get_metric_with_label_values(label)?,
                phases: phases.clone(),
                phase_handles: [const { OnceLock::new() }; _],
                in_flight: in_flight.get_metric_with_label_values(label)?,
            };
            for status in CODES_FROM_START {
                metrics.code(status);
            }
            for &phase in api.phases() {
                metrics.phase(phase);
            }
            by_api.push(metrics);
        }
        let throttled = families.counter_vec(&catalogue::THROTTLED_REQUESTS)?;
        let throttled = ThrottleReason::ALL
            .iter()
            .map(|reason| throttled.get_metric_with_label_values(&[reason.as_str()]))
            .collect::<Result<_, _>>()?;
        Ok(Requests { by_api, throttled })
    }

    pub(crate) fn of(&self, api: Api) -> &RequestMetrics {
        &self.by_api[api.index()]
    }

    pub(crate) fn throttled(&self, reason: ThrottleReason) -> &IntCounter {
        &self.throttled[reason.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_counter_and_known_codes_have_their_own() {
        assert!(CODES.is_sorted());
        for (code, name) in CODES.iter().zip(CODE_NAMES) {
            assert_eq!(code.to_string(), name);
        }
        for status in 0..=u16::MAX {
            assert!(code_index(status) < CODES.len() + CLASS_NAMES.len());
        }
        assert_eq!(code_index(418), CODES.len() + 3);
        assert_eq!(code_index(999), CODES.len() + 5);
    }
}
