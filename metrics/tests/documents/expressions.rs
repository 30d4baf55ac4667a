//! What is wrong with an expression: it does not parse, a metric or a label does not exist, a counter is read as if it
//! were a gauge.

use promql_parser::parser::{Expr, LabelModifier, VectorSelector, parse};
use pubg1_metrics::{MetricDescription, MetricKind, catalogue};

/// Labels that the scrape adds.
const OF_SCRAPE: [&str; 3] = ["cluster", "instance", "job"];
/// What counters are read through.
const OF_COUNTERS: [&str; 2] = ["increase", "rate"];
/// What gauges over a range are read through.
const OF_GAUGES: [&str; 3] = ["changes", "deriv", "predict_linear"];

/// Variables of Grafana in place of which the parser gets something that fits.
fn plain(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m")
}

/// The families that an expression reads; none of one that does not parse.
pub(crate) fn families(expression: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    if let Ok(parsed) = parse(&plain(expression)) {
        walk(&parsed, None, &mut |selector, _, _| {
            found.extend(selector.name.as_deref().and_then(family).map(|it| it.name));
        });
    }
    found
}

/// What is wrong with an expression.
pub(crate) fn misreadings(expression: &str) -> Vec<String> {
    let parsed = match parse(&plain(expression)) {
        Ok(parsed) => parsed,
        Err(error) => return vec![format!("{expression} does not parse: {error}")],
    };
    let (mut problems, mut known) = (Vec::new(), OF_SCRAPE.to_vec());
    walk(&parsed, None, &mut |selector, is_range, function| {
        let name = selector.name.as_deref().unwrap_or_default();
        if name == "up" {
            return;
        }
        let Some(family) = family(name) else {
            problems.push(format!("{name} is not in the catalogue"));
            return;
        };
        known.extend(family.labels);
        let is_bucket = family.kind == MetricKind::Histogram && name.ends_with("_bucket");
        known.extend(is_bucket.then_some("le"));
        let matchers = selector.matchers.matchers.iter().chain(selector.matchers.or_matchers.iter().flatten());
        for matcher in matchers {
            let label = matcher.name.as_str();
            let is_known = OF_SCRAPE.contains(&label) || family.labels.contains(&label) || is_bucket && label == "le";
            if !is_known {
                problems.push(format!("{name} has no label {label}"));
            }
        }
        let counts = family.kind == MetricKind::Counter || name != family.name;
        let through = |functions: &[&str]| is_range && function.is_some_and(|it| functions.contains(&it));
        if counts && !through(&OF_COUNTERS) {
            problems.push(format!("{name} only grows; read it through rate() or increase()"));
        }
        if !counts && is_range && !through(&OF_GAUGES) {
            problems.push(format!("{name} goes up and down; {}() of it says nothing", function.unwrap_or("a range")));
        }
    });
    for label in grouped_by(&parsed) {
        if !known.contains(&label.as_str()) {
            problems.push(format!("nothing that is grouped by {label} has this label"));
        }
    }
    problems
}

/// The family that a name in an expression belongs to.
pub(crate) fn family(name: &str) -> Option<&'static MetricDescription> {
    catalogue().iter().find(|family| match family.kind {
        MetricKind::Histogram => {
            name.strip_prefix(family.name).is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix))
        }
        MetricKind::Counter | MetricKind::Gauge => name == family.name,
    })
}

/// Visits every selector: itself, whether it has a range, and the function that is called with it.
fn walk<'e>(
    expr: &'e Expr,
    function: Option<&'e str>,
    visit: &mut impl FnMut(&'e VectorSelector, bool, Option<&'e str>),
) {
    match expr {
        Expr::VectorSelector(selector) => visit(selector, false, function),
        Expr::MatrixSelector(selector) => visit(&selector.vs, true, function),
        Expr::Call(call) => call.args.args.iter().for_each(|arg| walk(arg, Some(call.func.name), visit)),
        _ => parts(expr).into_iter().for_each(|part| walk(part, None, visit)),
    }
}

/// The labels that an expression groups by, or matches on.
fn grouped_by(expr: &Expr) -> Vec<String> {
    let modifier: Option<&LabelModifier> = match expr {
        Expr::Aggregate(aggregate) => aggregate.modifier.as_ref(),
        Expr::Binary(binary) => binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()),
        _ => None,
    };
    let labels = modifier.map_or_else(Vec::new, |modifier| modifier.labels().labels.clone());
    labels.into_iter().chain(parts(expr).into_iter().flat_map(grouped_by)).collect()
}

fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Aggregate(aggregate) => vec![&aggregate.expr],
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Call(call) => call.args.args.iter().map(|arg| &**arg).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn misread_expressions_are_found() {
    let count = |expression: &str| misreadings(expression).len();
    assert_eq!(count("rate(pubg1_requests_total{api=\"publish\"}[5m])"), 0);
    assert_eq!(
        count("sum by (le) (rate(pubg1_request_duration_seconds_bucket{cluster=~\"$cluster\"}[$__rate_interval]))"),
        0
    );
    assert_eq!(count("up{job=\"pubg1\"} == 0"), 0);
    assert_eq!(count("pubg1_requests_total"), 1, "a counter without a rate");
    assert_eq!(count("deriv(pubg1_requests_total[5m])"), 1, "a counter through what is for gauges");
    assert_eq!(count("rate(pubg1_requests_total{topic=\"t\"}[5m])"), 1, "a label that it does not have");
    assert_eq!(count("sum by (topic) (rate(pubg1_requests_total[5m]))"), 1, "grouped by a label that it does not have");
    assert_eq!(count("pubg1_no_such_thing"), 1);
    assert_eq!(count("rate(pubg1_requests_in_flight[5m])"), 1, "a rate of a gauge");
    assert_eq!(count("pubg1_request_duration_seconds"), 1, "a histogram without a suffix");
    assert_eq!(count("sum by (api (pubg1_requests_in_flight)"), 1, "a bracket is missing");
}
