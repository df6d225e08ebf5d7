//! Logs go to stderr: text for people, or JSON lines for machines.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::Handle;

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

type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), Failure> + Send + Sync>;

/// The logs of this process, whose level can change.
pub struct Logs(SetFilter);

impl Logs {
    /// Writes from now on what passes `level`.
    ///
    /// # Errors
    /// When it is no filter; the old one holds.
    pub fn set_level(&self, level: &str) -> Result<(), Failure> {
        (self.0)(filter(level)?)
    }
}

/// Looks whether the level is one.
///
/// # Errors
/// When it is no filter.
pub fn check(settings: &LogSettings) -> Result<(), Failure> {
    filter(&settings.level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, Failure> {
    // The library takes any other word for the name of a target, and would then write nothing of all others.
    let bare = |part: &&str| !part.contains(['=', '[']);
    if level
        .split(',')
        .map(str::trim)
        .filter(bare)
        .any(|part| part.is_empty() || part.parse::<LevelFilter>().is_err())
    {
        return Err(Failure::configuration(
            "`log.level`: `error`, `warn`, `info`, `debug` or `trace` is expected, or a filter such as `info,conveyor=debug`",
        ));
    }
    // Why a certificate was refused is said by whoever made the call, with its name.
    EnvFilter::try_new(format!("rustls_platform_verifier=off,{level}"))
        .map_err(|error| Failure::Configuration(format!("`log.level`: {error}")))
}

/// Starts logging. Tokens and secrets never reach it: their types do not print.
///
/// # Errors
/// When the level is no filter.
pub fn start(settings: &LogSettings) -> Result<Logs, Failure> {
    use std::io::IsTerminal as _;
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter(&settings.level)?).with_writer(std::io::stderr);
    let (started, logs) = match settings.format {
        Format::Text => {
            let logs =
                logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter_reloading();
            let handle = changing(logs.reload_handle());
            (logs.try_init(), handle)
        }
        Format::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            let handle = changing(logs.reload_handle());
            (logs.try_init(), handle)
        }
    };
    started.map_err(Failure::runtime)?;
    Ok(logs)
}

/// The handle without its type, in which the whole format is written.
fn changing<S: 'static>(handle: Handle<EnvFilter, S>) -> Logs {
    Logs(Box::new(move |filter| handle.reload(filter).map_err(Failure::runtime)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for level in ["info", "WARN", "debug,conveyor=trace", "off", "info,[canary]=debug", "warn,work=info"]
        {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["WARNING", "", "info,", "canary", "info,==", "conveyor=loud"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }
}
