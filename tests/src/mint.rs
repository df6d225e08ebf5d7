//! Signing keys, and tokens signed with them: the issuer's, and those that tests forge.

use anyhow::{Context as _, Result};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

/// One signing key.
pub struct SigningKey {
    /// Its id in the JWKS.
    pub kid: String,
    /// RS256 or ES256.
    pub algorithm: Algorithm,
    key: EncodingKey,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// A new RSA key of 2048 bits.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn rs256(kid: &str) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der()?;
        // jsonwebtoken wants the key inside the PKCS#8 wrapping.
        let key = EncodingKey::from_rsa_der(inner_key(pkcs8.as_ref()).context("an RSA key in PKCS#8")?);
        Ok(Self { kid: kid.to_owned(), algorithm: Algorithm::RS256, key, pkcs8: pkcs8.as_ref().to_vec() })
    }

    /// A new P-256 key.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn es256(kid: &str) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let pkcs8 = pair.to_pkcs8v1()?.as_ref().to_vec();
        let key = EncodingKey::from_ec_der(&pkcs8);
        Ok(Self { kid: kid.to_owned(), algorithm: Algorithm::ES256, key, pkcs8 })
    }

    /// The private half in PEM (PKCS#8), as a client keeps it in a file.
    pub fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// The public half in PEM (SubjectPublicKeyInfo), as anyone can get it.
    ///
    /// # Errors
    /// When the key can't be read.
    pub fn public_pem(&self) -> Result<String> {
        let der: PublicKeyX509Der<'_> = match self.algorithm {
            Algorithm::RS256 => RsaKeyPair::from_pkcs8(&self.pkcs8)?.public_key().as_der()?,
            _ => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8)?
                .public_key()
                .as_der()?,
        };
        Ok(pem("PUBLIC KEY", der.as_ref()))
    }

    /// The public half.
    ///
    /// # Errors
    /// When the key can't be read.
    pub fn jwk(&self) -> Result<Jwk> {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm)?;
        jwk.common.key_id = Some(self.kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(jwk)
    }

    /// Signs `claims` under this key's own header.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }

    /// Puts `claims` under a header of the caller's making, which may lie. By its `alg`: `none` has no signature, and `HS256`
    /// takes the public half (PEM) for the secret, which is how a verifier is fooled that goes by the header (RFC 8725
    /// section 2.1). Everything else is signed by this key as this key signs.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign_under(&self, header: &Value, claims: &Value) -> Result<String> {
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match header["alg"].as_str().unwrap_or_default() {
            "none" => String::new(),
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.public_pem()?.as_bytes());
                URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()))
            }
            _ => jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)?,
        };
        Ok(format!("{message}.{signature}"))
    }
}

/// The token with another first character in its signature, so that no verifier may take it.
pub fn tampered(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", signature.get(1..).unwrap_or_default())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(digit);
    }
    pem + &format!("\n-----END {label}-----\n")
}

/// A JWKS of these keys.
///
/// # Errors
/// When a key can't be read.
pub fn jwks(keys: &[SigningKey]) -> Result<JwkSet> {
    Ok(JwkSet { keys: keys.iter().map(SigningKey::jwk).collect::<Result<_>>()? })
}

/// The OCTET STRING at the end of a PKCS#8 `PrivateKeyInfo` (RFC 5208 section 5): SEQUENCE { INTEGER, SEQUENCE, OCTET STRING }.
fn inner_key(pkcs8: &[u8]) -> Option<&[u8]> {
    let (0x30, body, _) = element(pkcs8)? else { return None };
    let (_, _, rest) = element(body)?;
    let (_, _, rest) = element(rest)?;
    let (0x04, key, _) = element(rest)? else { return None };
    Some(key)
}

/// Splits the first DER element off: its tag, its content, and what follows.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (
            bytes
                .iter()
                .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?,
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use token_core::{KeySet, Policy, UnixSeconds, verify};

    #[test]
    fn both_kinds_of_key_sign_what_their_jwks_verifies() {
        let keys = [SigningKey::rs256("r").unwrap(), SigningKey::es256("e").unwrap()];
        let set = KeySet::parse(&serde_json::to_vec(&jwks(&keys).unwrap()).unwrap()).unwrap();
        let policy = Policy { lenient: true, ..Policy::new("https://i", vec!["a".into()]) };
        let claims =
            json!({"iss": "https://i", "aud": "a", "exp": 2, "wlcg.ver": "1.0", "scope": "storage.read:/"});
        for key in &keys {
            let token = key.sign(&claims).unwrap();
            assert!(verify(&token, &set, &policy, UnixSeconds(1)).is_ok(), "{}", key.kid);
            assert!(verify(&tampered(&token), &set, &policy, UnixSeconds(1)).is_err(), "{}", key.kid);
            for (alg, passes) in [("none", false), ("HS256", false), (token_alg(key), true)] {
                let forged = key.sign_under(&json!({"alg": alg, "kid": key.kid}), &claims).unwrap();
                assert_eq!(
                    verify(&forged, &set, &policy, UnixSeconds(1)).is_ok(),
                    passes,
                    "{} {alg}",
                    key.kid
                );
            }
            assert!(key.public_pem().unwrap().starts_with("-----BEGIN PUBLIC KEY-----\nM"));
        }
    }

    fn token_alg(key: &SigningKey) -> &'static str {
        if key.algorithm == Algorithm::RS256 { "RS256" } else { "ES256" }
    }
}
