//! Which token each storage of a transfer is to get, and which paths may go by token at all: pure functions of the RSE and of the
//! configuration.
//!
//! Defaults are those of Rucio 41.5.1 (`determine_audience_for_rse`, `determine_scope_for_rse` and its fts3 transfertool; read and
//! observed): the audience is the host names of all `davs` protocols of the RSE, sorted; the scopes are `storage.read` at a source,
//! `storage.modify` and `storage.read` at a destination, each on the prefix of every `davs` protocol without the RSE attribute
//! `oidc_base_path`. Where Rucio would then ask for a path without a slash at its front (`storage.read:` or
//! `storage.read:rucio/`), which the profile forbids, the slash is put there.

mod held;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use token_core::{Operation, Scope, ScopeSet, StoragePath, TokenRequest};

use crate::choose::{End, Verdict};
use crate::topology::{Protocol, Rse};

pub use held::{FileTokens, Tokens};
pub use table::{Fits, TokenSettings};

/// The scope by which a submitter asks FTS to keep a token alive. It is asked of the issuer, and stands in the token.
const OFFLINE: &str = "offline_access";

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Read from.
    Source,
    /// Written to.
    Destination,
}

impl Side {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// What a job carries beside the token that it is posted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carried {
    /// Nothing: FTS has the token for FTS, and `token-exchange` makes one for each storage of it.
    #[default]
    None,
    /// A token for each storage, which FTS is to keep alive (`offline_access`), as Rucio's own submitter sends them.
    Managed,
    /// A token for each storage, which FTS is to use as it is (`unmanaged_tokens` of FTS 3.14, no `offline_access`).
    Unmanaged,
}

impl Carried {
    /// How a transfer is authorised, in words for reports.
    pub fn mode(self) -> &'static str {
        match self {
            Self::None => "token for FTS",
            Self::Managed => "managed storage tokens",
            Self::Unmanaged => "unmanaged storage tokens",
        }
    }
}

/// What becomes of a transfer that must not go by token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutToken {
    /// It stays in `Q` as it was, for Rucio's own submitter with its certificate.
    #[default]
    Leave,
    /// It ends in `M`: no pair of protocols fits that a token may be used with.
    Fail,
}

impl WithoutToken {
    /// What becomes of it. It never goes another way than by token from here.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Leave => Verdict::Leave(
                "not by token (a side is not davs or lacks `oidc_support`): left to Rucio's own submitter",
            ),
            Self::Fail => Verdict::End(
                End::Mismatch,
                "not by token: a side is not davs or lacks `oidc_support`, and submit.without_token is `fail`",
            ),
        }
    }
}

/// The rules of tokens for storages.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// What a job carries.
    pub carried: Carried,
    /// How long a token must still live when it is sent.
    pub min_life: Duration,
    /// What becomes of a transfer that must not go by token.
    pub without: WithoutToken,
    /// What some RSEs have of their own; the first entry that fits an RSE counts.
    pub table: Vec<TokenSettings>,
}

/// Why no token can be asked for; that stays so until a configuration is mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    /// No protocol that takes tokens.
    #[error("RSE {0} has no davs protocol to name in a token")]
    NoProtocol(String),
    /// The path is none that may stand in a scope.
    #[error("RSE {rse}: `{path}` cannot stand in a scope: see its prefix, `oidc_base_path` and [[rse]]")]
    Path {
        /// The RSE.
        rse: String,
        /// Its path.
        path: String,
    },
}

impl TokenRules {
    fn entry(&self, rse: &Rse) -> Option<&TokenSettings> {
        self.table.iter().find(|entry| entry.fits(rse))
    }

    /// Whether transfers from or to this RSE may go by token, with this scheme. Rucio's rule is that the scheme is `davs` and
    /// the RSE's attribute `oidc_support` is true; the table may say otherwise of an RSE.
    pub fn by_token(&self, rse: &Rse, scheme: &str) -> bool {
        let takes = self.entry(rse).and_then(|entry| entry.oidc_support);
        scheme == "davs" && takes.unwrap_or_else(|| rse.has_tokens())
    }

    /// What the token for one side of a transfer is asked for with.
    ///
    /// # Errors
    /// When none can be named.
    pub fn request(&self, rse: &Rse, side: Side) -> Result<TokenRequest, Unasked> {
        let entry = self.entry(rse);
        let davs: Vec<&Protocol> =
            rse.protocols.iter().filter(|protocol| protocol.scheme == "davs").collect();
        if davs.is_empty() {
            return Err(Unasked::NoProtocol(rse.name.clone()));
        }
        let audience = entry.and_then(|entry| entry.audience.as_deref()).unwrap_or("{host}");
        let audiences: BTreeSet<String> = davs.iter().map(|protocol| named(audience, protocol)).collect();
        let base = entry
            .and_then(|entry| entry.base_path.as_deref())
            .or_else(|| rse.attribute("oidc_base_path"))
            .unwrap_or_default();
        let own = entry.and_then(|entry| entry.path.as_deref());
        let paths = davs.iter().map(|protocol| {
            let path = own.unwrap_or_else(|| protocol.prefix.strip_prefix(base).unwrap_or(&protocol.prefix));
            let unfit = || Unasked::Path { rse: rse.name.clone(), path: path.to_owned() };
            StoragePath::from_request(&format!("/{}", path.trim_start_matches('/'))).map_err(|_| unfit())
        });
        let paths = paths.collect::<Result<BTreeSet<StoragePath>, _>>()?;
        let rights: &[Operation] = match side {
            Side::Source => entry.map_or(table::READ, |entry| entry.source_rights()),
            Side::Destination => entry.map_or(table::WRITE, |entry| entry.destination_rights()),
        };
        let scopes =
            rights.iter().flat_map(|right| paths.iter().map(|path| Scope::Storage(*right, path.clone())));
        let offline = (self.carried == Carried::Managed).then(|| Scope::Other(OFFLINE.to_owned()));
        let audience = audiences.into_iter().collect::<Vec<_>>().join(" ");
        Ok(TokenRequest { audience, scope: scopes.chain(offline).collect::<ScopeSet>() })
    }
}

/// An audience, with what stands for the protocol put in.
fn named(template: &str, protocol: &Protocol) -> String {
    let port = if protocol.port == 0 { String::new() } else { format!(":{}", protocol.port) };
    template
        .replace("{host}", &protocol.hostname)
        .replace("{url}", &format!("https://{}{port}", protocol.hostname))
}

#[cfg(test)]
mod tests;
