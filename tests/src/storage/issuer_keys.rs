//! The keys of the trusted issuer, kept while it is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use token_core::http::{self, HttpSettings};
use token_core::{Clock, Issuer, KeySet, UnixSeconds, discover};
use tokio::sync::Mutex;

/// Keys are fetched again after this long (profile: key-cache refresh).
const REFRESH: Duration = Duration::from_secs(6 * 3600);
/// Keys older than this are not believed (profile: key-cache expiry, at most four days).
const EXPIRY: Duration = Duration::from_secs(4 * 24 * 3600);
/// A failed refresh is tried again after this long (scitokens-cpp 0.7.3, observed).
const FAILED: Duration = Duration::from_secs(300);
/// A token with an unknown key causes at most one fetch in this time.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Longest JWKS, in bytes.
const LIMIT: usize = 256 * 1024;

/// Fetches and keeps the keys of one issuer, one fetch at a time.
pub(super) struct IssuerKeys {
    issuer: Issuer,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Option<(Arc<KeySet>, UnixSeconds)>,
    tried: Option<UnixSeconds>,
}

/// Whether a fetch is due. Without keys every request may cause one: nothing can be served otherwise.
fn due(held: &Held, unknown_key: bool, now: UnixSeconds) -> bool {
    let Some((_, fetched)) = &held.keys else { return true };
    let quiet = |time: Duration| held.tried.is_none_or(|tried| tried.until(now) >= time);
    if unknown_key { quiet(UNKNOWN) } else { fetched.until(now) >= REFRESH && quiet(FAILED) }
}

impl IssuerKeys {
    pub(super) fn new(issuer: &str, ca_file: Option<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self> {
        let short = Duration::from_secs(4); // the time scitokens-cpp 0.7.3 gives a refresh
        let http = http::client(&HttpSettings { ca_file, connect_timeout: short, timeout: short })?;
        Ok(Self { issuer: Issuer::new(issuer)?, http, clock, held: Mutex::default() })
    }

    /// The keys; with `unknown_key`, newer ones than those that did not know a token's key, if they may be asked for now.
    pub(super) async fn get(&self, unknown_key: bool) -> Result<Arc<KeySet>, String> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        held.keys.take_if(|(_, fetched)| fetched.until(now) >= EXPIRY);
        let mut failure = None;
        if due(&held, unknown_key, now) {
            held.tried = Some(now);
            match self.fetch().await {
                Ok(keys) => held.keys = Some((Arc::new(keys), now)),
                Err(error) => failure = Some(error),
            }
        }
        let keys = held.keys.as_ref().map(|(keys, _)| Arc::clone(keys));
        keys.ok_or_else(|| format!("no keys to check the token with: {}", failure.unwrap_or_default()))
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let metadata = discover(&self.http, &self.issuer).await.map_err(|error| error.to_string())?;
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = self.http.get(metadata.jwks_uri).send().await;
        let response = response.map_err(|error| http::reason(&error).to_owned())?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("its keys are answered with {}", response.status().as_u16()));
        }
        let body = http::body(response, LIMIT).await.map_err(|error| http::reason(&error).to_owned())?;
        let body = body.ok_or("its keys are too long")?;
        KeySet::parse(&body).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_seldom() {
        let now = UnixSeconds(10_000_000);
        let ago = |seconds| UnixSeconds(now.0 - seconds);
        let keys = || Arc::new(KeySet::parse(br#"{"keys":[]}"#).unwrap());
        let held = |fetched, tried| Held { keys: Some((keys(), ago(fetched))), tried: Some(ago(tried)) };
        assert!(due(&Held { keys: None, tried: Some(now) }, false, now));
        assert!(!due(&held(10, 10), false, now) && due(&held(21_600, 21_600), false, now));
        assert!(!due(&held(21_700, 100), false, now), "the issuer was away 100 s ago");
        assert!(!due(&held(10, 10), true, now) && due(&held(60, 60), true, now));
    }
}
