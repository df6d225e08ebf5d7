//! Signing keys, and tokens signed with them: the issuer's, and those that tests forge.

use anyhow::{Context as _, Result};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let text = STANDARD.encode(&self.pkcs8);
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for (at, digit) in text.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(digit);
        }
        pem + "\n-----END PRIVATE KEY-----\n"
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
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
        }
    }
}
