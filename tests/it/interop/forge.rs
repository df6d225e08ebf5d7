//! An issuer that signs anything: discovery and two keys over TLS, and headers and claims as a test wants them.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair as KeyPair};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use testbed::mint::{SigningKey, jwks};
use testbed::pki::Pki;
use testbed::server::Server;
use token_core::{Clock as _, SystemClock, random_hex};
use tokio_util::sync::CancellationToken;

/// The resource that all tokens are meant for.
pub(crate) const SE: &str = "https://se.example";
/// The ids of the keys. A library that takes the first key when a token names none takes the RSA key, as these sort.
pub(crate) const RSA: &str = "key-1-rsa";
pub(crate) const EC: &str = "key-2-ec";

pub(crate) struct Forge {
    pub(crate) name: String,
    keys: [SigningKey; 2],
    pub(crate) jwks: Value,
}

impl Forge {
    pub(crate) async fn start(pki: &Pki, stop: CancellationToken) -> Self {
        let keys = [SigningKey::rs256(RSA).unwrap(), SigningKey::es256(EC).unwrap()];
        let jwks = serde_json::to_value(jwks(&keys).unwrap()).unwrap();
        // Its documents name its port, and it has that only when it runs.
        let (tell, told) = tokio::sync::watch::channel(String::new());
        let served = jwks.to_string();
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || {
                    let url = told.borrow().clone();
                    json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks"),
                        "token_endpoint": format!("{url}/token")})
                    .to_string()
                }),
            )
            .route("/jwks", get(async move || served.clone()));
        let server = Server::start(router, pki.server(), 0, stop).await.unwrap();
        tell.send_replace(server.url());
        Self { name: format!("{}/", server.url()), keys, jwks }
    }

    /// The claims of a good token to read `/data`, changed by `changes`; a null takes a claim away.
    pub(crate) fn claims(&self, changes: &Value) -> Value {
        let now = SystemClock.now().0;
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(self.name)),
            ("sub".to_owned(), json!("forged")),
            ("aud".to_owned(), json!(SE)),
            // Backdated, as the profile has issuers do (section 2.1.1).
            ("iat".to_owned(), json!(now - 60)),
            ("nbf".to_owned(), json!(now - 60)),
            ("exp".to_owned(), json!(now + 3600)),
            ("jti".to_owned(), json!(random_hex())),
            ("wlcg.ver".to_owned(), json!("1.0")),
            ("scope".to_owned(), json!("storage.read:/data")),
        ]);
        claims.extend(changes.as_object().unwrap().clone());
        claims.retain(|_, claim| !claim.is_null());
        Value::Object(claims)
    }

    /// A token under the usual header.
    pub(crate) fn token(&self, changes: &Value) -> String {
        self.keys[0].sign(&self.claims(changes)).unwrap()
    }

    /// The same by ES256.
    pub(crate) fn token_es256(&self, changes: &Value) -> String {
        self.keys[1].sign(&self.claims(changes)).unwrap()
    }

    /// A good token to read `/data` under this header, signed with the RSA key.
    pub(crate) fn under(&self, header: &Value) -> String {
        let signed = signing_input(header, &self.claims(&json!({})));
        let key = self.rsa();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// HS256 with this secret. With the RSA key's public half, it is what a verifier takes that believes the header (RFC 8725
    /// section 2.1).
    pub(crate) fn confused(&self, secret: &[u8]) -> String {
        let signed = signing_input(&json!({"alg": "HS256", "kid": RSA}), &self.claims(&json!({})));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The RSA key's public half in PEM (`PUBLIC KEY`).
    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.rsa().public_key().as_der().unwrap();
        let digits = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            digits.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn rsa(&self) -> KeyPair {
        let pem = self.keys[0].pem();
        let digits: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        KeyPair::from_pkcs8(&STANDARD.decode(digits).unwrap()).unwrap()
    }
}

/// Header and claims, encoded.
pub(crate) fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}
