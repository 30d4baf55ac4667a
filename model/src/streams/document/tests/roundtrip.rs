//! The canonical form: read again it is the same, and every spelling of a stream has the same one.

use proptest::prelude::*;

use super::*;

fn canonical(value: &Value) -> String {
    StreamDocument::from_value(value).unwrap_or_else(|error| panic!("{error}\n{value}")).canonical()
}

#[test]
fn the_canonical_form_reads_back_as_itself() {
    let document = StreamDocument::from_value(&late_by_origin()).unwrap();
    let again = StreamDocument::parse(document.canonical().as_bytes()).unwrap();
    assert_eq!(again, document);
    assert_eq!(again.canonical(), document.canonical());
    assert_eq!(StreamDocument::parse(document.pretty().as_bytes()).unwrap(), document);
    assert!(document.pretty().lines().all(|line| line.len() <= 120), "{}", document.pretty());
    assert_eq!(document.fingerprint(), again.fingerprint());
}

#[test]
fn defaults_are_spelled_out() {
    let short = json!({"version": 1, "name": "s", "input": {"topic": "t"}, "window": {"kind": "session", "gap": "1m"}});
    assert_eq!(
        canonical(&short),
        concat!(
            r#"{"version":1,"name":"s","input":{"topic":"t"},"window":{"kind":"session","gap":"1m"},"#,
            r#""time":{"source":"record_time","max_out_of_order":"0s","allowed_lateness":"0s","idle_timeout":"10s","#,
            r#""max_future":"10m","max_skew":"none"},"group_by":[],"aggregates":[],"columns":[],"#,
            r#""emit":{"mode":"final"},"fill":{"mode":"none"},"#,
            r#""output":{"topic":"s","late_topic":"s.late","retain":"10m"},"limits":{"memory":"256MiB"},"#,
            r#""start":"earliest","stop":"never","on_gap":"fail"}"#
        )
    );
}

#[test]
fn spellings_of_one_stream_have_one_form() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = late_by_origin();
        change(&mut value);
        canonical(&value)
    };
    let original = with(&|_| {});
    assert_eq!(original, with(&|value| value["window"]["size"] = json!(3_600_000)));
    assert_eq!(original, with(&|value| value["window"] = json!({"kind": "hopping", "size": "60m", "hop": "1h"})));
    assert_eq!(original, with(&|value| value["window"]["origin"] = json!("5h")));
    assert_eq!(original, with(&|value| value["emit"] = json!("final")));
    assert_eq!(original, with(&|value| value["time"]["source"] = json!({"field": ["ts"], "format": "auto"})));
    assert_eq!(original, with(&|value| value["having"] = json!({">": [{"column": "n"}, 3.0]})));
    assert_eq!(original, with(&|value| value["aggregates"][3]["where"] = json!({"is_null": [{"record": "key"}]})));
    assert_ne!(original, with(&|value| value["having"] = json!({">=": [{"column": "n"}, 3]})));
}

#[test]
fn a_chain_is_written_as_one_and_the_order_of_sums_is_kept() {
    for (spelled, written) in [
        (json!({"and": [{"and": [true, false]}, null]}), json!({"and": [true, false, null]})),
        (json!({"and": [true, {"and": [false, null]}]}), json!({"and": [true, false, null]})),
        (json!({"and": [true, {"or": [false, null]}]}), json!({"and": [true, {"or": [false, null]}]})),
        (json!({"+": [{"+": [1, 2]}, 3]}), json!({"+": [1, 2, 3]})),
        (json!({"+": [1, {"+": [2, 3]}]}), json!({"+": [1, {"+": [2, 3]}]})),
        (json!({"-": [{"-": [3, 2]}, 1]}), json!({"-": [{"-": [3, 2]}, 1]})),
        (json!({"lower": ["A"]}), json!({"lower": "A"})),
        (json!({"concat": ["a", 1.50, -2]}), json!({"concat": ["a", 1.5, -2]})),
    ] {
        let mut value = late_by_origin();
        value["having"] = spelled;
        let text = canonical(&value);
        assert!(text.contains(&format!("\"having\":{written}")), "{text}");
    }
}

/// Expressions over columns, as JSON.
fn expressions() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::from)),
        (-1_000_000..1_000_000_i32, 0..6_u32)
            .prop_map(|(number, places)| json!(f64::from(number) / 10_f64.powi(places.cast_signed()))),
        "[ -~]{0,8}".prop_map(Value::from),
        prop_oneof![Just("n"), Just("origin"), Just("window_end"), Just("records")]
            .prop_map(|name| json!({ "column": name })),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let several = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            (
                prop_oneof![Just("and"), Just("or"), Just("+"), Just("*"), Just("concat"), Just("coalesce")],
                several.clone()
            )
                .prop_map(|(name, arguments)| json!({ name: arguments })),
            (prop_oneof![Just("="), Just("<>"), Just("-"), Just("%"), Just("nullif")], inner.clone(), inner.clone())
                .prop_map(|(name, left, right)| json!({ name: [left, right] })),
            (prop_oneof![Just("not"), Just("negate"), Just("is_null"), Just("lower"), Just("to_time")], inner.clone())
                .prop_map(|(name, argument)| json!({ name: argument })),
            (prop_oneof![Just("hour"), Just("week")], inner.clone())
                .prop_map(|(part, argument)| json!({ "date_trunc": [part, argument] })),
            (inner.clone(), several).prop_map(|(value, among)| json!({ "in": [value, among] })),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| json!({ "case": [[a, b]], "else": c })),
        ]
    })
}

proptest! {
    #[test]
    fn every_expression_survives_its_canonical_form(expression in expressions()) {
        let mut value = late_by_origin();
        value["having"] = expression;
        let document = StreamDocument::from_value(&value).unwrap();
        let again = StreamDocument::parse(document.canonical().as_bytes()).unwrap();
        prop_assert_eq!(again.canonical(), document.canonical());
        prop_assert_eq!(again, document);
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _refused = StreamDocument::parse(&bytes);
    }
}
