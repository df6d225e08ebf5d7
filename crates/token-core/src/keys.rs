//! An issuer's public keys, fetched seldom and kept while the issuer is away (profile section 4.1).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CACHE_CONTROL;
use reqwest::{Client, Response, StatusCode};
use tokio::sync::Mutex;

use crate::claims::Claims;
use crate::clock::{Clock, UnixSeconds};
use crate::error::TokenError;
use crate::http;
use crate::issuer::Issuer;
use crate::key_set::KeySet;
use crate::metadata::discover;
use crate::verify::{Policy, VerifyError, verify};

/// Keys are asked for again after the server's `max-age`, but not earlier and not later than this (profile: key-cache
/// refresh).
const REFRESH: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(6 * 3600));
/// Keys older than this are not believed (profile: key-cache expiry, two days recommended).
const EXPIRY: Duration = Duration::from_secs(2 * 24 * 3600);
/// A refresh that failed is tried again after this long.
const FAILED: Duration = Duration::from_secs(300);
/// Without any keys, the issuer is asked at most this often.
const EMPTY: Duration = Duration::from_secs(5);
/// A token with an unknown key causes at most one fetch in this time.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Longest JWKS, in bytes.
const LIMIT: usize = 256 * 1024;
const CALL: &str = "fetching keys";

/// Why a token was not believed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// There are no keys to check it with.
    #[error("no keys to check the token with: {0}")]
    NoKeys(#[source] TokenError),
    /// It breaks a rule.
    #[error("{0}")]
    Token(#[from] VerifyError),
}

/// The keys of one issuer; one fetch in flight at a time, and all who need keys meanwhile wait for it.
///
/// ```no_run
/// use std::sync::Arc;
/// use token_core::http::{HttpSettings, client};
/// use token_core::{Issuer, IssuerKeys, Policy, SystemClock};
///
/// # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::new("https://iam.example/")?;
/// let policy = Policy::new(issuer.as_str(), vec!["https://se.example".into()]);
/// let keys = IssuerKeys::new(issuer, client(&HttpSettings::default())?, Arc::new(SystemClock));
/// let claims = keys.verify(token, &policy).await?; // fetches the keys when it must
/// println!("{:?} may {:?}", claims.sub, claims.scopes()?);
/// # Ok(()) }
/// ```
pub struct IssuerKeys {
    issuer: Issuer,
    http: Client,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Option<Fetched>,
    tried: Option<UnixSeconds>,
    failure: Option<TokenError>,
}

struct Fetched {
    keys: Arc<KeySet>,
    at: UnixSeconds,
    refresh: Duration,
}

/// Whether a fetch is due.
fn due(held: &Held, unknown_key: bool, now: UnixSeconds) -> bool {
    let quiet = |time: Duration| held.tried.is_none_or(|tried| tried.until(now) >= time);
    match &held.keys {
        None => quiet(EMPTY),
        Some(_) if unknown_key => quiet(UNKNOWN),
        Some(fetched) => fetched.at.until(now) >= fetched.refresh && quiet(FAILED),
    }
}

impl IssuerKeys {
    /// Nothing is fetched yet. `http` comes from [`http::client`].
    pub fn new(issuer: Issuer, http: Client, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, http, clock, held: Mutex::default() }
    }

    /// Checks a token. A key that is not known yet is asked for, at most once a minute.
    ///
    /// # Errors
    /// When there are no keys, or the token breaks a rule.
    pub async fn verify(&self, token: &str, policy: &Policy) -> Result<Claims, KeysError> {
        let now = self.clock.now();
        let keys = self.get(false).await.map_err(KeysError::NoKeys)?;
        match verify(token, &keys, policy, now) {
            Err(VerifyError::UnknownKey) => {
                let keys = self.get(true).await.map_err(KeysError::NoKeys)?;
                Ok(verify(token, &keys, policy, now)?)
            }
            other => Ok(other?),
        }
    }

    /// The keys; with `unknown_key`, newer ones than those that did not know a token's key, if they may be asked for now.
    ///
    /// # Errors
    /// When there are none, or those there are have not been confirmed for two days.
    pub async fn get(&self, unknown_key: bool) -> Result<Arc<KeySet>, TokenError> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        held.keys.take_if(|fetched| fetched.at.until(now) >= EXPIRY);
        if due(&held, unknown_key, now) {
            held.tried = Some(now);
            match self.fetch(now).await {
                Ok(keys) => (held.keys, held.failure) = (Some(keys), None),
                Err(error) => held.failure = Some(error),
            }
        }
        match (&held.keys, &held.failure) {
            (Some(fetched), _) => Ok(Arc::clone(&fetched.keys)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(self.bad("they have expired")),
        }
    }

    async fn fetch(&self, now: UnixSeconds) -> Result<Fetched, TokenError> {
        let metadata = discover(&self.http, &self.issuer).await?;
        let broken = |error: reqwest::Error| TokenError::Unreachable {
            issuer: self.issuer.to_string(),
            call: CALL,
            reason: http::reason(&error),
        };
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = self.http.get(metadata.jwks_uri).send().await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(TokenError::Busy {
                issuer: self.issuer.to_string(),
                call: CALL,
                status: response.status().as_u16(),
                retry_after: http::retry_after(&response),
            });
        }
        let refresh = max_age(&response).unwrap_or(REFRESH.1).clamp(REFRESH.0, REFRESH.1);
        let body = http::body(response, LIMIT).await.map_err(broken)?;
        let body = body.ok_or_else(|| self.bad("the JWKS is too long"))?;
        let keys = KeySet::parse(&body).map_err(|_| self.bad("it is no JWKS"))?;
        Ok(Fetched { keys: Arc::new(keys), at: now, refresh })
    }

    fn bad(&self, reason: &'static str) -> TokenError {
        TokenError::BadAnswer { issuer: self.issuer.to_string(), call: CALL, reason }
    }
}

/// `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1).
fn max_age(response: &Response) -> Option<Duration> {
    let value = response.headers().get(CACHE_CONTROL)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_seldom() {
        let now = UnixSeconds(10_000_000);
        let ago = |seconds| UnixSeconds(now.0 - seconds);
        let keys = Arc::new(KeySet::parse(br#"{"keys":[]}"#).unwrap());
        let held = |at: Option<i64>, tried: i64| Held {
            keys: at.map(|at| Fetched { keys: Arc::clone(&keys), at: ago(at), refresh: REFRESH.1 }),
            tried: Some(ago(tried)),
            failure: None,
        };
        assert!(due(&Held::default(), false, now));
        assert!(
            !due(&held(None, 4), false, now) && due(&held(None, 5), false, now),
            "no storm on a dead issuer"
        );
        assert!(!due(&held(Some(10), 10), false, now) && due(&held(Some(21_600), 21_600), false, now));
        assert!(!due(&held(Some(21_700), 100), false, now), "the issuer was away 100 s ago");
        assert!(!due(&held(Some(10), 59), true, now) && due(&held(Some(60), 60), true, now));
    }
}
