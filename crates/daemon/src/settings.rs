//! Sections of the configuration that both daemons have. Units stand in the names; secrets are named by file only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use token_core::http::HttpSettings;
use token_core::retry::RetryPolicy;
use token_core::{
    CacheError, ClientAuthentication, ClientSecret, Clock, Guard, GuardSettings, Issuer, OAuthClient,
    OAuthSettings, SledCache, TokenKeeper,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Failure;

/// An issuer, and the client that this daemon is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The issuer's exact name, as in the `iss` of its tokens; a slash at the end counts.
    pub url: Issuer,
    /// The client's id there.
    pub client_id: String,
    /// A file that holds the client's secret and nothing else.
    pub client_secret_file: PathBuf,
    /// Certificate authorities to trust instead of the system's: a PEM file, or a directory of them.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection.
    #[serde(default = "connect_timeout_s")]
    pub connect_timeout_s: u64,
    /// Longest wait for an answer.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// How long one token is tried for before the work waits for its next turn.
    #[serde(default = "retry_total_s")]
    pub retry_total_s: u64,
    /// Most calls at a time.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: usize,
}

fn connect_timeout_s() -> u64 {
    5
}

fn timeout_s() -> u64 {
    20
}

fn retry_total_s() -> u64 {
    30
}

fn max_in_flight() -> usize {
    8
}

impl IssuerSettings {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// When the secret or CA file can't be used.
    pub fn client(&self, clock: Arc<dyn Clock>, cancel: CancellationToken) -> Result<OAuthClient, Failure> {
        let client_secret =
            ClientSecret::from_file(&self.client_secret_file).map_err(Failure::configuration)?;
        let http = HttpSettings {
            ca_file: self.ca_file.clone(),
            connect_timeout: Duration::from_secs(self.connect_timeout_s),
            timeout: Duration::from_secs(self.timeout_s),
        };
        let retry = RetryPolicy { total: Duration::from_secs(self.retry_total_s), ..RetryPolicy::default() };
        let authentication = ClientAuthentication::Basic(client_secret);
        let guard = GuardSettings { max_in_flight: self.max_in_flight, ..GuardSettings::default() };
        let settings = OAuthSettings {
            http,
            retry,
            guard: Arc::new(Guard::new(guard)),
            ..OAuthSettings::new(self.url.clone(), &self.client_id, authentication)
        };
        OAuthClient::new(settings, clock, cancel).map_err(Failure::configuration)
    }
}

/// The `[cache]` section: where tokens outlive a restart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// A folder for sled; made with mode 0700.
    pub path: PathBuf,
    /// The file with the key that seals every entry: 64 hex digits; made with mode 0600 if it is not there.
    pub key_file: PathBuf,
}

/// A keeper of tokens over the cache, or over memory alone when there is no `[cache]` section. A cache that another process
/// holds or that can't be used is no reason to stop: it holds only what the issuer would give again.
///
/// # Errors
/// When the folder or key file is open to others, can't be made, or holds no key: that is to be mended.
pub fn keeper(cache: Option<&CacheSettings>, clock: Arc<dyn Clock>) -> Result<TokenKeeper, Failure> {
    let behind = match cache.map(|cache| SledCache::open(&cache.path, &cache.key_file)) {
        None => None,
        Some(Ok(cache)) => Some(Arc::new(cache) as Arc<_>),
        Some(Err(error @ (CacheError::Locked(_) | CacheError::Store(_) | CacheError::Seal))) => {
            warn!(%error, "tokens are kept in memory only");
            None
        }
        Some(Err(error)) => return Err(Failure::configuration(error)),
    };
    Ok(TokenKeeper::new(behind, clock))
}
