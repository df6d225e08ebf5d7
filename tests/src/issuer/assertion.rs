//! Client assertions (RFC 7523 section 3): a client proves with its private key who it is.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Header, crypto};
use serde::Deserialize;
use token_core::UnixSeconds;

use super::client::Client;
use super::encoding::decode;

/// The longest life of an assertion that is taken.
const LIFE_S: i64 = 300;

/// The assertions that were taken, by client and `jti`, until they end: each is good once.
#[derive(Default)]
pub(super) struct Used(HashMap<(String, String), UnixSeconds>);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    jti: String,
    exp: UnixSeconds,
    iat: UnixSeconds,
}

impl Used {
    /// The client that signed `assertion` for `endpoint`; `None` when any rule is broken.
    pub(super) fn client<'a>(
        &mut self,
        clients: &'a HashMap<String, Client>,
        assertion: &str,
        endpoint: &str,
        now: UnixSeconds,
    ) -> Option<&'a Client> {
        let (signed, signature) = assertion.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let client = clients.get(&claims.iss)?;
        let key = client.key.as_ref()?;
        let fits = matches!(header.alg, Algorithm::RS256 | Algorithm::ES256)
            && (header.kid.is_none() || header.kid == key.common.key_id);
        let key = DecodingKey::from_jwk(key).ok()?;
        if !fits || !crypto::verify(signature, signed.as_bytes(), &key, header.alg).ok()? {
            return None;
        }
        self.0.retain(|_, ends| *ends > now);
        let sound = claims.sub == claims.iss
            && claims.aud == endpoint
            && claims.exp > now
            && claims.exp.0 <= now.0 + LIFE_S
            && claims.iat.0 <= now.0 + 1
            && !claims.jti.is_empty();
        let new = sound && self.0.insert((claims.iss, claims.jti), claims.exp).is_none();
        new.then_some(client)
    }
}
