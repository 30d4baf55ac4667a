//! `pubg1 config show` and `pubg1 config check`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    cli::BrokerArgs,
    config::{self, Config, ConfigError, SETTINGS},
    error::CommandError,
    terminal::{Terminal, print_text},
};

/// The configuration that a broker with these flags would have.
///
/// # Errors
/// [`ConfigError`].
pub fn load(args: &BrokerArgs) -> Result<Config, ConfigError> {
    Config::load(args.config.as_deref(), config::environment(), args.flags())
}

/// Prints every setting.
///
/// # Errors
/// [`CommandError::Config`] and [`CommandError::Stdout`].
pub fn show(terminal: Terminal, args: &BrokerArgs, origin: bool) -> Result<(), CommandError> {
    let config = load(args)?;
    if terminal.json() {
        let rows: Vec<Value> = SETTINGS
            .iter()
            .map(|setting| {
                let mut row = json!({ "key": setting.key, "value": setting.value(&config.settings) });
                if origin {
                    row["origin"] = config.origin(setting.key).to_string().into();
                }
                row
            })
            .collect();
        return terminal.print(&rows, |_| String::new());
    }
    print_text(&as_toml(&config, origin))
}

/// Says whether the configuration is fine.
///
/// # Errors
/// [`CommandError::Config`] when it is not.
pub fn check(terminal: Terminal, args: &BrokerArgs) -> Result<(), CommandError> {
    load(args)?;
    terminal.print(&json!({ "ok": true }), |_| "the configuration is fine".to_owned())
}

fn as_toml(config: &Config, origin: bool) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in &SETTINGS {
        let (table, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if table != section {
            section = table;
            // Writing to a String does not fail.
            let _infallible = write!(text, "\n[{table}]\n");
        }
        let value = match setting.value(&config.settings) {
            Value::Null => "\"none\"".to_owned(),
            Value::String(value) => toml::Value::String(value).to_string(),
            other => other.to_string(),
        };
        let line = format!("{name} = {value}");
        let comment = if origin { config.origin(setting.key).to_string() } else { setting.about.to_owned() };
        let _infallible = writeln!(text, "{line:<38} # {comment}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_file_that_can_be_read() {
        let flags = [("log.flush", "interval=7".to_owned()), ("node_id", "9".to_owned())];
        let config = Config::load(None, [], flags).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for origin in [false, true] {
            std::fs::write(file.path(), as_toml(&config, origin)).unwrap();
            let again = Config::load(Some(file.path()), [], []).unwrap();
            for setting in &SETTINGS {
                assert_eq!(setting.value(&again.settings), setting.value(&config.settings), "{}", setting.key);
            }
        }
    }
}
