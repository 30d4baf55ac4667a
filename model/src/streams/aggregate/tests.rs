//! What aggregates answer, and that merging and storing them changes nothing.

use proptest::prelude::*;

use super::*;
use crate::streams::{expr::Leaf, plan::Expr};

/// A record that is a value, and another one.
struct Pair(Value<'static>, Value<'static>);

impl Scope for Pair {
    fn leaf(&self, leaf: Leaf) -> Value<'_> {
        if leaf == Leaf::Key { self.0.clone() } else { self.1.clone() }
    }
}

fn all_functions() -> Vec<Aggregate> {
    use AggregateFunction as F;
    let (value, by) = (|| Expr::Key, || Expr::Offset);
    let functions = vec![
        F::Count,
        F::CountOf(value()),
        F::Sum(value()),
        F::Avg(value()),
        F::Min(value()),
        F::Max(value()),
        F::ArgMin { value: value(), by: by() },
        F::ArgMax { value: value(), by: by() },
        F::First(value()),
        F::Last(value()),
        F::Distinct(value()),
        F::Quantile { value: value(), q: 0.5 },
        F::Quantile { value: value(), q: 0.95 },
        F::Histogram { value: value(), edges: vec![-10.0, 0.0, 10.0] },
        F::TopK { value: value(), k: 3 },
        F::Variance { value: value(), sample: true },
        F::StdDev { value: value(), sample: false },
    ];
    functions.into_iter().map(|function| Aggregate { function, filter: None }).collect()
}

/// The cells of records, numbered by their place in the whole.
fn cells_of(aggregates: &Aggregates, records: &[(usize, Value<'static>)]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = aggregates.new_cells().collect();
    for (offset, value) in records {
        let place = Place { time_ms: 0, partition: 0, offset: *offset as u64 };
        let by = Value::int((*offset as i64 * 7) % 5);
        aggregates.add(&mut cells, place, &Pair(value.clone(), by));
    }
    cells
}

fn json(values: Vec<Value<'static>>) -> String {
    let mut out = String::new();
    Value::List(values).write_json(&mut out);
    out
}

fn results(values: &[Value<'static>]) -> Vec<String> {
    let aggregates = Aggregates::compile(&all_functions(), &mut Fields::new());
    let records: Vec<_> = values.iter().cloned().enumerate().collect();
    let cells = cells_of(&aggregates, &records);
    aggregates.results(values.len() as u64, &cells).into_iter().map(|value| json(vec![value])).collect()
}

#[test]
fn results_are_what_their_names_say() {
    let decimal = |text: &str| crate::streams::number::parse(text.as_bytes()).unwrap();
    let values = [decimal("2"), Value::Null, decimal("-1.5"), decimal("2"), Value::text("x"), decimal("20")];
    let expected = [
        "[6]",
        "[5]",
        "[22.5]",
        "[5.625]",
        "[-1.5]",
        "[\"x\"]",
        // The second argument is 0, 2, 4, 1, 3, 0.
        "[2]",
        "[-1.5]",
        "[2]",
        "[20]",
        "[4]",
        "[2.0]",
        "[17.299999999999994]",
        "[[0,1,2,1]]",
        "[{\"values\":[{\"value\":2,\"count\":2},{\"value\":-1.5,\"count\":1},{\"value\":20,\"count\":1}],\"error\":0}]",
        "[94.56250000000001]",
        "[8.421512631350737]",
    ];
    assert_eq!(results(&values), expected);
    let nothing = results(&[Value::Null]);
    assert_eq!(nothing[..6], ["[1]", "[0]", "[null]", "[null]", "[null]", "[null]"]);
    assert_eq!(nothing[10..13], ["[0]", "[null]", "[null]"]);
}

#[test]
fn aggregates_of_the_same_state_share_it() {
    let aggregates = Aggregates::compile(&all_functions(), &mut Fields::new());
    assert_eq!(aggregates.rules.len(), 13);
}

#[test]
fn many_values_are_estimated_within_bounds() {
    let values: Vec<_> = (1..=20_000).map(Value::int).collect();
    let all = results(&values);
    let number = |text: &str| text.trim_matches(['[', ']']).parse::<f64>().unwrap();
    assert!((number(&all[10]) / 20_000.0 - 1.0).abs() < 0.05, "{}", all[10]);
    assert!((number(&all[11]) / 10_000.0 - 1.0).abs() < 0.011, "{}", all[11]);
    assert!((number(&all[12]) / 19_000.0 - 1.0).abs() < 0.011, "{}", all[12]);
}

#[test]
fn frequent_values_are_found_among_many() {
    let values = (0..60_000_i64).map(|n| Value::int(if n % 3 == 0 { n % 2 } else { n }));
    let text = results(&values.collect::<Vec<_>>())[14].clone();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let error = parsed[0]["error"].as_i64().unwrap();
    for entry in parsed[0]["values"].as_array().unwrap().iter().take(2) {
        let count = entry["count"].as_i64().unwrap();
        assert!(entry["value"].as_i64().unwrap() < 2 && count <= 10_000 && count + error >= 10_000, "{text}");
    }
}

#[test]
fn quantiles_are_those_of_the_crate_they_are_modelled_on() {
    let mut own = quantile::Quantiles::default();
    let mut other = sketches_ddsketch::DDSketch::new(sketches_ddsketch::Config::defaults());
    let mut x = 1.0_f64;
    for n in 0..5000 {
        x = (x * 1103.5 + 12.345) % 100_003.0;
        let value = if n % 7 == 0 { -x } else { x / 17.0 };
        own.add(value);
        other.add(value);
    }
    for q in [0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0] {
        let (a, b) = (own.quantile(q).unwrap(), other.quantile(q).unwrap().unwrap());
        assert!((a - b).abs() <= 1e-9 * b.abs(), "{q}: {a} {b}");
    }
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => "[a-c]{1,3}".prop_map(Value::text),
        8 => (-100_000_i64..100_000).prop_map(|cents| Value::Exact(Decimal(i128::from(cents) * 10_000_000))),
    ]
}

/// Results that depend on the set of records alone: all but the variances, and the top-k when there
/// are more values than it counts exactly.
const ORDER_FREE: usize = 15;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn merging_gives_what_adding_gives(
        values in prop_oneof![prop::collection::vec(any_value(), 0..200), prop::collection::vec(any_value(), 1000..3000)],
        parts in 1_usize..6,
        seed: usize,
    ) {
        let aggregates = Aggregates::compile(&all_functions(), &mut Fields::new());
        let records: Vec<_> = values.into_iter().enumerate().collect();
        let whole = cells_of(&aggregates, &records);
        let mut split = vec![Vec::new(); parts];
        for (offset, value) in &records {
            split[(offset * 31 + seed) % parts].push((*offset, value.clone()));
        }
        let mut merged: Vec<Cell> = aggregates.new_cells().collect();
        let mut bytes = aggregates.merge(&mut merged, &[]);
        for part in split.iter().rev() {
            // Through the encoding, as between brokers.
            let mut encoded = Vec::new();
            for cell in &cells_of(&aggregates, part) {
                cell.encode(&mut encoded);
            }
            let mut reader = Reader(&encoded);
            let cells = aggregates.decode(&mut reader).unwrap();
            prop_assert!(reader.is_empty());
            bytes += aggregates.merge(&mut merged, &cells);
        }
        let fresh: Vec<Cell> = aggregates.new_cells().collect();
        prop_assert_eq!(bytes, Cell::all_heap_bytes(&merged).cast_signed() - Cell::all_heap_bytes(&fresh).cast_signed());
        let results = |cells: &[Cell]| aggregates.results(records.len() as u64, cells);
        let (mut one, mut other) = (results(&whole), results(&merged));
        if records.len() > 1000 {
            one[ORDER_FREE - 1] = Value::Null;
            other[ORDER_FREE - 1] = Value::Null;
        }
        prop_assert_eq!(json(one[..ORDER_FREE].to_vec()), json(other[..ORDER_FREE].to_vec()));
        for (a, b) in one[ORDER_FREE..].iter().zip(&other[ORDER_FREE..]) {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{} {}", a, b);
        }
    }

    #[test]
    fn a_state_that_was_restored_is_the_same(values in prop::collection::vec(any_value(), 0..2500), more in prop::collection::vec(any_value(), 0..50)) {
        let aggregates = Aggregates::compile(&all_functions(), &mut Fields::new());
        let encode = |cells: &[Cell]| {
            let mut out = Vec::new();
            for cell in cells {
                cell.encode(&mut out);
            }
            out
        };
        let records: Vec<_> = values.into_iter().enumerate().collect();
        let mut cells = cells_of(&aggregates, &records);
        let bytes = encode(&cells);
        let mut restored = aggregates.decode(&mut Reader(&bytes)).unwrap();
        prop_assert_eq!(encode(&restored), bytes);
        for (offset, value) in more.into_iter().enumerate() {
            let place = Place { time_ms: 1, partition: 0, offset: offset as u64 };
            let pair = Pair(value, Value::int(1));
            aggregates.add(&mut cells, place, &pair);
            aggregates.add(&mut restored, place, &pair);
        }
        prop_assert_eq!(encode(&restored), encode(&cells));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let aggregates = Aggregates::compile(&all_functions(), &mut Fields::new());
        let _unimportant = aggregates.decode(&mut Reader(&bytes));
    }
}
