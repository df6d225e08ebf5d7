//! An issuer under the name it had when the recordings were made. It publishes its keys, says of a token whether it is one
//! of its own (RFC 7662), and signs what it is told to, honestly or not.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::extract::{Form, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde_json::{Value, json};
use testbed::mint::{SigningKey, jwks, tampered};
use testbed::pki::Pki;
use testbed::server::Server;
use tokio_util::sync::CancellationToken;

/// What is wrong with a token beside what its header and claims show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// Nothing.
    None,
    /// The signature is not of this text.
    Tampered,
    /// The key is another one than the header says.
    ForeignKey,
}

impl Forgery {
    /// Reads it from what a recording says it shows; header and claims can't tell.
    pub(crate) fn read(shown: &str) -> Self {
        let shown = shown.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| shown.contains(word));
        let spoilt = [
            "changed",
            "tampered",
            "altered",
            "pasted",
            "broken",
            "bad ",
            "invalid",
            "wrong",
            "truncated",
            "stripped",
        ];
        if has(&["another key", "foreign key", "other key", "different key", "key that is not in"]) {
            Self::ForeignKey
        } else if has(&["signature", "payload", "claims"]) && has(&spoilt) {
            Self::Tampered
        } else {
            Self::None
        }
    }
}

/// A running issuer.
#[derive(Clone)]
pub(crate) struct RecordedIssuer(Arc<Inner>);

struct Inner {
    keys: Vec<SigningKey>,
    /// In no key set.
    foreign: SigningKey,
    published: JwkSet,
}

impl RecordedIssuer {
    /// An issuer with these key ids; one whose id names `es256` is an EC key.
    pub(crate) fn new(kids: &[&str]) -> Result<Self> {
        let key = |kid: &&str| {
            if kid.contains("es256") { SigningKey::es256(kid) } else { SigningKey::rs256(kid) }
        };
        let keys = kids.iter().map(key).collect::<Result<Vec<_>>>()?;
        let published = jwks(&keys)?;
        Ok(Self(Arc::new(Inner { keys, foreign: SigningKey::rs256("foreign")?, published })))
    }

    /// Serves its metadata under `name`, or under its own URL when that is empty. Returns the URL without a slash.
    pub(crate) async fn serve(&self, name: &str, pki: &Pki, stop: CancellationToken) -> Result<String> {
        let name = name.to_owned();
        let (shared, url) = (Arc::clone(&self.0), Arc::new(std::sync::OnceLock::<String>::new()));
        let known = Arc::clone(&url);
        let metadata = async move || {
            let url = known.get().cloned().unwrap_or_default();
            Json(json!({
                "issuer": if name.is_empty() { &url } else { &name },
                "jwks_uri": format!("{url}/jwks"),
                "token_endpoint": format!("{url}/token"),
                "introspection_endpoint": format!("{url}/introspect"),
            }))
        };
        let keys = serde_json::to_value(&shared.published)?;
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(async move || Json(keys.clone())))
            .route("/introspect", post(introspect))
            .with_state(shared);
        let server = Server::start(router, pki.server(), 0, stop).await?;
        Ok(url.get_or_init(|| server.url()).clone())
    }

    /// Signs `claims` under the recorded `header`. A key id of ours picks the key; with another one, the key of that
    /// algorithm signs all the same.
    pub(crate) fn mint(&self, header: &Value, claims: &Value, forgery: Forgery) -> Result<String> {
        let (kid, alg) = (&header["kid"], &header["alg"]);
        let keys = &self.0.keys;
        let own = keys.iter().find(|key| *kid == key.kid);
        let fitting = || keys.iter().find(|key| *alg == format!("{:?}", key.algorithm)).or(keys.first());
        let key = match forgery {
            Forgery::ForeignKey => &self.0.foreign,
            _ => own.or_else(fitting).context("an issuer has a key")?,
        };
        let token = key.sign_under(header, claims)?;
        Ok(if forgery == Forgery::Tampered { tampered(&token) } else { token })
    }
}

#[derive(Deserialize)]
struct Introspection {
    token: String,
}

/// Active is what has a signature of one of our keys; a real issuer looks it up, and knows no other.
async fn introspect(State(issuer): State<Arc<Inner>>, Form(asked): Form<Introspection>) -> Json<Value> {
    let scope = issuer.scope(&asked.token);
    Json(scope.map_or_else(|| json!({"active": false}), |scope| json!({"active": true, "scope": scope})))
}

impl Inner {
    /// The scope of a token that one of our keys signed.
    fn scope(&self, token: &str) -> Option<Value> {
        let (message, signature) = token.rsplit_once('.')?;
        let ours = self.published.keys.iter().zip(&self.keys).any(|(jwk, key)| {
            DecodingKey::from_jwk(jwk)
                .and_then(|jwk| {
                    jsonwebtoken::crypto::verify(signature, message.as_bytes(), &jwk, key.algorithm)
                })
                .unwrap_or(false)
        });
        let claims = URL_SAFE_NO_PAD.decode(message.split_once('.')?.1).ok().filter(|_| ours)?;
        serde_json::from_slice::<Value>(&claims).ok().map(|claims| claims["scope"].clone())
    }
}
