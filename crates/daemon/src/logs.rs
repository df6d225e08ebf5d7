//! Logs go to stderr: text for people, or JSON lines for machines.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::Failure;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of text an event; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// The `[log]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,conveyor=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".into() }
    }
}

/// Starts logging. Tokens and secrets never reach it: their types do not print.
///
/// # Errors
/// When the level is no filter.
pub fn start(settings: &LogSettings) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let filter = EnvFilter::try_new(&settings.level)
        .map_err(|error| Failure::Configuration(format!("`log.level`: {error}")))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(Failure::runtime)
}
