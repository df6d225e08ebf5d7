//! Which tokens FTS believes: its offline validation, as fts-rest 3.13.4 was observed to do it.
//!
//! This is on purpose not `token_core::verify`: FTS asks for no `wlcg.ver`, takes any key when the `kid` is unknown, and
//! reads no scopes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use reqwest::Client;
use serde_json::Value;
use token_core::http::{self, HttpSettings};
use token_core::{AccessToken, Clock, UnixSeconds};
use tokio::sync::Mutex;

use super::Provider;
use crate::pki::Pki;

/// Longest discovery document or JWKS.
const LIMIT: usize = 256 * 1024;

/// What one provider published, fetched once and kept.
struct Published {
    /// The `issuer` of its metadata: tokens must have this very string.
    issuer: String,
    keys: JwkSet,
}

/// The providers and their keys.
pub(super) struct Trust {
    client: Client,
    clock: Arc<dyn Clock>,
    /// Issuer as configured, and what was fetched from there. The lock is held while fetching: one flight.
    providers: Mutex<Vec<(String, Option<Arc<Published>>)>>,
}

impl Trust {
    /// Trust in these providers. Nothing is fetched yet.
    pub(super) fn new(pki: &Pki, providers: &[Provider], clock: Arc<dyn Clock>) -> Result<Self> {
        let client = http::client(&HttpSettings {
            ca_file: Some(pki.ca_file().to_owned()),
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(3),
        })?;
        let providers = providers.iter().map(|provider| (provider.issuer.clone(), None)).collect();
        Ok(Self { client, clock, providers: Mutex::new(providers) })
    }

    /// Fetches what is still missing. The real server does so at its start only; here an issuer that comes up later is
    /// found at the next request.
    pub(super) async fn fetch(&self) {
        let mut providers = self.providers.lock().await;
        for (issuer, published) in providers.iter_mut().filter(|(_, published)| published.is_none()) {
            match self.published(issuer).await {
                Some(found) => *published = Some(Arc::new(found)),
                None => tracing::warn!(issuer, "no keys to be had from this token provider"),
            }
        }
    }

    async fn published(&self, issuer: &str) -> Option<Published> {
        let metadata = self.json(&format!("{issuer}.well-known/openid-configuration")).await?;
        let keys = self.json(metadata["jwks_uri"].as_str()?).await?;
        Some(Published {
            issuer: metadata["issuer"].as_str()?.to_owned(),
            keys: serde_json::from_value(keys).ok()?,
        })
    }

    async fn json(&self, url: &str) -> Option<Value> {
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = self.client.get(url).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        serde_json::from_slice(&http::body(response, LIMIT).await.ok()??).ok()
    }

    /// The claims of a token that passes; `audiences`, when given, must have one of the token's.
    pub(super) async fn validate(&self, token: &AccessToken, audiences: Option<&[String]>) -> Option<Value> {
        let claims = peek(token);
        self.fetch().await;
        let issuer = claims["iss"].as_str()?;
        let found = {
            let providers = self.providers.lock().await;
            providers
                .iter()
                .filter_map(|(_, published)| published.clone())
                .find(|one| one.issuer == issuer)?
        };
        let named = |audiences: &[String]| audience(&claims).iter().any(|aud| audiences.contains(aud));
        let passes = in_time(&claims, self.clock.now())
            && audiences.is_none_or(named)
            && signed(token.expose(), &found.keys).unwrap_or(false);
        passes.then_some(claims)
    }
}

/// The claims, unchecked; null when it is no JWT.
#[expect(
    clippy::disallowed_methods,
    reason = "any JSON is a token's claims for FTS; the signature is checked here"
)]
pub(super) fn peek(token: &AccessToken) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token.expose()).map_or(Value::Null, |data| data.claims)
}

/// The audiences: a string or a list of strings.
pub(super) fn audience(claims: &Value) -> Vec<String> {
    match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// `exp`, `nbf` and `iat` with zero leeway; a claim that is not there is not looked at.
fn in_time(claims: &Value, now: UnixSeconds) -> bool {
    let at = |name: &str| claims.get(name).map(|value| value.as_f64().map(|at| at.floor()));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let now = now.0 as f64;
    let bad = [
        at("exp").is_some_and(|exp| exp.is_none_or(|exp| exp <= now)),
        at("nbf").is_some_and(|nbf| nbf.is_none_or(|nbf| nbf > now)),
        at("iat").is_some_and(|iat| iat.is_none_or(|iat| iat > now)),
    ];
    bad == [false; 3]
}

/// Tries the keys whose `kid` or `alg` is the token's, or all of them when there is none.
fn signed(token: &str, keys: &JwkSet) -> Option<bool> {
    let (message, signature) = token.rsplit_once('.')?;
    let header = jsonwebtoken::decode_header(token).ok()?;
    let likely: Vec<&Jwk> = keys.keys.iter().filter(|key| likely(key, &header)).collect();
    let candidates = if likely.is_empty() { keys.keys.iter().collect() } else { likely };
    Some(candidates.into_iter().filter(|key| fits(key, header.alg)).any(|key| {
        DecodingKey::from_jwk(key)
            .and_then(|key| jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, header.alg))
            .unwrap_or(false)
    }))
}

fn likely(key: &Jwk, header: &Header) -> bool {
    let same_kid = key.common.key_id.is_some() && key.common.key_id == header.kid;
    let same_algorithm =
        key.common.key_algorithm.is_some_and(|named| named.to_string() == format!("{:?}", header.alg));
    same_kid || same_algorithm
}

/// A public key is never used as the secret of an HMAC, whatever the header says.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    matches!(
        (&key.algorithm, algorithm),
        (AlgorithmParameters::RSA(_), Algorithm::RS256)
            | (AlgorithmParameters::EllipticCurve(_), Algorithm::ES256)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mint::{SigningKey, jwks};

    #[test]
    fn an_unknown_kid_passes_when_any_key_verifies_and_a_foreign_key_does_not() {
        let keys = [SigningKey::rs256("a").unwrap(), SigningKey::es256("b").unwrap()];
        let set = jwks(&keys).unwrap();
        let foreign = SigningKey::es256("b").unwrap();
        for mut key in keys {
            key.kid = "nobody".into();
            assert_eq!(signed(&key.sign(&json!({})).unwrap(), &set), Some(true));
        }
        assert_eq!(signed(&foreign.sign(&json!({})).unwrap(), &set), Some(false));
    }

    #[test]
    fn there_is_no_leeway() {
        let now = UnixSeconds(100);
        assert!(in_time(&json!({"exp": 101, "nbf": 100, "iat": 100}), now));
        for late in [json!({"exp": 100}), json!({"nbf": 101}), json!({"iat": 101}), json!({"exp": "101"})] {
            assert!(!in_time(&late, now), "{late}");
        }
        assert!(in_time(&json!({}), now));
    }
}
