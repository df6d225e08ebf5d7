//! `[[issuer]]`: an issuer, how its tokens are got, and the client that we are there.

use std::path::PathBuf;

use daemon::settings::IssuerSettings;
use serde::Deserialize;

use crate::plan::Mode;

/// `[[issuer]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeIssuer {
    /// How its tokens are got.
    #[serde(default)]
    pub mode: Mode,
    /// How long a token that is used as it is must still live, in seconds; a file whose token lives shorter fails. 0: one that has
    /// ended is refused, no other.
    #[serde(default)]
    pub min_given_life_s: u64,
    /// The issuer, and our client there. What is not said of the client is FTS's own (`t_token_provider`).
    #[serde(flatten)]
    pub shared: IssuerSettings,
}

impl ExchangeIssuer {
    /// Whether id and secret of the client are said here; else they are FTS's.
    pub fn names_its_client(&self) -> bool {
        let secret = self.shared.client_secret_file.is_some() || self.shared.private_key_file.is_some();
        !self.shared.client_id.is_empty() && secret
    }
}

/// `[providers]`: FTS's own clients, in `t_token_provider`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// Whether those are used for issuers that no `[[issuer]]` names.
    pub enabled: bool,
    /// Certificate authorities to trust there instead of the system's: a PEM file, or a directory of them.
    pub ca_file: Option<PathBuf>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self { enabled: true, ca_file: None }
    }
}
