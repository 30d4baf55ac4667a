//! Plots of what is there, of hardly anything, and of far too much.

use super::*;
use crate::report::{DrillOutcome, FaultKind, FaultOutcome, Interval, Mark, samples};

fn names(report: &Report) -> Vec<&'static str> {
    plots(report).iter().map(Plot::name).collect()
}

/// All forms of all plots; each is looked through for numbers that are none and for markup that is not closed.
fn sound(plots: &[Plot]) -> String {
    let mut all = String::new();
    for plot in plots {
        for drawn in [plot.element(Form::Wide), plot.element(Form::Narrow), plot.document()] {
            for none in ["NaN", "inf", "e+", "undefined"] {
                let shapes = drawn.replace(STYLE, "");
                assert!(!shapes.contains(&format!("\"{none}")) && !shapes.contains(&format!("-{none}")), "{shapes}");
                assert!(none == "inf" || !shapes.contains(none), "{}: {none} in {shapes}", plot.name());
            }
            assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
            for tag in ["text", "title", "svg", "style"] {
                let opened = drawn.matches(&format!("<{tag}")).count();
                assert_eq!(opened, drawn.matches(&format!("</{tag}>")).count(), "{tag} in {drawn}");
            }
            all.push_str(&drawn);
        }
    }
    all
}

#[test]
fn a_drill_has_every_plot_and_its_faults_on_each_axis_of_time() {
    let report = samples::drill();
    assert_eq!(names(&report), ["throughput", "latency", "percentiles", "faults"]);
    sound(&plots(&report));
    for plot in plots(&report).iter().filter(|plot| ["throughput", "latency"].contains(&plot.name())) {
        let drawn = plot.element(Form::Wide);
        // The marks tell of the same faults, so there are two bands and not four.
        assert_eq!(drawn.matches(r#"class="band""#).count(), 2, "{}", plot.name());
        assert!(drawn.contains("1 kill leader") && drawn.contains("2 kill follower"), "{drawn}");
    }
    for (name, document) in svgs(&report) {
        assert!(document.starts_with(r#"<svg xmlns="http://www.w3.org/2000/svg""#), "{name}");
        assert!(document.contains("<style>") && !document.contains("href"), "{name}");
    }
}

#[test]
fn lines_lie_where_the_numbers_are() {
    let second = |second: u32| Interval { at_s: f64::from(second), acknowledged: 100, ..Interval::default() };
    let mut report = Report { intervals: (0..4).map(second).collect(), ..Report::default() };
    report.intervals[2].acknowledged = 50;
    report.totals.asked_rate = Some(100.0);
    let drawn = plots(&report)[0].element(Form::Wide);
    assert!(drawn.contains(r#"data-values="0.5,100 1.5,100 2.5,50 3.5,100""#), "{drawn}");
    let line = drawn.split("<path ").find(|path| path.contains(r#"data-name="acknowledged""#)).expect("it is drawn");
    let heights: Vec<f64> = line
        .split_once(" d=\"M")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(steps, _)| steps.split('L').filter_map(|step| step.split(' ').nth(1)?.parse().ok()).collect())
        .expect("a path");
    // 100 of 120 and 50 of 120, counted from below: 200 and 100 of 240 units apart.
    assert!(heights[0] < heights[2] && (heights[2] - heights[0] - 100.0).abs() < 0.2, "{heights:?}");
}

#[test]
fn kinds_are_shown_where_faults_are_many() {
    let report = samples::repeated_drill();
    assert_eq!(names(&report), ["throughput", "latency", "percentiles", "fault-kinds"]);
    sound(&plots(&report));
    assert_eq!(names(&samples::ramp()), ["throughput", "latency", "percentiles", "ramp"]);
    sound(&plots(&samples::ramp()));
}

#[test]
fn nothing_is_drawn_of_nothing() {
    assert_eq!(plots(&Report::default()), []);
    assert_eq!(compared(&[Report::default()]), []);
    let both = compared(&[Report::default(), Report::default()]);
    sound(&both);
    let mut report = Report { drill: Some(DrillOutcome::default()), ..Report::default() };
    report.end_to_end = Some(report.response.clone());
    assert_eq!(plots(&report), []);
}

#[test]
fn a_single_second_is_a_dot() {
    let mut report = Report::default();
    report.intervals.push(Interval {
        acknowledged: 10,
        response_mean_ms: 1.0,
        response_p95_ms: 1.0,
        ..Interval::default()
    });
    assert_eq!(names(&report), ["throughput", "latency"]);
    let drawn = sound(&plots(&report));
    assert!(drawn.contains("<circle"), "{drawn}");
}

#[test]
fn a_second_without_records_breaks_the_line() {
    let mut report = samples::bench("PubG1", 100, 1.0);
    for interval in &mut report.intervals[10..20] {
        interval.response_mean_ms = 0.0;
        interval.response_p95_ms = 0.0;
    }
    let latency = plots(&report).into_iter().find(|plot| plot.name() == "latency").expect("it is drawn");
    let drawn = latency.element(Form::Wide);
    let mean = drawn.split("<path ").find(|path| path.contains("publish, mean\"")).expect("it is drawn");
    assert_eq!(mean.matches('M').count(), 2, "{mean}");
}

#[test]
fn numbers_that_are_none_and_a_week_of_seconds_do_no_harm() {
    let mut report = samples::drill();
    let broken = Interval {
        at_s: f64::NAN,
        response_mean_ms: f64::INFINITY,
        response_p95_ms: f64::NAN,
        end_to_end_mean_ms: -1.0,
        ..Interval::default()
    };
    report.intervals.push(broken);
    report.totals.asked_rate = Some(f64::INFINITY);
    report.response.curve.push((f64::NAN, f64::NAN));
    report.marks.push(Mark { at_s: f64::NAN, until_s: Some(f64::INFINITY), what: "nobody knows".to_owned() });
    if let Some(drill) = &mut report.drill {
        drill.faults.push(FaultOutcome { at_s: f64::NAN, elected_ms: Some(f64::NAN), ..FaultOutcome::default() });
        let times = [("elected_ms".to_owned(), (f64::NAN, 0.0))].into();
        drill.kinds.push(FaultKind { kind: "none".to_owned(), count: 2, median_and_p99_ms: times });
    }
    sound(&plots(&report));
    report.intervals = (0..604_800_u32)
        .map(|second| Interval {
            at_s: f64::from(second),
            acknowledged: u64::from(second % 7) * 1_000_000,
            response_mean_ms: f64::from(second % 1_000 + 1),
            ..Interval::default()
        })
        .collect();
    let drawn = sound(&plots(&report));
    assert!(drawn.len() < 2_000_000, "{} bytes", drawn.len());
}

#[test]
fn nobody_writes_markup_into_a_plot() {
    let hostile = "</text><script>alert(1)</script>\"'&\u{0}";
    let mut report = samples::drill();
    report.marks.push(Mark { at_s: 1.0, until_s: None, what: hostile.to_owned() });
    report.title = hostile.to_owned();
    report.system.name = hostile.to_owned();
    if let Some(drill) = &mut report.drill {
        drill.faults[0].kind = hostile.to_owned();
        drill.faults[0].what = hostile.to_owned();
    }
    let mut all = plots(&report);
    all.extend(compared(&[report.clone(), report]));
    let drawn = sound(&all);
    assert!(!drawn.contains("<script") && drawn.contains("&lt;script&gt;"));
}
