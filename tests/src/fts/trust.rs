//! Which tokens FTS believes: by signature and claims, or by asking the issuer, as fts-rest 3.13.4 was observed to do it.
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

use super::{FtsConfig, Provider};
use crate::pki::Pki;

/// Longest discovery document or JWKS.
const LIMIT: usize = 256 * 1024;

/// What one provider published, fetched once and kept.
struct Published {
    /// The `issuer` of its metadata: tokens must have this very string.
    issuer: String,
    keys: JwkSet,
    introspection: Option<String>,
}

/// A provider, and what was fetched from there.
struct Known {
    /// As configured.
    issuer: String,
    /// What its metadata is below.
    url: String,
    published: Option<Arc<Published>>,
}

/// The providers and their keys.
pub(super) struct Trust {
    client: Client,
    clock: Arc<dyn Clock>,
    /// The lock is held while fetching: one flight.
    providers: Mutex<Vec<Known>>,
}

impl Trust {
    /// Trust in these providers. Nothing is fetched yet.
    pub(super) fn new(pki: &Pki, config: &FtsConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let client = http::client(&HttpSettings {
            ca_file: Some(pki.ca_file().to_owned()),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        })?;
        let known = |provider: &Provider| {
            let issuer = provider.issuer.clone();
            let url = config.rest.discovery.get(&issuer).unwrap_or(&issuer).clone();
            Known { issuer, url, published: None }
        };
        let providers = Mutex::new(config.providers.iter().map(known).collect());
        Ok(Self { client, clock, providers })
    }

    /// Fetches what is still missing. The real server does so at its start only; here an issuer that comes up later is
    /// found at the next request.
    pub(super) async fn fetch(&self) {
        let mut providers = self.providers.lock().await;
        for known in providers.iter_mut().filter(|known| known.published.is_none()) {
            match self.published(&known.url).await {
                Some(found) => known.published = Some(Arc::new(found)),
                None => tracing::warn!(issuer = known.issuer, "no keys to be had from this token provider"),
            }
        }
    }

    async fn published(&self, url: &str) -> Option<Published> {
        let metadata = self.json(&format!("{url}.well-known/openid-configuration")).await?;
        let keys = self.json(metadata["jwks_uri"].as_str()?).await?;
        Some(Published {
            issuer: metadata["issuer"].as_str()?.to_owned(),
            keys: serde_json::from_value(keys).ok()?,
            introspection: metadata["introspection_endpoint"].as_str().map(str::to_owned),
        })
    }

    async fn json(&self, url: &str) -> Option<Value> {
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = self.client.get(url).send().await.ok()?;
        answer(response).await
    }

    /// The claims of a token that passes; `audiences`, when given, must have one of the token's.
    pub(super) async fn validate(&self, token: &AccessToken, audiences: Option<&[String]>) -> Option<Value> {
        let claims = peek(token);
        let found = self.of(claims["iss"].as_str()?).await?.1;
        let named = |audiences: &[String]| audience(&claims).iter().any(|aud| audiences.contains(aud));
        let passes = in_time(&claims, self.clock.now())
            && audiences.is_none_or(named)
            && signed(token.expose(), &found.keys).unwrap_or(false);
        passes.then_some(claims)
    }

    /// The claims of a token that its issuer calls active and that has `offline_access`.
    pub(super) async fn introspect(&self, token: &AccessToken, providers: &[Provider]) -> Option<Value> {
        let claims = peek(token);
        let (issuer, found) = self.of(claims["iss"].as_str()?).await?;
        let provider = providers.iter().find(|provider| provider.issuer == issuer)?;
        let request = self
            .client
            .post(found.introspection.as_deref()?)
            .basic_auth(&provider.client_id, Some(provider.client_secret.expose()))
            .form(&[("token", token.expose()), ("token_type_hint", "access_token")]);
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let told = answer(request.send().await.ok()?).await?;
        let scope = told["scope"].as_str().unwrap_or_default();
        let passes = told["active"] == true && scope.split_whitespace().any(|item| item == "offline_access");
        passes.then_some(claims)
    }

    /// The provider whose tokens have this `iss`: its configured name, and what it published.
    async fn of(&self, issuer: &str) -> Option<(String, Arc<Published>)> {
        self.fetch().await;
        let providers = self.providers.lock().await;
        providers.iter().find_map(|known| {
            let published = known.published.clone().filter(|published| published.issuer == issuer)?;
            Some((known.issuer.clone(), published))
        })
    }
}

/// The JSON of an answer that is a success.
async fn answer(response: reqwest::Response) -> Option<Value> {
    if !response.status().is_success() {
        return None;
    }
    serde_json::from_slice(&http::body(response, LIMIT).await.ok()??).ok()
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
