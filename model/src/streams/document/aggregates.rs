//! Aggregates as documents write them: `{"name": "p95", "function": "quantile", "of": …, "q": 0.95}`.

use serde_json::Number;

use super::{
    DocumentError,
    expression::{self, Names, Scope},
    json::{At, Json, Members},
    limits,
};
use crate::streams::plan::{Aggregate, AggregateFunction, Expr};

/// The functions, in the order in which a complaint lists them.
const FUNCTIONS: [&str; 15] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "arg_min",
    "arg_max",
    "first",
    "last",
    "distinct",
    "quantile",
    "histogram",
    "top_k",
    "variance",
    "stddev",
];

/// Reads an aggregate; its name has been taken from `members`.
pub(super) fn read(mut members: Members<'_>) -> Result<Aggregate, DocumentError> {
    let named = members.required("function")?;
    let name = named.string()?;
    let filter = members.optional("where").map(|at| expression::read(&at, Scope::Record)).transpose()?;
    let function = match name {
        "count" => match members.optional("of") {
            None => AggregateFunction::Count,
            Some(of) => AggregateFunction::CountOf(expression::read(&of, Scope::Record)?),
        },
        name if FUNCTIONS.contains(&name) => read_function(name, &mut members)?,
        other => return named.refuse(expression::choices("aggregate", other, FUNCTIONS)),
    };
    members.finish()?;
    Ok(Aggregate { function, filter })
}

fn read_function(name: &str, members: &mut Members<'_>) -> Result<AggregateFunction, DocumentError> {
    let value = expression::read(&members.required("of")?, Scope::Record)?;
    let by = |members: &mut Members<'_>| expression::read(&members.required("by")?, Scope::Record);
    let sample = |members: &mut Members<'_>| members.optional("sample").map_or(Ok(true), |at| at.boolean());
    Ok(match name {
        "sum" => AggregateFunction::Sum(value),
        "avg" => AggregateFunction::Avg(value),
        "min" => AggregateFunction::Min(value),
        "max" => AggregateFunction::Max(value),
        "first" => AggregateFunction::First(value),
        "last" => AggregateFunction::Last(value),
        "arg_min" => AggregateFunction::ArgMin { value, by: by(members)? },
        "arg_max" => AggregateFunction::ArgMax { value, by: by(members)? },
        "quantile" => AggregateFunction::Quantile { value, q: read_quantile(&members.required("q")?)? },
        "histogram" => AggregateFunction::Histogram { value, edges: read_edges(&members.required("edges")?)? },
        "top_k" => AggregateFunction::TopK { value, k: read_top(&members.required("k")?)? },
        "variance" => AggregateFunction::Variance { value, sample: sample(members)? },
        "stddev" => AggregateFunction::StdDev { value, sample: sample(members)? },
        _ => AggregateFunction::Distinct(value),
    })
}

fn read_quantile(at: &At<'_>) -> Result<f64, DocumentError> {
    match at.number()?.as_f64().filter(|q| (0.0..=1.0).contains(q)) {
        Some(q) => Ok(q),
        None => at.refuse("must be from 0 to 1"),
    }
}

fn read_edges(at: &At<'_>) -> Result<Vec<f64>, DocumentError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > limits::EDGES {
        return at.refuse(format!("a histogram has 1 to {} edges", limits::EDGES));
    }
    let mut edges: Vec<f64> = Vec::with_capacity(items.len());
    for item in items {
        let edge = item.number()?.as_f64().unwrap_or(f64::NAN);
        if !edge.is_finite() || edges.last().is_some_and(|last| *last >= edge) {
            return item.refuse("edges must ascend");
        }
        edges.push(edge);
    }
    Ok(edges)
}

/// A number of rows or values.
pub(super) fn read_top(at: &At<'_>) -> Result<usize, DocumentError> {
    let number = at.whole()?;
    let fits = (1..=limits::TOP).contains(&number).then(|| usize::try_from(number).ok()).flatten();
    fits.map_or_else(|| at.refuse(format!("must be 1 to {}", limits::TOP)), Ok)
}

/// Writes an aggregate so that [`read`] reads the same again.
pub(super) fn write(name: &str, aggregate: &Aggregate, names: &Names) -> Json {
    let expr = |expr: &Expr| expression::write(expr, names);
    let text = |text: &str| Json::String(text.to_owned());
    let (function, more) = parts(&aggregate.function);
    let mut members = vec![("name", text(name)), ("function", text(function))];
    let arguments = aggregate.function.arguments();
    members.extend(["of", "by"].into_iter().zip(arguments).map(|(name, argument)| (name, expr(argument))));
    members.extend(more);
    members.extend(aggregate.filter.iter().map(|filter| ("where", expr(filter))));
    Json::object(members)
}

/// The name of a function, and what it has beside its arguments.
fn parts(function: &AggregateFunction) -> (&'static str, Option<(&'static str, Json)>) {
    let number = |number: f64| Json::from_f64(number);
    match function {
        AggregateFunction::Count | AggregateFunction::CountOf(_) => ("count", None),
        AggregateFunction::Sum(_) => ("sum", None),
        AggregateFunction::Avg(_) => ("avg", None),
        AggregateFunction::Min(_) => ("min", None),
        AggregateFunction::Max(_) => ("max", None),
        AggregateFunction::ArgMin { .. } => ("arg_min", None),
        AggregateFunction::ArgMax { .. } => ("arg_max", None),
        AggregateFunction::First(_) => ("first", None),
        AggregateFunction::Last(_) => ("last", None),
        AggregateFunction::Distinct(_) => ("distinct", None),
        AggregateFunction::Quantile { q, .. } => ("quantile", Some(("q", number(*q)))),
        AggregateFunction::Histogram { edges, .. } => {
            ("histogram", Some(("edges", Json::Array(edges.iter().copied().map(number).collect()))))
        }
        AggregateFunction::TopK { k, .. } => ("top_k", Some(("k", Json::Number(Number::from(*k))))),
        AggregateFunction::Variance { sample, .. } => ("variance", Some(("sample", Json::Bool(*sample)))),
        AggregateFunction::StdDev { sample, .. } => ("stddev", Some(("sample", Json::Bool(*sample)))),
    }
}
