//! `[refresh]`.

use std::time::Duration;

use serde::Deserialize;

/// `[refresh]`: how tokens that were handed over stay fresh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshSettings {
    /// Tokens that others exchanged, and gave a refresh token, are renewed when they live less than this.
    pub margin_s: u64,
}

impl Default for RefreshSettings {
    fn default() -> Self {
        Self { margin_s: 300 }
    }
}

impl RefreshSettings {
    /// See `margin_s`.
    pub fn margin(&self) -> Duration {
        Duration::from_secs(self.margin_s)
    }
}
