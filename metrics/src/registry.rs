//! Turns a line of the catalogue into a registered family.

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::catalogue::MetricDescription;

/// The registry of one broker.
pub(crate) struct Families(Registry);

impl Families {
    pub(crate) fn new() -> Families {
        Families(Registry::new())
    }

    pub(crate) fn counter(&self, family: &MetricDescription) -> Result<IntCounter, Error> {
        self.register(IntCounter::with_opts(opts(family))?)
    }

    pub(crate) fn counter_vec(&self, family: &MetricDescription) -> Result<IntCounterVec, Error> {
        self.register(IntCounterVec::new(opts(family), family.labels)?)
    }

    pub(crate) fn gauge(&self, family: &MetricDescription) -> Result<IntGauge, Error> {
        self.register(IntGauge::with_opts(opts(family))?)
    }

    /// A gauge of seconds, which are not whole.
    pub(crate) fn gauge_f64(&self, family: &MetricDescription) -> Result<Gauge, Error> {
        self.register(Gauge::with_opts(opts(family))?)
    }

    pub(crate) fn gauge_vec(&self, family: &MetricDescription) -> Result<IntGaugeVec, Error> {
        self.register(IntGaugeVec::new(opts(family), family.labels)?)
    }

    pub(crate) fn gauge_f64_vec(&self, family: &MetricDescription) -> Result<GaugeVec, Error> {
        self.register(GaugeVec::new(opts(family), family.labels)?)
    }

    pub(crate) fn histogram(&self, family: &MetricDescription, bounds: &[f64]) -> Result<Histogram, Error> {
        self.register(Histogram::with_opts(histogram_opts(family, bounds))?)
    }

    pub(crate) fn histogram_vec(&self, family: &MetricDescription, bounds: &[f64]) -> Result<HistogramVec, Error> {
        self.register(HistogramVec::new(histogram_opts(family, bounds), family.labels)?)
    }

    /// The families `process_*`, read from `/proc` at each scrape. Only Linux has them.
    pub(crate) fn process(&self) -> Result<(), Error> {
        #[cfg(target_os = "linux")]
        self.0.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }

    pub(crate) fn encode(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }

    /// Names of the families that have at least one series.
    #[cfg(test)]
    pub(crate) fn names(&self) -> std::collections::BTreeSet<String> {
        self.0.gather().iter().map(|family| family.name().to_owned()).collect()
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

fn opts(family: &MetricDescription) -> Opts {
    Opts::new(family.name, family.help)
}

fn histogram_opts(family: &MetricDescription, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(family.name, family.help).buckets(bounds.to_vec())
}
