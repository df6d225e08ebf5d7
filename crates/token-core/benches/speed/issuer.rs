//! An issuer with a key of each kind, and a token of the usual size signed with each.

use std::error::Error;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use token_core::{Clock as _, SystemClock};

pub(crate) const ISSUER: &str = "https://issuer.example/";
pub(crate) const AUDIENCE: &str = "https://se.example";

/// What is verified.
pub(crate) struct Signed {
    pub(crate) algorithm: Algorithm,
    pub(crate) name: &'static str,
    pub(crate) key: Jwk,
    pub(crate) token: String,
}

/// One token by RS256 (2048 bits) and one by ES256, with the claims of INDIGO IAM's WLCG profile.
pub(crate) fn signed() -> Result<Vec<Signed>, Box<dyn Error>> {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)?;
    let pkcs8: Pkcs8V1Der<'_> = rsa.as_der()?;
    // PKCS#8 of a 2048-bit key: 26 bytes of wrapping, then the RSAPrivateKey that jsonwebtoken wants.
    let inner = pkcs8.as_ref().get(26..).ok_or("an RSA key is short")?;
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?;
    Ok(vec![
        sign(Algorithm::RS256, "RS256", &EncodingKey::from_rsa_der(inner))?,
        sign(Algorithm::ES256, "ES256", &EncodingKey::from_ec_der(ec.as_ref()))?,
    ])
}

fn sign(algorithm: Algorithm, name: &'static str, key: &EncodingKey) -> Result<Signed, Box<dyn Error>> {
    let now = SystemClock.now().0;
    let claims = json!({"wlcg.ver": "1.0", "sub": "e1eb758b-b73c-4761-bfff-adc793da409c", "iss": ISSUER, "aud": AUDIENCE,
        "iat": now, "nbf": now, "exp": now + 3600, "jti": "40ce5a87-e419-4bdf-9e11-61dfb160f89d",
        "client_id": "5c6a9b2e-1d3f-4a57-9a1c-0b1f2d3e4a5b",
        "scope": "storage.read:/data/run3/raw storage.create:/data/run3/reco storage.stage:/tape/run3"});
    let mut header = Header::new(algorithm);
    header.kid = Some(name.into());
    let token = jsonwebtoken::encode(&header, &claims, key)?;
    let mut public = Jwk::from_encoding_key(key, algorithm)?;
    public.common.key_id = header.kid;
    Ok(Signed { algorithm, name, key: public, token })
}

/// The keys as a JWKS document.
pub(crate) fn jwks(signed: &[Signed]) -> Value {
    json!({ "keys": signed.iter().map(|signed| &signed.key).collect::<Vec<_>>() })
}
