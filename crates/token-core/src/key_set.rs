//! The public keys of an issuer.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::verify::VerifyError;

/// The public keys of one issuer with which its tokens may be signed.
///
/// ```
/// use token_core::KeySet;
///
/// // Keys of other kinds, for other uses or without `kid` are passed over, as RFC 7517 section 5 wants.
/// assert!(KeySet::parse(br#"{"keys":[{"kty":"of-next-year","kid":"a"}]}"#).is_ok());
/// assert!(KeySet::parse(b"{}").is_err());
/// assert!(KeySet::parse(b"{\"keys\":[],\"of-next-year\":\"\xff\"}").is_err(), "no UTF-8, no JSON");
/// ```
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWKS document (RFC 7517 section 5).
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(json: &[u8]) -> Result<Self, VerifyError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        // What is passed over has to be text too.
        let text = std::str::from_utf8(json).map_err(|_| VerifyError::Keys)?;
        let Document { keys } = serde_json::from_str(text).map_err(|_| VerifyError::Keys)?;
        Ok(Self(keys.into_iter().filter_map(Key::read).collect()))
    }

    /// How many keys there are that a token may be signed with.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that can have made a signature of this algorithm under this id.
    pub(crate) fn keys(&self, kid: &str, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| key.kid == kid && key.algorithm == algorithm;
        self.0.iter().filter(fits).map(|key| &key.key)
    }
}

impl Key {
    /// `None` for a key that signs nothing we take. The key's own type decides its algorithm, never the token's header.
    fn read(json: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        let common = &jwk.common;
        let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature))
            && common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify))
            && common.key_algorithm.is_none_or(|alg| alg == named);
        let kid = common.key_id.clone().filter(|_| signs)?;
        Some(Self { kid, algorithm, key: DecodingKey::from_jwk(&jwk).ok()? })
    }
}
