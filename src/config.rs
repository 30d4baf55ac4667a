//! The configuration of a broker: defaults < TOML file < environment < flags, with the origin of
//! every value. This is the only place that reads the environment.
//!
//! Every setting is one row of the table in [`settings`]: its key in the file is its name in the
//! environment (`log.flush` is `PUBG1_LOG_FLUSH`), so nothing can be set in one place and be
//! unknown in another. A key that is not in the table is refused, with the nearest one that is.

pub mod settings;
pub mod suggest;

use std::{collections::BTreeMap, fmt, io, path::Path, path::PathBuf};

pub use settings::{BrokerSettings, Flush, LogFormat, SETTINGS, Setting};

/// What every environment variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "PUBG1_";
/// Variables with our prefix that are not settings of a broker: they choose the file, the broker
/// that the command line talks to, what the scripts work with, and what the tests do.
const OTHER_VARIABLES: [&str; 6] =
    ["PUBG1_BROKER", CONFIG_VARIABLE, "PUBG1_BINARY", "PUBG1_CLUSTER_DIR", "PUBG1_DIR", "PUBG1_URL"];
const CONFIG_VARIABLE: &str = "PUBG1_CONFIG";
const TEST_VARIABLES: &str = "PUBG1_TEST_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The file given with `--config`.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This flag of the command line.
    Flag(&'static str),
    /// The value of another setting.
    Setting(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Setting(key) => write!(f, "follows {key}"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A key that no setting has.
    #[error("unknown setting `{name}` ({origin}){}", suggestion(nearest.as_deref()))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// The setting that it resembles most.
        nearest: Option<String>,
    },
    /// A value that the setting cannot have.
    #[error("{key} = {value:?} ({origin}): {reason}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that are fine alone and not together.
    #[error("{0}")]
    Together(String),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(|| "; `pubg1 config show` lists all".to_owned(), |name| format!("; did you mean `{name}`?"))
}

/// A complete, validated configuration and where each value comes from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The values.
    pub settings: BrokerSettings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Lays the sources over each other and validates the result.
    ///
    /// # Errors
    /// The first thing that is wrong, with its origin.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self { settings: BrokerSettings::default(), origins: BTreeMap::new() };
        if let Some(path) = file {
            config.read_file(path)?;
        }
        for (name, value) in environment {
            config.read_variable(name, &value)?;
        }
        for (key, value) in flags {
            if let Some(setting) = settings::find(key) {
                config.set(setting, &value, Origin::Flag(setting.flag.unwrap_or("--set")))?;
            }
        }
        if !config.origins.contains_key("rpc") && config.settings.follow_voters().map_err(ConfigError::Together)? {
            config.origins.insert("rpc", Origin::Setting("voters"));
        }
        config.settings.validate().map_err(ConfigError::Together)?;
        Ok(config)
    }

    /// Where the value of this setting comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn set(&mut self, setting: &'static Setting, value: &str, origin: Origin) -> Result<(), ConfigError> {
        (setting.set)(&mut self.settings, value).map_err(|reason| ConfigError::Value {
            key: setting.key,
            value: value.to_owned(),
            origin: origin.clone(),
            reason,
        })?;
        self.origins.insert(setting.key, origin);
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let mut values = Vec::new();
        flatten(String::new(), &table, &mut values);
        let origin = Origin::File(path.to_owned());
        for (key, value) in values {
            let Some(setting) = settings::find(&key) else {
                let nearest = suggest::nearest(&key, SETTINGS.iter().map(|setting| setting.key)).map(str::to_owned);
                return Err(ConfigError::Unknown { name: key, origin, nearest });
            };
            self.set(setting, &value, origin.clone())?;
        }
        Ok(())
    }

    fn read_variable(&mut self, name: String, value: &str) -> Result<(), ConfigError> {
        if !name.starts_with(ENVIRONMENT_PREFIX)
            || OTHER_VARIABLES.contains(&name.as_str())
            || name.starts_with(TEST_VARIABLES)
        {
            return Ok(());
        }
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
            return self.set(setting, value, Origin::Environment(name));
        }
        let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let nearest = suggest::nearest(&name, known.iter().map(String::as_str)).map(str::to_owned);
        Err(ConfigError::Unknown { origin: Origin::Environment(name.clone()), name, nearest })
    }
}

/// The variables of this process that begin with our prefix.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}

/// The configuration file that the environment names.
#[must_use]
pub fn file_of(environment: &[(String, String)]) -> Option<&str> {
    environment.iter().find(|(name, _)| name == CONFIG_VARIABLE).map(|(_, value)| value.as_str())
}

/// Whether the environment asks for output without colour: `NO_COLOR` is set to anything.
#[must_use]
pub fn environment_refuses_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Reads `KEY=VALUE` as `--set` takes it; the key must be that of a setting.
///
/// # Errors
/// What is wrong with it, with the nearest key.
pub fn assignment(text: &str) -> Result<(&'static str, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    let setting = settings::find(key).ok_or_else(|| {
        let nearest = suggest::nearest(key, SETTINGS.iter().map(|setting| setting.key));
        format!("unknown setting `{key}`{}", suggestion(nearest))
    })?;
    Ok((setting.key, value.to_owned()))
}

/// Nested tables as dotted keys. Values become the text that the environment would hold.
fn flatten(prefix: String, table: &toml::Table, out: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(key, inner, out),
            toml::Value::String(text) => out.push((key, text.clone())),
            other => out.push((key, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
