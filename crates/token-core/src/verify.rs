//! Whether a token may be believed, here and now.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::claims::{ANY_AUDIENCE, Claims};
use crate::clock::UnixSeconds;
use crate::scope::ScopeError;

/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The public keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet(JwkSet);

impl KeySet {
    /// Reads a JWKS document (RFC 7517 section 5).
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(json: &[u8]) -> Result<Self, VerifyError> {
        serde_json::from_slice(json).map(Self).map_err(|_| VerifyError::Keys)
    }

    fn key(&self, kid: &str, algorithm: Algorithm) -> Option<&Jwk> {
        self.0.keys.iter().find(|key| key.common.key_id.as_deref() == Some(kid) && fits(key, algorithm))
    }
}

/// The key's own type decides, never the token's header alone.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let usable = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES256) => ec.curve == EllipticCurve::P256,
        _ => false,
    };
    usable && kind
}

/// What a token must be for one resource.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The trusted issuer, as an exact string.
    pub issuer: String,
    /// The names under which this resource is an audience; a token needs one of them.
    pub audiences: Vec<String>,
    /// Whether the any-audience of the profile (section 2.1.1) passes too.
    pub any_audience: bool,
    /// How far this clock may be from the issuer's when `nbf` and `iat` are looked at, in seconds. There is no grace
    /// for `exp` (profile 1.1 and later).
    pub skew_s: i64,
}

/// Which rule a token broke. Holds nothing that the token's maker wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The issuer's keys are no JWKS.
    #[error("the issuer's keys are not a JWKS (RFC 7517 section 5)")]
    Keys,
    /// Too long.
    #[error("the token is over {MAX_TOKEN} bytes long")]
    TooLong,
    /// Not a JWT.
    #[error("the token is not a JWT, or a claim has the wrong type")]
    Malformed,
    /// `alg` is neither RS256 nor ES256.
    #[error("the signature algorithm is neither RS256 nor ES256 (profile section 2.1)")]
    Algorithm,
    /// A `crit` header: an extension we do not know.
    #[error("the header has a `crit` extension (RFC 7515 section 4.1.11)")]
    Critical,
    /// `typ` names something that is no access token.
    #[error("the header's `typ` is neither JWT nor at+jwt (RFC 9068 section 2.1)")]
    Type,
    /// No `kid`.
    #[error("the header has no `kid` (profile section 2.1)")]
    NoKeyId,
    /// No key of that id and type.
    #[error("the issuer has no key of the token's `kid` and algorithm")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("the issuer is not the trusted one")]
    Issuer,
    /// Not for this resource.
    #[error("the audience does not name this resource (profile section 2.1.1)")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// A major version we do not know.
    #[error("`wlcg.ver` is missing or its major version is not 1")]
    Version,
    /// The profile forbids one of its scopes.
    #[error("{0}")]
    Scope(#[from] ScopeError),
}

/// Checks a token and returns its claims.
///
/// # Errors
/// The first rule that the token breaks, in this order: form, header, key, signature, issuer, version, times, audience,
/// scope.
#[expect(clippy::disallowed_methods, reason = "the one place that decodes a token")]
pub fn verify(token: &str, keys: &KeySet, policy: &Policy, now: UnixSeconds) -> Result<Claims, VerifyError> {
    if token.len() > MAX_TOKEN {
        return Err(VerifyError::TooLong);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| VerifyError::Malformed)?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(VerifyError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(VerifyError::Critical);
    }
    if header.typ.is_some_and(|typ| !["jwt", "at+jwt", "application/at+jwt"].contains(&&*typ.to_lowercase()))
    {
        return Err(VerifyError::Type);
    }
    let kid = header.kid.ok_or(VerifyError::NoKeyId)?;
    let key = keys.key(&kid, header.alg).ok_or(VerifyError::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| VerifyError::Keys)?;

    // The library's own checks accept a missing `iss` or `aud` and read their own clock: only the signature is its.
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => VerifyError::Signature,
            _ => VerifyError::Malformed,
        })?
        .claims;

    check(&claims, policy, now)?;
    Ok(claims)
}

fn check(claims: &Claims, policy: &Policy, now: UnixSeconds) -> Result<(), VerifyError> {
    if claims.iss != policy.issuer {
        return Err(VerifyError::Issuer);
    }
    let major = claims.version.as_deref().and_then(|v| v.split_once('.'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !major.is_some_and(|(major, minor)| major == "1" && digits(minor)) {
        return Err(VerifyError::Version);
    }
    if claims.exp <= now {
        return Err(VerifyError::Expired);
    }
    let ahead = UnixSeconds(now.0.saturating_add(policy.skew_s));
    if [claims.nbf, claims.iat].into_iter().flatten().any(|time| time > ahead) {
        return Err(VerifyError::NotYet);
    }
    let ours = |aud: &String| policy.audiences.contains(aud) || (policy.any_audience && aud == ANY_AUDIENCE);
    if !claims.aud.iter().any(ours) {
        return Err(VerifyError::Audience);
    }
    claims.scopes()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn key() -> EncodingKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
    }

    fn keys(key: &EncodingKey) -> KeySet {
        let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some("k".into());
        KeySet(JwkSet { keys: vec![jwk] })
    }

    fn policy() -> Policy {
        Policy { issuer: "https://i".into(), audiences: vec!["a".into()], any_audience: false, skew_s: 60 }
    }

    fn outcome(change: impl Fn(&mut Value, &mut Header)) -> Result<Claims, VerifyError> {
        let key = key();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k".into());
        let mut claims = json!({"iss": "https://i", "aud": "a", "exp": NOW.0 + 10, "nbf": NOW.0 - 10, "iat": NOW.0,
            "wlcg.ver": "1.0", "sub": "s", "scope": "storage.read:/"});
        change(&mut claims, &mut header);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        verify(&token, &keys(&key), &policy(), NOW)
    }

    #[test]
    fn a_sound_token_passes_and_each_rule_is_named() {
        assert!(outcome(|_, _| ()).is_ok());
        let bad = |change: fn(&mut Value, &mut Header)| outcome(change).unwrap_err();
        assert_eq!(bad(|c, _| c["iss"] = json!("https://i/")), VerifyError::Issuer);
        assert_eq!(bad(|c, _| c["aud"] = json!(["b", ANY_AUDIENCE])), VerifyError::Audience);
        assert_eq!(
            bad(|c, _| {
                c.as_object_mut().unwrap().remove("aud");
            }),
            VerifyError::Audience
        );
        assert_eq!(bad(|c, _| c["exp"] = json!(NOW.0)), VerifyError::Expired);
        assert_eq!(bad(|c, _| c["nbf"] = json!(NOW.0 + 61)), VerifyError::NotYet);
        assert_eq!(bad(|c, _| c["wlcg.ver"] = json!("2.0")), VerifyError::Version);
        assert!(outcome(|c, _| c["wlcg.ver"] = json!("1.7")).is_ok());
        assert_eq!(
            bad(|c, _| c["scope"] = json!("storage.read")),
            VerifyError::Scope(ScopeError::NoPath("storage.read"))
        );
        assert_eq!(bad(|_, h| h.kid = Some("other".into())), VerifyError::UnknownKey);
        assert_eq!(bad(|_, h| h.kid = None), VerifyError::NoKeyId);
        assert_eq!(bad(|_, h| h.typ = Some("JWE".into())), VerifyError::Type);
        assert_eq!(bad(|_, h| h.crit = Some(vec!["x".into()])), VerifyError::Critical);
    }

    #[test]
    fn another_key_of_the_same_id_does_not_pass() {
        let (signer, published) = (key(), key());
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k".into());
        let token = jsonwebtoken::encode(&header, &json!({"iss": "https://i", "exp": 1}), &signer).unwrap();
        assert_eq!(verify(&token, &keys(&published), &policy(), NOW).unwrap_err(), VerifyError::Signature);
        header.alg = Algorithm::HS256;
        let mac = EncodingKey::from_secret(b"k");
        let token = jsonwebtoken::encode(&header, &json!({"iss": "https://i", "exp": 1}), &mac).unwrap();
        assert_eq!(verify(&token, &keys(&published), &policy(), NOW).unwrap_err(), VerifyError::Algorithm);
        assert_eq!(verify("x", &keys(&published), &policy(), NOW).unwrap_err(), VerifyError::Malformed);
    }
}
