//! Demands on the numbers of a run: `p99>20ms` is a run that fails, as an objective `p99<20ms` is one that is kept.

use std::{fmt, str::FromStr};

use crate::{
    latency::Latency,
    report::{Report, ThresholdOutcome},
};

/// A comparison of something measured with a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    operator: Operator,
    /// In milliseconds for a time.
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Time(Times, Statistic),
    Rate,
    Errors,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Response,
    Service,
    EndToEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    P50,
    P90,
    P95,
    P99,
    P999,
    P9999,
    Max,
    Mean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Why a text is no demand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no comparison: {reason}; it looks like p99>20ms, e2e.p95>=100ms, service.max>1s, rate<1000, errors>0, lost>0"
)]
pub struct InvalidThreshold {
    text: String,
    reason: String,
}

impl FromStr for Threshold {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, InvalidThreshold> {
        let refuse = |reason: String| InvalidThreshold { text: text.to_owned(), reason };
        let at = text.find(['<', '>']).ok_or_else(|| refuse("there is no <, <=, > or >= in it".to_owned()))?;
        let (name, rest) = text.split_at(at);
        let operators =
            [(">=", Operator::AtLeast), ("<=", Operator::AtMost), (">", Operator::Above), ("<", Operator::Below)];
        let found = operators.iter().find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
        let (operator, value) = found.ok_or_else(|| refuse("there is no operator in it".to_owned()))?;
        let metric = metric(name.trim()).ok_or_else(|| {
            refuse(format!(
                "{:?} is none of p50 p90 p95 p99 p99.9 p99.99 max mean (also behind `service.` or `e2e.`), rate, errors, lost",
                name.trim()
            ))
        })?;
        let bound = match metric {
            Metric::Time(..) => milliseconds(value.trim()),
            Metric::Rate | Metric::Errors | Metric::Lost => number(value.trim().trim_end_matches("/s")),
        };
        let bound = bound.ok_or_else(|| refuse(format!("{:?} is no bound of a {}", value.trim(), metric.kind())))?;
        Ok(Self { text: text.to_owned(), metric, operator, bound })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Metric {
    const fn kind(self) -> &'static str {
        match self {
            Self::Time(..) => "time, which has a unit: us, ms or s",
            Self::Rate => "rate, which is a number per second",
            Self::Errors | Self::Lost => "count, which is a number",
        }
    }
}

fn metric(name: &str) -> Option<Metric> {
    let (times, statistic) = match name.split_once('.') {
        Some(("e2e", statistic)) => (Times::EndToEnd, statistic),
        Some(("service", statistic)) => (Times::Service, statistic),
        _ => (Times::Response, name),
    };
    let statistic = match statistic {
        "p50" => Statistic::P50,
        "p90" => Statistic::P90,
        "p95" => Statistic::P95,
        "p99" => Statistic::P99,
        "p99.9" => Statistic::P999,
        "p99.99" => Statistic::P9999,
        "max" => Statistic::Max,
        "mean" => Statistic::Mean,
        _ => {
            return match name {
                "rate" => Some(Metric::Rate),
                "errors" => Some(Metric::Errors),
                "lost" => Some(Metric::Lost),
                _ => None,
            };
        }
    };
    Some(Metric::Time(times, statistic))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn milliseconds(text: &str) -> Option<f64> {
    // The longer units first: every one of them ends with an s.
    let units = [("ns", 1e-6), ("us", 1e-3), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)];
    units.iter().find_map(|(unit, factor)| Some(number(text.strip_suffix(unit)?.trim())? * factor))
}

impl Threshold {
    /// Whether it speaks of a time that shall be short: what a search for the highest rate can keep to.
    #[must_use]
    pub const fn is_objective(&self) -> bool {
        matches!((self.metric, self.operator), (Metric::Time(..), Operator::Below | Operator::AtMost))
    }

    /// Whether it speaks of what consumers saw.
    #[must_use]
    pub const fn needs_consumers(&self) -> bool {
        matches!(self.metric, Metric::Time(Times::EndToEnd, _) | Metric::Lost)
    }

    /// What the run measured of it; `None`: nothing.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn value(&self, report: &Report) -> Option<f64> {
        match self.metric {
            Metric::Time(times, statistic) => {
                let latency = match times {
                    Times::Response => Some(&report.response),
                    Times::Service => Some(&report.service),
                    Times::EndToEnd => report.end_to_end.as_ref(),
                };
                latency.filter(|latency| latency.count > 0).map(|latency| statistic.of(latency))
            }
            Metric::Rate => Some(report.totals.rate),
            Metric::Errors => Some(report.errors.values().sum::<u64>() as f64),
            Metric::Lost => match (&report.drill, &report.end_to_end) {
                (Some(drill), _) => Some(drill.verdict.lost as f64),
                (None, Some(_)) => Some(report.totals.acknowledged.saturating_sub(report.totals.consumed) as f64),
                (None, None) => None,
            },
        }
    }

    /// Whether the comparison is true; `None`: nothing of it was measured.
    #[must_use]
    pub fn holds(&self, report: &Report) -> Option<bool> {
        let value = self.value(report)?;
        Some(match self.operator {
            Operator::Above => value > self.bound,
            Operator::AtLeast => value >= self.bound,
            Operator::Below => value < self.bound,
            Operator::AtMost => value <= self.bound,
        })
    }

    /// What becomes of a run that fails if this is true. It fails, too, when nothing of it was measured.
    #[must_use]
    pub fn judge(&self, report: &Report) -> ThresholdOutcome {
        let measured = match (self.value(report), self.metric) {
            (None, _) => "not measured".to_owned(),
            (Some(value), Metric::Time(..)) => format!("{value:.3} ms"),
            (Some(value), Metric::Rate) => format!("{value:.0} records/s"),
            (Some(value), Metric::Errors | Metric::Lost) => format!("{value:.0}"),
        };
        ThresholdOutcome { text: self.text.clone(), measured, failed: self.holds(report).unwrap_or(true) }
    }
}

impl Statistic {
    const fn of(self, latency: &Latency) -> f64 {
        match self {
            Self::P50 => latency.p50_ms,
            Self::P90 => latency.p90_ms,
            Self::P95 => latency.p95_ms,
            Self::P99 => latency.p99_ms,
            Self::P999 => latency.p999_ms,
            Self::P9999 => latency.p9999_ms,
            Self::Max => latency.max_ms,
            Self::Mean => latency.mean_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Totals;

    fn report() -> Report {
        let response = Latency { count: 10, p99_ms: 20.0, p999_ms: 30.0, max_ms: 31.0, ..Latency::default() };
        Report {
            totals: Totals { rate: 999.0, acknowledged: 10, consumed: 8, ..Totals::default() },
            errors: [("a".to_owned(), 2), ("b".to_owned(), 1)].into(),
            end_to_end: Some(Latency { count: 8, p50_ms: 0.5, ..Latency::default() }),
            response,
            ..Report::default()
        }
    }

    #[test]
    fn every_comparison_does_what_it_says() {
        for (text, fails) in [
            ("p99>20ms", false),
            ("p99>=20ms", true),
            ("p99 > 19999us", true),
            ("p99<0.02s", false),
            ("p99<=20 ms", true),
            ("p99.9>25ms", true),
            ("max>31ms", false),
            ("e2e.p50>400µs", true),
            ("rate<1000", true),
            ("rate<900/s", false),
            ("errors>2", true),
            ("lost>2", false),
            ("lost>=2", true),
            // Nothing of this was measured.
            ("service.p50>1s", true),
        ] {
            let outcome = text.parse::<Threshold>().unwrap().judge(&report());
            assert_eq!((outcome.failed, outcome.text.as_str()), (fails, text), "{outcome:?}");
        }
        let outcome = "p99>1ms".parse::<Threshold>().unwrap().judge(&report());
        assert_eq!(outcome.measured, "20.000 ms");
        assert_eq!("service.max>1s".parse::<Threshold>().unwrap().judge(&report()).measured, "not measured");
    }

    #[test]
    fn what_is_no_comparison_is_refused() {
        for text in [
            "",
            "p99",
            "p99>20",
            "p98>20ms",
            "p99>ms",
            "rate>20ms",
            "p99=20ms",
            "errors>-1",
            "e2e.rate>1",
            "p99>>1ms",
            "rate>inf",
        ] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
        let error = "p98>20ms".parse::<Threshold>().unwrap_err().to_string();
        assert!(error.contains("p98") && error.contains("p99.9"), "{error}");
    }
}
