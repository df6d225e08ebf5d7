//! Verifiers in this process: token-core, and jsonwebtoken alone.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use token_core::{Clock as _, KeySet, Policy, SystemClock, verify};

use crate::issuer::{AUDIENCE, ISSUER, Signed};

/// Verifies so many tokens and says how many seconds that took.
pub(crate) type Block<'a> = Box<dyn FnMut(u32) -> Result<f64, Box<dyn Error>> + 'a>;

/// What token-core reads too. It takes one audience only, and so does less.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read from the token and looked at by nobody")]
pub(crate) struct Plain {
    iss: String,
    sub: Option<String>,
    aud: String,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    jti: Option<String>,
    #[serde(rename = "wlcg.ver")]
    version: Option<String>,
    scope: Option<String>,
    #[serde(rename = "wlcg.groups", default)]
    groups: Vec<String>,
}

/// token-core: the key is chosen among the issuer's, and all rules of the profile are checked, scopes and groups included.
pub(crate) fn token_core<'a>(signed: &'a Signed, keys: &'a KeySet) -> Block<'a> {
    let policy = Policy::new(ISSUER, vec![AUDIENCE.into()]);
    Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            black_box(verify(black_box(&signed.token), keys, &policy, SystemClock.now())?);
        }
        Ok(start.elapsed().as_secs_f64())
    })
}

/// jsonwebtoken as it is commonly used: the key is known and made ready; algorithm, issuer, audience and expiry are checked.
pub(crate) fn jsonwebtoken<'a, T: DeserializeOwned>(signed: &'a Signed) -> Result<Block<'a>, Box<dyn Error>> {
    let key = DecodingKey::from_jwk(&signed.key)?;
    let mut validation = Validation::new(signed.algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    Ok(Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            #[expect(clippy::disallowed_methods, reason = "it is what we compare with")]
            let read = jsonwebtoken::decode::<T>(black_box(&signed.token), &key, &validation)?;
            black_box(read);
        }
        Ok(start.elapsed().as_secs_f64())
    }))
}
