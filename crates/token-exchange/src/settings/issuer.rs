//! `[[issuer]]`: an issuer, how its tokens are got, and the client that we are there.

use daemon::settings::IssuerSettings;
use serde::Deserialize;

use crate::command::ShownIssuer;
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
    /// The issuer, and our client there.
    #[serde(flatten)]
    pub shared: IssuerSettings,
}

impl ExchangeIssuer {
    /// What `status` tells of it.
    pub(crate) fn shown(&self) -> ShownIssuer {
        ShownIssuer {
            url: self.shared.url.clone(),
            mode: self.mode,
            client_id: Some(self.shared.client_id.clone()),
            client_from: "our configuration",
            max_in_flight: self.shared.max_in_flight,
            calls_per_s: self.shared.calls_per_s,
        }
    }
}
