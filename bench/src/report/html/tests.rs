//! The page says all that the report says, and nothing that the report makes it do.

use super::*;
use crate::report::{Mark, samples};

#[test]
fn every_number_of_a_report_is_on_its_page() {
    let report = samples::drill();
    let page = html(std::slice::from_ref(&report));
    let mut said = vec![
        "drill classic".to_owned(),
        "Nothing lost: all 4,000 acknowledged records".to_owned(),
        "open loop".to_owned(),
        report.started_at.clone(),
        escape(&report.command),
    ];
    for (name, value) in &report.settings {
        said.push(format!(r#"<td class="words">{name}</td><td class="words">{value}</td>"#));
    }
    let end_to_end = report.end_to_end.as_ref().expect("consumers read");
    for latency in [&report.response, &report.service, end_to_end] {
        let times = [
            latency.mean_ms,
            latency.min_ms,
            latency.p50_ms,
            latency.p90_ms,
            latency.p95_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.p9999_ms,
            latency.max_ms,
        ];
        said.extend(times.map(|ms| format!(r#"<td class="number">{}</td>"#, words::number(ms))));
    }
    // Of the first fault: each phase, what a client saw, and the latencies around it.
    let of_faults = ["301", "319", "342", "5,910", "348", "1.21", "338", "1.34", "3 connection refused, 9 not leader"];
    said.extend(of_faults.map(|number| format!(">{number}</td>")));
    for interval in &report.intervals {
        said.push(format!(r#"<td class="number">{}</td>"#, words::number(interval.response_max_ms)));
    }
    said.extend(["375 s", "23.0 MB", "8.22 GB", "400 kB", "4,878 /s", "10.0 kB/s"].map(|text| format!(">{text}</td>")));
    said.extend(
        [&report.system.client, &report.system.durability, &report.environment.system].map(|text| escape(text)),
    );
    for text in said {
        assert!(page.contains(&text), "{text} is missing");
    }
    for plot in svg::plots(&report) {
        assert_eq!(page.matches(&format!(r#"data-plot="{}""#, plot.name())).count(), 2, "{}", plot.name());
    }
}

#[test]
fn bad_news_comes_first() {
    let page = html(&[samples::repeated_drill()]);
    assert!(page.contains(r#"<div class="verdict bad"><p>Promises were broken: 1 lost, 1 more of other kinds</p>"#));
    let page = html(&[samples::ramp()]);
    assert!(page.contains("1 of 2 thresholds failed") && page.contains(r#"<p class="load closed"><b>closed loop</b>"#));
    let mut report = samples::bench("PubG1", 100, 1.0);
    report.environment.profile = "debug".to_owned();
    report.totals.rate = 80.0;
    let page = html(&[report]);
    assert!(page.contains("verdict warning") && page.contains("debug build") && page.contains("80.0 /s of 100 /s"));
}

#[test]
fn reports_are_compared_to_the_first() {
    let mut reports =
        vec![samples::bench("one", 1_000, 1.0), samples::bench("other", 1_000, 3.0), samples::bench("one", 2_000, 1.0)];
    let page = html(&reports);
    let slower = words::ratio(reports[1].response.p50_ms, reports[0].response.p50_ms).expect("both are known");
    assert!(page.contains(&format!("({slower})")), "{slower} is missing");
    assert!(page.contains("(2.00 ×)") && page.contains("3 reports side by side"));
    // Two of the same system are told apart by what differs.
    assert_eq!(labels(&reports), ["one 0.1.0, rate 1000", "other 0.1.0", "one 0.1.0, rate 2000"]);
    assert!(page.contains("one 0.1.0, rate 2000") && page.contains("What differs"));
    assert!(!page.contains("mean different things"));
    reports[1].load = Load::ClosedLoop;
    assert!(html(&reports).contains("mean different things"));
    reports.push(reports[0].clone());
    assert_eq!(labels(&reports)[3], "one 0.1.0, rate 1000 (4)");
}

#[test]
fn a_report_cannot_make_the_page_do_anything() {
    let hostile = r#""><script>alert(1)</script><img src=x onerror=alert(1)>'--></style></title>&"#;
    let mut report = samples::drill();
    let text = || hostile.to_owned();
    (report.title, report.started_at, report.command) = (text(), text(), text());
    (report.system.name, report.system.version, report.system.client) = (text(), text(), text());
    (report.system.durability, report.system.address) = (text(), text());
    let place = &mut report.environment;
    (place.version, place.profile, place.system, place.processor) = (text(), text(), text(), text());
    report.settings.push((text(), text()));
    report.errors.insert(text(), 1);
    report.marks.push(Mark { at_s: 3.0, until_s: None, what: text() });
    report.processes[0].name = text();
    (report.thresholds[0].text, report.thresholds[0].measured) = (text(), text());
    report.thresholds[0].failed = true;
    let ramp = samples::ramp().ramp.map(|ramp| crate::report::Ramp { objective: text(), ..ramp });
    report.ramp = ramp;
    if let Some(drill) = &mut report.drill {
        drill.plan = text();
        drill.verdict.broken.push(text());
        (drill.faults[0].kind, drill.faults[0].what) = (text(), text());
        drill.faults[0].errors.insert(text(), 2);
        drill.kinds[0].kind = text();
        drill.kinds[0].count = 2;
    }
    let own = html(&[Report::default()]);
    for page in [html(std::slice::from_ref(&report)), html(&[report.clone(), report])] {
        for tag in ["<script", "</style", "<img", "-->"] {
            assert_eq!(page.matches(tag).count(), own.matches(tag).count(), "{tag}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }
}

#[test]
fn the_page_loads_nothing() {
    let page = html(&[samples::drill(), samples::bench("other", 100, 1.0)]);
    assert!(page.contains(r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none';"#));
    // The icon's vocabulary and the address of the system under load are names, not references.
    let text = page.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1:8000", "");
    for reference in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!text.contains(reference), "{reference}");
    }
    let references = text.split("href=\"").skip(1);
    for reference in references.filter_map(|rest| rest.split('"').next()) {
        assert!(reference.starts_with('#') || reference.starts_with("data:"), "{reference}");
    }
}

#[test]
fn an_empty_report_and_a_long_one_have_a_page() {
    let page = html(&[Report::default()]);
    assert!(page.contains("<h3>Totals</h3>") && !page.contains("<figure>") && !page.contains("NaN"));
    assert!(html(&[]).contains("0 reports"));
    let mut report = samples::drill();
    report.intervals = vec![report.intervals[0]; 10_000];
    let page = html(&[report]);
    assert!(page.contains("The first 3,600 of 10,000.") && page.len() < 4_000_000, "{}", page.len());
}
