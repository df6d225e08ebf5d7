//! `[refresh]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// `[refresh]`: how tokens that were handed over stay fresh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshSettings {
    /// FTS's `MessagingDirectory` on this host. With it, the refresh requests of `fts_url_copy` are answered.
    pub messaging_directory: Option<PathBuf>,
    /// Whether tokens are handed over managed, so that `fts_url_copy` asks for them; as `messaging_directory` is set, when it is
    /// not said.
    pub managed: Option<bool>,
    /// FTS's `TokenRefreshMarginPeriod`: `fts_url_copy` asks when its token lives less than this.
    pub margin_s: u64,
    /// How long a refresh request is worked on before a failure is answered. `fts_url_copy` waits 60 s.
    pub answer_within_s: u64,
}

impl Default for RefreshSettings {
    fn default() -> Self {
        Self { messaging_directory: None, managed: None, margin_s: 300, answer_within_s: 50 }
    }
}

impl RefreshSettings {
    /// Whether tokens are handed over managed.
    pub fn managed(&self) -> bool {
        self.managed.unwrap_or(self.messaging_directory.is_some())
    }

    /// See `margin_s`.
    pub fn margin(&self) -> Duration {
        Duration::from_secs(self.margin_s)
    }
}
