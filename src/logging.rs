//! Log lines on standard error, as text or JSON, and panics among them.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

/// Whether this is a filter that [`init`] can use.
pub(crate) fn check_filter(filter: &str) -> Result<String, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("is no log filter: {error}"))?;
    Ok(filter.to_owned())
}

/// Sends the log to standard error, and every panic to the log. Call it once.
pub(crate) fn init(format: LogFormat, filter: &str, color: bool) {
    // The configuration has checked the filter; a level is there for the case that it did not.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let result = match format {
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            let ansi = color && std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(ansi).with_writer(std::io::stderr)).try_init()
        }
    };
    if let Err(error) = result {
        tracing::warn!(%error, "the log was set up before");
    }
    log_panics();
}

fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(event = "panic", place, thread, %backtrace, "{message}");
    }));
}
