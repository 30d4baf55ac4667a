//! The names that functions have in SQL, and in documents.

/// Other names of functions.
const SYNONYMS: [(&str, &str); 5] = [
    ("substr", "substring"),
    ("char_length", "length"),
    ("character_length", "length"),
    ("ceiling", "ceil"),
    ("ifnull", "coalesce"),
];

/// Aggregates: the name in SQL, the name in documents, and what its arguments are called there.
const AGGREGATES: [(&str, &str, &[&str]); 27] = [
    ("count", "count", &["of"]),
    ("sum", "sum", &["of"]),
    ("avg", "avg", &["of"]),
    ("mean", "avg", &["of"]),
    ("min", "min", &["of"]),
    ("max", "max", &["of"]),
    ("arg_min", "arg_min", &["of", "by"]),
    ("min_by", "arg_min", &["of", "by"]),
    ("arg_max", "arg_max", &["of", "by"]),
    ("max_by", "arg_max", &["of", "by"]),
    ("first", "first", &["of"]),
    ("first_value", "first", &["of"]),
    ("last", "last", &["of"]),
    ("last_value", "last", &["of"]),
    ("approx_count_distinct", "distinct", &["of"]),
    ("quantile", "quantile", &["of", "q"]),
    ("approx_quantile", "quantile", &["of", "q"]),
    ("median", "quantile", &["of"]),
    ("histogram", "histogram", &["of", "edges"]),
    ("top_k", "top_k", &["of", "k"]),
    ("approx_top_k", "top_k", &["of", "k"]),
    ("var_samp", "variance", &["of"]),
    ("variance", "variance", &["of"]),
    ("var_pop", "variance", &["of"]),
    ("stddev_samp", "stddev", &["of"]),
    ("stddev", "stddev", &["of"]),
    ("stddev_pop", "stddev", &["of"]),
];

/// An aggregate function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AggregateName {
    /// Its name in documents.
    pub(crate) function: &'static str,
    /// What its arguments are called there.
    pub(crate) arguments: &'static [&'static str],
}

/// The aggregate of this name; small letters.
pub(crate) fn aggregate(name: &str) -> Option<AggregateName> {
    let (_, function, arguments) = AGGREGATES.iter().find(|(known, ..)| *known == name)?;
    Some(AggregateName { function, arguments })
}

/// The function of this name as documents call it; small letters.
pub(crate) fn scalar(name: &str) -> Option<&'static str> {
    let name = SYNONYMS.iter().find(|(known, _)| *known == name).map_or(name, |(_, meant)| meant);
    pubg1_model::streams::document::function_names().find(|known| *known == name)
}

/// All names of functions, for a complaint.
pub(crate) fn scalar_names() -> String {
    pubg1_model::streams::document::function_names().collect::<Vec<_>>().join(", ")
}
