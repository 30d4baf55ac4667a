//! The tables that operators read are the ones that the code uses.
#![allow(clippy::expect_used, reason = "a test ends by panicking, and so do the functions it calls")]

use pubg1::config::{BrokerSettings, SETTINGS};
use pubg1_web::Cause;

#[test]
fn the_table_of_settings_is_the_one_in_the_code() {
    // Two defaults follow the machine.
    let by_machine = |key: &str| match key {
        "http_workers" => Some("the cores, 2 to 8"),
        "partition_arbiters" => Some("the cores, 1 to 4"),
        _ => None,
    };
    let defaults = BrokerSettings::default();
    let mut wanted = String::from("| Setting | Default | Flag | What for |\n|---|---|---|---|\n");
    for setting in &SETTINGS {
        let value = setting.value(&defaults);
        let value = match &value {
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let value = by_machine(setting.key).map_or(value, str::to_owned);
        let flag = setting.flag.map_or_else(|| "–".to_owned(), |flag| format!("`{flag}`"));
        wanted.push_str(&format!("| `{}` | {value} | {flag} | {} |\n", setting.key, setting.about));
    }
    assert_stands_in_operations(&wanted);
}

#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    let mut wanted = String::from("| Code | Status | `Retry-After` | Cause |\n|---|---|---|---|\n");
    for cause in Cause::ALL {
        let row = cause.row();
        let retry = row.retry_after_s.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds} s"));
        wanted.push_str(&format!("| {} | {} | {retry} | {} |\n", row.code, row.status, cause.meaning()));
    }
    assert_stands_in_operations(&wanted);
}

#[track_caller]
fn assert_stands_in_operations(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
    let text = std::fs::read_to_string(path).expect("docs/OPERATIONS.md is there");
    assert!(text.contains(table), "docs/OPERATIONS.md needs this table:\n{table}");
}
