//! What is refused, at which place, and with which words.

use super::*;

/// The complaint about a text in which `^` marks the place, with the marks taken out.
fn refused(marked: &str) -> (SqlError, u64, u64) {
    let at = marked.find('^').expect("a mark");
    let before = &marked[..at];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() as u64 + 1;
    let text = marked.replacen('^', "", 1);
    (compile(&text, "query").expect_err(&text), line, column)
}

#[track_caller]
fn assert_refused(marked: &str, message: &str) {
    let (error, line, column) = refused(marked);
    assert_eq!((error.line, error.column), (line, column), "{error}\n{marked}");
    assert!(error.to_string().contains(message), "{error}\n{marked}");
}

const FROM: &str = "FROM TUMBLE(t, ts, '1h')";

#[test]
fn clauses_that_a_stream_has_not() {
    for (text, message) in [
        ("^DELETE FROM t", "only a SELECT"),
        ("CREATE ^VIEW v AS SELECT 1", "MATERIALIZED"),
        ("CREATE OR ^REPLACE MATERIALIZED VIEW v AS SELECT 1", "REPLACE is not supported"),
        ("^WITH x AS (SELECT 1) SELECT * FROM x", "common table expressions"),
        ("SELECT 1 ^UNION SELECT 2", "declare two streams"),
        ("SELECT ^DISTINCT a FROM t", "DISTINCT"),
        ("SELECT a ^FROM t, u GROUP BY window_start", "one topic"),
        ("SELECT a FROM ^t GROUP BY window_start", "T is no window"),
        ("SELECT a FROM TUMBLE(t, ts, '1h') ^JOIN u ON a = b", "joins"),
        ("SELECT a ^FROM (SELECT 1)", "sub-queries"),
        ("SELECT a FROM TUMBLE(t, ts, '1h') AS ^w GROUP BY window_start", "alias"),
        ("SELECT a FROM ^SLIDE(t, ts, '1h')", "SLIDE is no window"),
        ("SELECT a FROM ^TUMBLE(t, ts)", "write TUMBLE(topic, time, size)"),
        ("SELECT a FROM ^HOP(t, ts, '1h')", "write HOP(topic, time, hop, size)"),
        ("SELECT a FROM TUMBLE(t, ts, ^3600)", "INTERVAL '1' HOUR"),
        ("SELECT a FROM TUMBLE(t, ts, INTERVAL ^'2' MONTH)", "no length of time that is supported"),
        ("SELECT a FROM TUMBLE(t, ts, '1h', ^tz => 'UTC')", "origin and timezone"),
        ("SELECT a FROM TUMBLE(t, ts, '1h', ^timezone => 'UTC')", "days, weeks and months"),
        ("SELECT a FROM TUMBLE(t, ^LOWER(ts), '1h')", "record_time or append_time"),
        ("SELECT a FROM TUMBLE(t, ^record_key, '1h')", "is no time"),
    ] {
        assert_refused(text, message);
    }
}

#[test]
fn what_select_and_group_by_may_not_say() {
    for (text, message) in [
        ("SELECT ^a, COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "must stand in GROUP BY"),
        ("^SELECT COUNT(*) FROM TUMBLE(t, ts, '1h')", "window_start"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') ^GROUP BY a", "window_start"),
        ("SELECT a, COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY ^1, window_start", "positions"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY ^LOWER(a), window_start", "needs a name"),
        ("SELECT ^* FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "list the columns"),
        ("SELECT ^SUM(a) + 1 FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "AS name"),
        ("SELECT SUM(a) AS n, AVG(a) AS ^n FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "taken"),
        ("SELECT SUM(a) AS ^records FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "of its own"),
        ("SELECT SUM(^COUNT(*)) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "for a single record"),
        ("SELECT ^SUM(DISTINCT a) FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "COUNT(DISTINCT value)"),
        ("SELECT ^SUM(a, b) FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "sum takes value"),
        ("SELECT ^SUM(a) OVER () AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "OVER"),
        ("SELECT QUANTILE(a, ^b) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "a number"),
        ("SELECT QUANTILE(a, ^95) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start", "from 0 to 1"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') WHERE ^COUNT(*) > 1 GROUP BY window_start", "HAVING"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start HAVING ^a > 1", "must stand in GROUP BY"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start ^LIMIT 3", "PER WINDOW"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start ^ORDER BY 1", "LIMIT n PER WINDOW"),
        ("SELECT a, COUNT(*) AS n FROM TUMBLE(t, ts, '1h') GROUP BY a, window_start ^LIMIT 3 PER WINDOW", "ORDER BY"),
        (
            "SELECT COUNT(*) AS n FROM SESSION(t, ts, '1h') GROUP BY window_start ^ORDER BY n LIMIT 3 PER WINDOW",
            "session",
        ),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start ^EMIT CHANGES", "WITH (emit"),
        ("SELECT COUNT(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start; ^SELECT 1", "one statement"),
    ] {
        // Where the parser keeps no place for a star, the SELECT is pointed at.
        let text = text.replace("SELECT ^*", "^SELECT *");
        assert_refused(&text, message);
    }
}

#[test]
fn expressions_that_a_stream_has_not() {
    for (condition, message) in [
        ("^a || b = 'x'", "CONCAT(a, b)"),
        ("^a IN (SELECT 1)", "sub-queries"),
        ("EXISTS (^SELECT 1)", "sub-queries"),
        ("a = ^NOW()", "there is no function NOW"),
        ("^a SIMILAR TO 'x'", "not supported"),
        ("CAST(^a AS DATE) = 1", "casts go to"),
        ("EXTRACT(DOW FROM ^a) = 1", "ISODOW"),
        ("^a[1] = 2", "items -> 0"),
        ("a = ^X'00'", "not supported"),
        ("a LIKE ^b", "single quotes"),
        ("SUBSTRING(^a) = 'x'", "not supported"),
        ("^LENGTH(a, b) = 1", "takes one argument"),
        ("DATE_PART(^'eon', a) = 1", "day_of_week"),
        ("a = TIMESTAMP ^'yesterday'", "RFC 3339"),
        ("a = ^:b", "not supported"),
    ] {
        let text = format!("SELECT COUNT(*)\n{FROM}\nWHERE {condition} GROUP BY window_start");
        let (error, line, _) = refused(&text);
        assert_eq!(error.line, line, "{error}\n{condition}");
        assert_refused(&text, message);
    }
}

#[test]
fn options_that_there_are_not() {
    for (options, message) in [
        ("^speed = 'high'", "there are max_out_of_order"),
        ("emit = ^'sometimes'", "final, updates, final+updates"),
        ("idle_timeout = ^'10 parsecs'", "no length of time"),
        ("retain = ^TRUE", "single quotes"),
        ("retain = 1, ^retain = 2", "stands twice"),
        ("output = ^'t'", "input"),
        ("update_interval = ^'1s'", "is missing"),
        ("memory = ^'1 banana'", "256MiB"),
    ] {
        let text =
            format!("CREATE MATERIALIZED VIEW v WITH ({options}) AS\nSELECT COUNT(*) {FROM} GROUP BY window_start");
        assert_refused(&text, message);
    }
}

#[test]
fn broken_text_is_refused_where_it_breaks() {
    for (text, message) in
        [("^", "Expected"), ("SELECT a FRM ^b WHERE", ""), ("SELECT 'abc^", ""), ("SELECT (a FROM^", "")]
    {
        let (error, line, _) = refused(text);
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_view_has_a_name() {
    let select = "SELECT COUNT(*) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start";
    let error = crate::compile_view(select).unwrap_err();
    assert_eq!((error.line, error.column), (1, 1), "{error}");
    let view = crate::compile_view(&format!("CREATE MATERIALIZED VIEW v AS {select}")).unwrap();
    assert_eq!(view.name.as_str(), "v");
}
