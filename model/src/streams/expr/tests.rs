//! What expressions answer.

use super::*;
use crate::streams::plan::{FieldPath, TimePart};

struct Json<'a> {
    json: &'a [u8],
    found: crate::streams::json::Found,
}

impl Scope for Json<'_> {
    fn field(&self, slot: usize) -> Value<'_> {
        self.found.value(slot, self.json)
    }

    fn leaf(&self, _: Leaf) -> Value<'_> {
        Value::Null
    }
}

/// The value of an expression over a record, as JSON.
fn eval(expr: &Expr) -> String {
    let json =
        br#"{"s":"L\u00e9a","n":12,"d":1.25,"f":1e99,"t":true,"z":null,"o":{"k":[1]},"at":"2013-03-10T05:17:00Z"}"#;
    let mut fields = Fields::new();
    let node = compile(expr, &mut fields);
    let mut found = crate::streams::json::Found::default();
    fields.find(json, &mut found).unwrap();
    let scope = Json { json, found };
    let mut out = String::new();
    node.eval(&scope).write_json(&mut out);
    out
}

fn field(name: &str) -> Expr {
    Expr::Field(FieldPath::dotted(name))
}

fn int(value: i64) -> Expr {
    Expr::Literal(Value::int(value))
}

fn text(value: &str) -> Expr {
    Expr::Literal(Value::text(value.to_owned()))
}

fn binary_of(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}

#[test]
fn arithmetic_is_exact_where_it_can_be() {
    use BinaryOp::{Add, Divide, Multiply, Remainder, Subtract};
    for (op, left, right, expected) in [
        (Add, field("n"), field("d"), "13.25"),
        (Subtract, field("n"), field("d"), "10.75"),
        (Multiply, field("d"), field("d"), "1.5625"),
        (Divide, field("n"), int(8), "1.5"),
        (Divide, field("n"), int(7), "1.7142857142857142"),
        (Remainder, int(-7), int(3), "-1"),
        (Divide, field("n"), int(0), "null"),
        (Add, field("n"), field("z"), "null"),
        (Add, field("n"), field("s"), "null"),
        (Add, field("f"), int(1), "1e+99"),
        (Multiply, int(i64::MAX), int(i64::MAX), "8.507059173023462e+37"),
    ] {
        assert_eq!(eval(&binary_of(op, left, right)), expected);
    }
}

#[test]
fn what_has_no_value_decides_nothing() {
    use BinaryOp::{And, Equal, Less, NotEqual, Or};
    let (yes, no, unknown) = (|| Expr::Literal(Value::Bool(true)), || Expr::Literal(Value::Bool(false)), || field("z"));
    for (op, left, right, expected) in [
        (And, no(), unknown(), "false"),
        (And, unknown(), no(), "false"),
        (And, unknown(), yes(), "null"),
        (And, yes(), yes(), "true"),
        (Or, unknown(), yes(), "true"),
        (Or, no(), unknown(), "null"),
        (Or, no(), no(), "false"),
        (Equal, unknown(), unknown(), "null"),
        (Equal, field("s"), int(1), "false"),
        (NotEqual, field("s"), int(1), "true"),
        (Less, field("s"), int(1), "null"),
        (Less, field("d"), field("n"), "true"),
        (Equal, field("s"), text("Léa"), "true"),
    ] {
        assert_eq!(eval(&binary_of(op, left, right)), expected);
    }
    let among = |list| eval(&Expr::In(Box::new(field("n")), list));
    assert_eq!(among(vec![unknown(), int(12)]), "true");
    assert_eq!(among(vec![unknown(), int(13)]), "null");
    assert_eq!(among(vec![int(13)]), "false");
    let case = Expr::Case { branches: vec![(unknown(), int(1)), (yes(), int(2))], otherwise: None };
    assert_eq!(eval(&case), "2");
    assert_eq!(eval(&Expr::Case { branches: vec![(no(), int(1))], otherwise: None }), "null");
    assert_eq!(eval(&Expr::IsNull(Box::new(field("nowhere")))), "true");
}

#[test]
fn patterns_match_as_in_sql() {
    for (pattern, expected) in [
        ("%", "true"),
        ("L_a", "true"),
        ("L__a", "false"),
        ("%a", "true"),
        ("%é%", "true"),
        ("l%", "false"),
        ("L\\_a", "false"),
        ("", "false"),
        ("%%a%", "true"),
    ] {
        assert_eq!(eval(&Expr::Like(Box::new(field("s")), pattern.to_owned())), expected, "{pattern}");
    }
    assert_eq!(eval(&Expr::Like(Box::new(text("a_b%a_b")), "%\\_b".to_owned())), "true");
}

#[test]
fn functions_do_what_they_say() {
    use Function::*;
    let cases: Vec<(Function, Vec<Expr>, &str)> = vec![
        (Lower, vec![field("s")], r#""léa""#),
        (Length, vec![field("s")], "3"),
        (Substring, vec![field("s"), int(2)], r#""éa""#),
        (Substring, vec![field("s"), int(1), field("absent")], "null"),
        (Substring, vec![field("s"), int(0), int(2)], r#""L""#),
        (Substring, vec![field("s"), int(2), int(-1)], r#""""#),
        (Concat, vec![field("s"), field("z"), field("n"), field("t")], r#""Léa12true""#),
        (Replace, vec![field("s"), text("é"), text("e")], r#""Lea""#),
        (SplitPart, vec![text("a,b,c"), text(","), int(2)], r#""b""#),
        (SplitPart, vec![text("a,b,c"), text(","), int(4)], r#""""#),
        (StartsWith, vec![field("s"), text("L")], "true"),
        (EndsWith, vec![field("s"), text("L")], "false"),
        (Contains, vec![field("s"), field("z")], "null"),
        (Abs, vec![int(-3)], "3"),
        (Floor, vec![Expr::Unary(UnaryOp::Negate, Box::new(field("d")))], "-2"),
        (Ceil, vec![field("d")], "2"),
        (Round, vec![field("d"), int(1)], "1.3"),
        (Round, vec![int(-15), int(-1)], "-20"),
        (Round, vec![field("f")], "1e+99"),
        (Coalesce, vec![field("z"), field("nowhere"), field("n")], "12"),
        (NullIf, vec![field("n"), int(12)], "null"),
        (Greatest, vec![field("n"), field("z"), field("d")], "12"),
        (Least, vec![field("n"), field("z"), field("d")], "1.25"),
        (ToText, vec![field("d")], r#""1.25""#),
        (ToNumber, vec![text(" 1.50 ")], "1.5"),
        (ToNumber, vec![text("x")], "null"),
        (ToTime, vec![field("at")], "1362892620000"),
        (FormatTime, vec![int(0)], r#""1970-01-01T00:00:00.000Z""#),
        (DateTrunc(TimePart::Month), vec![Expr::Call(ToTime, vec![field("at")])], "1362096000000"),
        (DatePart(TimePart::Hour), vec![Expr::Call(ToTime, vec![field("at")])], "5"),
        (Upper, vec![field("n")], "null"),
    ];
    for (function, arguments, expected) in cases {
        assert_eq!(eval(&Expr::Call(function, arguments.clone())), expected, "{function:?} {arguments:?}");
    }
    assert_eq!(eval(&field("o")), r#""{\"k\":[1]}""#);
    assert_eq!(eval(&field("o.k.0")), "1");
}
