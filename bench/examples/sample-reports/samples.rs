//! Made-up reports that look like real ones, the same every time: for tests of plots and pages.

use std::collections::BTreeMap;

use pubg1_bench::{
    latency::Times,
    report::{
        CatchUp, DrillOutcome, Environment, FaultKind, FaultOutcome, Interval, Load, Mark, ProcessCost, Ramp, RampStep,
        Report, ThresholdOutcome, Totals, Verdict,
    },
    target::Description,
};

/// Numbers that look like chance.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from((self.0 >> 40) as u32) / f64::from(1_u32 << 24)
    }

    /// A time as networks and disks take them: most about this long, a few much longer.
    fn time_ms(&mut self, usual: f64) -> f64 {
        let tail = (1.0 - self.share()).max(1e-7).powf(-0.22);
        usual * (0.75 + 0.3 * self.share()) * tail
    }
}

/// Time during which nothing is acknowledged: from when, for how many seconds.
type Stall = (f64, f64);

struct LoadShape {
    rate: u32,
    seconds: u32,
    usual_ms: f64,
    stalls: Vec<Stall>,
}

impl LoadShape {
    /// Fills in what a run under this load measures.
    fn run(&self, report: &mut Report) {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ u64::from(self.rate));
        let (mut response, mut service, mut end_to_end) = (Times::default(), Times::default(), Times::default());
        let each = (self.rate / 400).max(1);
        let per_second = self.rate / each;
        let mut acknowledged_in = vec![0_u64; self.seconds as usize + 2];
        let mut intervals = Vec::new();
        for second in 0..self.seconds {
            let (mut publish, mut arrive) = (Vec::new(), Vec::new());
            for index in 0..per_second {
                let due = f64::from(second) + f64::from(index) / f64::from(per_second);
                let own = dice.time_ms(self.usual_ms);
                let stalled = self.stalls.iter().find(|(from, long)| (*from..from + long).contains(&due));
                let waited = stalled.map_or(0.0, |(from, long)| (from + long - due) * 1e3);
                let (taken, arrived) = (own + waited, own + waited + dice.time_ms(0.6 * self.usual_ms));
                publish.push(taken);
                response.record_many(ns(taken), u64::from(each));
                arrive.push(arrived);
                end_to_end.record_many(ns(arrived), u64::from(each));
                service.record_many(ns(own), u64::from(each));
                acknowledged_in[((due + taken / 1e3) as usize).min(self.seconds as usize + 1)] += u64::from(each);
            }
            publish.sort_by(f64::total_cmp);
            arrive.sort_by(f64::total_cmp);
            intervals.push(Interval {
                at_s: f64::from(second),
                response_mean_ms: mean(&publish),
                response_p50_ms: quantile(&publish, 0.5),
                response_p95_ms: quantile(&publish, 0.95),
                response_p99_ms: quantile(&publish, 0.99),
                response_max_ms: quantile(&publish, 1.0),
                end_to_end_mean_ms: mean(&arrive),
                end_to_end_p95_ms: quantile(&arrive, 0.95),
                ..Interval::default()
            });
        }
        for (interval, acknowledged) in intervals.iter_mut().zip(acknowledged_in) {
            interval.acknowledged = acknowledged;
            interval.consumed = acknowledged;
        }
        let due = response.count();
        let seconds = f64::from(self.seconds);
        report.totals = Totals {
            asked_rate: Some(f64::from(self.rate)),
            rate: due as f64 / seconds,
            seconds,
            due,
            sent: due,
            acknowledged: due,
            failed: 0,
            consumed: due,
            longest_silence_ms: self
                .stalls
                .iter()
                .map(|(_, long)| long * 1e3)
                .fold(1e3 / f64::from(self.rate), f64::max),
            bytes_per_second: due as f64 * 100.0 / seconds,
        };
        report.response = response.summary();
        report.service = service.summary();
        report.end_to_end = Some(end_to_end.summary());
        report.intervals = intervals;
    }
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len() as f64
}

/// Of sorted times.
fn quantile(times: &[f64], share: f64) -> f64 {
    let last = times.len() - 1;
    times[((times.len() as f64 * share) as usize).min(last)]
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

/// A run of a system at a rate, without faults.
pub(crate) fn bench(system: &str, rate: u32, usual_ms: f64) -> Report {
    let mut report = Report {
        title: format!("bench of {system}"),
        started_at: "2026-11-26T14:03:12Z".to_owned(),
        command: format!("pubg1 bench --target {system} --rate {rate} --duration 40s --html report.html"),
        environment: Environment {
            version: "0.1.0".to_owned(),
            profile: "release".to_owned(),
            system: "Debian GNU/Linux 12, Linux 6.1.0".to_owned(),
            processor: "An Example of a Processor @ 2.60GHz".to_owned(),
            cores: 2,
            memory_bytes: 8_217_444_352,
        },
        system: Description {
            name: system.to_owned(),
            version: "0.1.0".to_owned(),
            client: "batches over HTTP, up to 512 records or 5 ms".to_owned(),
            durability: "page cache of a quorum of 3 replicas; fsync every 50 ms".to_owned(),
            replicas: 3,
            address: "http://127.0.0.1:8000".to_owned(),
        },
        settings: [
            ("rate", rate.to_string().as_str()),
            ("duration", "40s"),
            ("warm-up", "2s"),
            ("record-bytes", "100"),
            ("batch", "512"),
            ("in-flight", "64"),
            ("partitions", "4"),
            ("acks", "all"),
            ("flush", "interval=50"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        ..Report::default()
    };
    LoadShape { rate, seconds: 40, usual_ms, stalls: Vec::new() }.run(&mut report);
    report.thresholds = vec![ThresholdOutcome {
        text: "p99>20ms".to_owned(),
        measured: format!("{:.2} ms", report.response.p99_ms),
        failed: report.response.p99_ms > 20.0,
    }];
    report.catch_up = Some(CatchUp { records: report.totals.due, bytes: report.totals.due * 100, seconds: 0.82 });
    report.processes = (0..4)
        .map(|broker| ProcessCost {
            name: format!("broker {broker}"),
            cpu_s: 1.5 + f64::from(broker) * 0.2,
            memory_bytes: 23_000_000 + u64::from(broker as u32) * 1_000_000,
            anonymous_bytes: 11_000_000,
            ended: false,
        })
        .collect();
    report
}

/// The classic drill: a leader is killed at 5 s for 5 s, a follower at 15 s.
pub(crate) fn drill() -> Report {
    let mut report = bench("PubG1", 100, 0.55);
    report.title = "drill classic".to_owned();
    report.command = "pubg1 drill --plan classic --html drill.html".to_owned();
    LoadShape { rate: 100, seconds: 40, usual_ms: 0.55, stalls: vec![(5.0, 0.342)] }.run(&mut report);
    report.errors = BTreeMap::from([("connection refused".to_owned(), 3), ("not leader".to_owned(), 9)]);
    let leader = FaultOutcome {
        kind: "kill leader".to_owned(),
        what: "kill leader of partition 0: broker 2".to_owned(),
        at_s: 5.0,
        until_s: Some(10.0),
        detected_ms: Some(301.4),
        elected_ms: Some(318.9),
        first_write_ms: Some(342.2),
        full_replicas_ms: Some(5_910.0),
        unavailable_ms: 347.8,
        errors: report.errors.clone(),
        p99_before_ms: Some(1.21),
        p99_during_ms: Some(338.0),
        p99_after_ms: Some(1.34),
        load_ended: false,
    };
    let follower = FaultOutcome {
        kind: "kill follower".to_owned(),
        what: "kill follower of partition 0: broker 1".to_owned(),
        at_s: 15.0,
        until_s: Some(20.0),
        detected_ms: Some(296.0),
        elected_ms: None,
        first_write_ms: Some(1.9),
        full_replicas_ms: Some(5_744.0),
        unavailable_ms: 12.3,
        errors: BTreeMap::new(),
        p99_before_ms: Some(1.19),
        p99_during_ms: Some(2.44),
        p99_after_ms: Some(1.25),
        load_ended: false,
    };
    report.marks = [&leader, &follower]
        .map(|fault| Mark { at_s: fault.at_s, until_s: fault.until_s, what: fault.what.clone() })
        .to_vec();
    let kind = |fault: &FaultOutcome| FaultKind {
        kind: fault.kind.clone(),
        count: 1,
        seen: BTreeMap::new(),
        median_and_p99_ms: BTreeMap::from([(
            "unavailable_ms".to_owned(),
            (fault.unavailable_ms, fault.unavailable_ms),
        )]),
    };
    report.drill = Some(DrillOutcome {
        plan: "classic".to_owned(),
        kinds: vec![kind(&leader), kind(&follower)],
        faults: vec![leader, follower],
        verdict: Verdict { acknowledged: 4_000, repeated: 2, ..Verdict::default() },
        remarks: Vec::new(),
    });
    report
}

/// Many faults of two kinds, and a broken promise.
pub(crate) fn repeated_drill() -> Report {
    let stalls: Vec<Stall> = (0..50_u32).map(|index| (5.0 + f64::from(index) * 3.0, 0.3)).collect();
    let mut report = bench("PubG1", 1_000, 0.7);
    report.title = "drill repeat 50".to_owned();
    LoadShape { rate: 1_000, seconds: 160, usual_ms: 0.7, stalls: stalls.clone() }.run(&mut report);
    let mut dice = Dice(7);
    let faults: Vec<FaultOutcome> = stalls
        .iter()
        .enumerate()
        .map(|(index, (at, long))| FaultOutcome {
            kind: if index % 2 == 0 { "kill leader" } else { "pause controller" }.to_owned(),
            what: format!("broker {}", index % 4),
            at_s: *at,
            until_s: Some(at + 1.0),
            detected_ms: Some(250.0 + dice.time_ms(20.0)),
            elected_ms: Some(280.0 + dice.time_ms(20.0)),
            first_write_ms: Some(long * 1e3 + dice.time_ms(3.0)),
            full_replicas_ms: Some(2_400.0 + dice.time_ms(200.0)),
            unavailable_ms: long * 1e3 + dice.time_ms(9.0),
            p99_before_ms: Some(2.1),
            p99_during_ms: Some(290.0),
            p99_after_ms: Some(2.2),
            ..FaultOutcome::default()
        })
        .collect();
    let kinds = ["kill leader", "pause controller"].map(|kind| FaultKind {
        kind: kind.to_owned(),
        count: 25,
        seen: BTreeMap::new(),
        median_and_p99_ms: [
            ("detected_ms", (268.0, 341.0)),
            ("elected_ms", (301.0, 388.0)),
            ("first_write_ms", (304.0, 402.0)),
            ("full_replicas_ms", (2_611.0, 4_105.0)),
            ("unavailable_ms", (311.0, 431.0)),
        ]
        .map(|(name, both)| (name.to_owned(), both))
        .into(),
    });
    let verdict = Verdict {
        acknowledged: report.totals.acknowledged,
        lost: 1,
        broken: vec!["partition 2: replicas 0 and 3 differ at offset 81,225".to_owned()],
        ..Verdict::default()
    };
    report.drill = Some(DrillOutcome {
        plan: "repeat 50: kill leader 2s; pause controller 2s".to_owned(),
        faults,
        kinds: kinds.to_vec(),
        verdict,
        remarks: Vec::new(),
    });
    report
}

/// A search for the highest rate, by a closed loop's neighbour: labelled, failing a threshold, one pause within.
pub(crate) fn ramp() -> Report {
    let mut report = bench("PubG1", 10_000, 1.1);
    report.load = Load::ClosedLoop;
    report.title = "bench of PubG1, ramp".to_owned();
    LoadShape { rate: 10_000, seconds: 20, usual_ms: 1.1, stalls: vec![(8.0, 2.0)] }.run(&mut report);
    report.marks = vec![
        Mark { at_s: 8.0, until_s: Some(10.0), what: "broker 1 is paused".to_owned() },
        Mark { at_s: 14.0, until_s: None, what: "a segment is rolled".to_owned() },
    ];
    let step = |rate: u32, usual_ms: f64| {
        let mut report = Report::default();
        LoadShape { rate, seconds: 5, usual_ms, stalls: Vec::new() }.run(&mut report);
        let value = report.response.p99_ms;
        RampStep {
            asked_rate: f64::from(rate),
            rate: report.totals.rate,
            value: Some(value),
            kept: value < 20.0,
            response: report.response,
        }
    };
    let steps = vec![step(10_000, 1.1), step(20_000, 1.4), step(40_000, 2.8), step(80_000, 19.0), step(60_000, 5.2)];
    report.ramp = Some(Ramp { objective: "p99<20ms".to_owned(), highest_rate: Some(60_000.0), steps });
    report.thresholds.push(ThresholdOutcome { text: "max>1s".to_owned(), measured: "2.01 s".to_owned(), failed: true });
    report.totals.failed = 17;
    report.errors.insert("timed out".to_owned(), 17);
    report
}
