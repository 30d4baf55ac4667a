//! Tests of the configuration's layers.

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn flags_lie_over_the_environment_over_the_file_over_the_defaults() {
    let file = file("node_id = 3\nhttp = \"127.0.0.1:8100\"\n[log]\nflush = \"interval=20\"\n");
    let environment = variables(&[("PUBG1_HTTP", "127.0.0.1:8200"), ("PUBG1_LOG_FLUSH", "interval=30")]);
    let flags = [("log.flush", "quorum".to_owned())];
    let config = Config::load(Some(file.path()), environment, flags).unwrap();
    assert_eq!(config.settings.node_id, 3);
    assert_eq!(config.settings.http.port(), 8200);
    assert_eq!(config.settings.flush, Flush::Quorum);
    assert_eq!(config.origin("node_id"), Origin::File(file.path().to_owned()));
    assert_eq!(config.origin("http"), Origin::Environment("PUBG1_HTTP".to_owned()));
    assert_eq!(config.origin("log.flush"), Origin::Flag("--flush"));
    assert_eq!(config.origin("rpc"), Origin::Default);
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_one() {
    let file = file("[log]\nfluhs = \"quorum\"\n");
    let error = Config::load(Some(file.path()), [], []).unwrap_err().to_string();
    assert!(error.contains("did you mean `log.flush`"), "{error}");
    let error = Config::load(None, variables(&[("PUBG1_DATA_DRI", "x")]), []).unwrap_err().to_string();
    assert!(error.contains("did you mean `PUBG1_DATA_DIR`"), "{error}");
}

#[test]
fn variables_of_the_command_line_and_of_tests_are_no_settings() {
    let environment = variables(&[("PUBG1_BROKER", "x"), ("PUBG1_CONFIG", "y"), ("PUBG1_TEST_KILLS", "3")]);
    assert!(Config::load(None, environment, []).is_ok());
}

#[test]
fn bad_values_say_what_is_allowed_and_where_they_were_given() {
    for (key, value, expected) in [
        ("PUBG1_NODE_ID", "-1", "whole number from 0"),
        ("PUBG1_HTTP", "8000", "ADDRESS:PORT"),
        ("PUBG1_LOG_FLUSH", "sometimes", "`quorum` or `interval=MS`"),
        ("PUBG1_LOG_FLUSH", "interval=0", "1 to 60000"),
        ("PUBG1_ADVERTISE_HTTP", "https://x", "http://HOST:PORT"),
        ("PUBG1_DEFAULT_TOPIC_NAME", "a/b", "not allowed"),
        ("PUBG1_LOGGING_FILTER", "info,,=x=", "filter"),
    ] {
        let error = Config::load(None, variables(&[(key, value)]), []).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(key), "{key}={value}: {error}");
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let error = Config::load(None, [], [("http", "0.0.0.0:8000".to_owned())]).unwrap_err().to_string();
    assert!(error.contains("--allow-remote"), "{error}");
    let flags = [("http", "0.0.0.0:8000".to_owned()), ("allow_remote", "true".to_owned())];
    assert!(Config::load(None, [], flags).is_ok());
    assert!(Config::load(None, [], [("rpc", "127.0.0.1:8000".to_owned())]).is_err());
    let error = Config::load(None, variables(&[("PUBG1_TOPIC_SEGMENT_BYTES", "5")]), []).unwrap_err().to_string();
    assert!(error.contains("topic.segment_bytes"), "{error}");
}

#[test]
fn a_broker_listens_for_others_where_the_voters_say() {
    let voters = ("voters", "0@127.0.0.1:9100,1@127.0.0.1:9101".to_owned());
    let load = |flags: &[(&'static str, &str)]| {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned()));
        Config::load(None, [], flags.chain([voters.clone()]))
    };
    let config = load(&[("node_id", "1")]).unwrap();
    assert_eq!(config.settings.rpc.port(), 9101);
    assert_eq!(config.origin("rpc"), Origin::Setting("voters"));
    assert_eq!(config.settings.advertised_rpc().as_deref(), Some("127.0.0.1:9101"));

    // What was said explicitly holds; the others are still told the entry that they know.
    let config = load(&[("node_id", "1"), ("rpc", "127.0.0.1:9201")]).unwrap();
    assert_eq!(config.settings.rpc.port(), 9201);
    assert_eq!(config.settings.advertised_rpc().as_deref(), Some("127.0.0.1:9101"));

    // A broker that joins is not in the list.
    let config = load(&[("node_id", "2"), ("rpc", "127.0.0.1:9102")]).unwrap();
    assert_eq!(config.settings.advertised_rpc().as_deref(), Some("127.0.0.1:9102"));
    let config = load(&[("node_id", "2"), ("rpc", "127.0.0.1:9102"), ("advertise_rpc", "here:1")]).unwrap();
    assert_eq!(config.settings.advertised_rpc().as_deref(), Some("here:1"));

    for (flags, reason) in [
        (&[("node_id", "2"), ("rpc", "127.0.0.1:9101")][..], "the address of voter 1"),
        (&[("node_id", "2"), ("rpc", "127.0.0.1:0")], "must have a port"),
        (&[("node_id", "2"), ("rpc", "0.0.0.0:9102")], "--allow-remote"),
        (&[("node_id", "2"), ("rpc", "0.0.0.0:9102"), ("allow_remote", "true")], "--advertise-rpc"),
    ] {
        let error = load(flags).unwrap_err().to_string();
        assert!(error.contains(reason), "{flags:?}: {error}");
    }
    let named = [("voters", "0@broker.example:9000".to_owned())];
    let error = Config::load(None, [], named).unwrap_err().to_string();
    assert!(error.contains("--rpc"), "{error}");
    assert_eq!(Config::load(None, [], []).unwrap().settings.advertised_rpc(), None);
}

#[test]
fn any_setting_can_be_assigned_by_its_key() {
    assert_eq!(assignment("drain_timeout_ms=500"), Ok(("drain_timeout_ms", "500".to_owned())));
    assert_eq!(assignment("voters=0@a:1,1@b:1").unwrap().1, "0@a:1,1@b:1");
    assert!(assignment("drain_timeout=5").unwrap_err().contains("did you mean `drain_timeout_ms`"));
    assert!(assignment("drain_timeout_ms").is_err());
}

#[test]
fn what_is_shown_can_be_read_back() {
    let defaults = BrokerSettings::default();
    for setting in &SETTINGS {
        let text = match setting.value(&defaults) {
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let mut settings = BrokerSettings::default();
        (setting.set)(&mut settings, &text).unwrap_or_else(|reason| panic!("{}: {reason}", setting.key));
        assert_eq!(setting.value(&settings), setting.value(&defaults), "{}", setting.key);
    }
}
