//! Whether a token may be believed, here and now.

use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::claims::{ANY_AUDIENCE, Claims, ClaimsError};
use crate::clock::UnixSeconds;
use crate::jwt::{Object, take_apart};
use crate::key_set::KeySet;
use crate::profile::Profile;

/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// What a token must be for one resource.
///
/// ```
/// use token_core::{KeySet, Policy, Profile, UnixSeconds, VerifyError, verify};
///
/// let policy = Policy {
///     max_life_s: Some(6 * 3600),
///     profile: Profile::V1_2,
///     ..Policy::new("https://iam.example/", vec!["https://se.example".into()])
/// };
/// let keys = KeySet::parse(br#"{"keys":[]}"#)?;
/// // {"alg":"none","kid":"a"}.{}
/// let verdict = verify("eyJhbGciOiJub25lIiwia2lkIjoiYSJ9.e30.AA", &keys, &policy, UnixSeconds(1_000));
/// assert_eq!(verdict.unwrap_err(), VerifyError::Algorithm);
/// # Ok::<(), VerifyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// The trusted issuers, as exact strings.
    pub issuers: Vec<String>,
    /// The names under which this resource is an audience; a token needs one of them.
    pub audiences: Vec<String>,
    /// Whether the any-audience of the profile (section 2.1.1) passes too.
    pub any_audience: bool,
    /// The version of the profile that this resource implements.
    pub profile: Profile,
    /// How far this clock may be behind the issuer's when `nbf` is looked at, in seconds. The profile has the issuer backdate
    /// `nbf` instead.
    pub skew_s: i64,
    /// The longest life that is taken, from `iat` to `exp`, in seconds; the profile's own if it is stricter.
    pub max_life_s: Option<u64>,
    /// Whether a token without `sub`, `iat` or `jti` passes. The profile obliges the issuer to send them, and leaves open what
    /// a resource does without them.
    pub lenient: bool,
    /// Whether EdDSA signatures (RFC 8037, Ed25519) pass too. The profile knows RS256 and ES256 only (section 4.2.1).
    pub eddsa: bool,
}

impl Policy {
    /// For one issuer and the audiences of this resource, by the newest profile, strictly.
    pub fn new(issuer: impl Into<String>, audiences: Vec<String>) -> Self {
        Self {
            issuers: vec![issuer.into()],
            audiences,
            any_audience: false,
            profile: Profile::default(),
            skew_s: 0,
            max_life_s: None,
            lenient: false,
            eddsa: false,
        }
    }
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
    /// `alg` is none that this resource takes.
    #[error(
        "the signature algorithm is neither RS256 nor ES256, nor another that is allowed here (profile section 4.2.1)"
    )]
    Algorithm,
    /// A `crit` header: an extension we do not know.
    #[error("the header has a `crit` extension (RFC 7515 section 4.1.11)")]
    Critical,
    /// `typ` names something that is no access token.
    #[error("the header's `typ` is neither JWT nor at+jwt (RFC 9068 section 2.1)")]
    Type,
    /// No `kid`.
    #[error("the header has no `kid` (profile section 4.2.1)")]
    NoKeyId,
    /// No key of that id and type.
    #[error("the issuer has no key of the token's `kid` and algorithm")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("the issuer is not a trusted one (profile section 2.1.1; a slash at the end counts)")]
    Issuer,
    /// Not for this resource.
    #[error("the audience does not name this resource (profile section 2.1.1)")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is yet to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It lives longer than is taken.
    #[error("the token lives longer than this resource takes (profile section 4.1)")]
    Lifetime,
    /// A version we do not know.
    #[error("`wlcg.ver` is malformed or of an unknown version (profile section 2.1.1)")]
    Version,
    /// Its claims can't be read, one is missing, or one breaks a rule of its own.
    #[error("{0}")]
    Claims(#[from] ClaimsError),
}

/// Checks a token and returns its claims.
///
/// # Errors
/// The first rule that the token breaks, in this order: form, header, key, signature, issuer, version, times, audience,
/// names, scope.
pub fn verify(token: &str, keys: &KeySet, policy: &Policy, now: UnixSeconds) -> Result<Claims, VerifyError> {
    if token.len() > MAX_TOKEN {
        return Err(VerifyError::TooLong);
    }
    let parts = take_apart(token).ok_or(ClaimsError::Unreadable)?;
    let (algorithm, kid) = header(&parts.header, policy)?;
    // Only the signature is left to the library: its own checks of claims accept a missing `iss` or `aud`, and read a clock
    // of their own.
    let signs = |key| {
        jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), key, algorithm)
            .is_ok_and(|fits| fits)
    };
    let mut keys = keys.keys(kid, algorithm).peekable();
    keys.peek().ok_or(VerifyError::UnknownKey)?;
    if !keys.any(signs) {
        return Err(VerifyError::Signature);
    }
    let claims = Claims::from_object(&parts.claims)?;
    check(&claims, policy, now)?;
    Ok(claims)
}

/// The algorithm and the key's id. `jwk`, `jku` and `x5u` are not looked at: a token does not say whose key it is signed with.
fn header<'a>(header: &'a Object, policy: &Policy) -> Result<(Algorithm, &'a str), VerifyError> {
    let text = |name| header.get(name).map(|value| value.as_str().unwrap_or_default());
    let algorithm = match text("alg") {
        Some("RS256") => Algorithm::RS256,
        Some("ES256") => Algorithm::ES256,
        // RFC 9864 gives it a second name.
        Some("EdDSA" | "Ed25519") if policy.eddsa => Algorithm::EdDSA,
        _ => return Err(VerifyError::Algorithm),
    };
    if header.contains_key("crit") {
        return Err(VerifyError::Critical);
    }
    let types = ["jwt", "at+jwt", "application/at+jwt"];
    if text("typ").is_some_and(|typ| !types.iter().any(|known| known.eq_ignore_ascii_case(typ))) {
        return Err(VerifyError::Type);
    }
    match text("kid") {
        None | Some("") => Err(VerifyError::NoKeyId),
        Some(kid) => Ok((algorithm, kid)),
    }
}

/// The rules for claims, by themselves: for a token whose signature somebody else has checked.
///
/// # Errors
/// As [`verify`], from the issuer on.
pub fn check(claims: &Claims, policy: &Policy, now: UnixSeconds) -> Result<(), VerifyError> {
    let profile = policy.profile;
    if !policy.issuers.contains(&claims.iss) {
        return Err(VerifyError::Issuer);
    }
    let version = claims.version.as_deref().ok_or(ClaimsError::Missing("wlcg.ver"))?;
    if !profile.takes(version) {
        return Err(VerifyError::Version);
    }
    if claims.exp.plus(profile.grace()) <= now {
        return Err(VerifyError::Expired);
    }
    let ahead = UnixSeconds(now.0.saturating_add(policy.skew_s));
    if claims.nbf.is_some_and(|nbf| nbf > ahead) {
        return Err(VerifyError::NotYet);
    }
    let born = claims.iat.or(claims.nbf).unwrap_or(now);
    let ceiling = [profile.ceiling(), policy.max_life_s.map(Duration::from_secs)].into_iter().flatten().min();
    if ceiling.is_some_and(|ceiling| born.until(claims.exp) > ceiling) {
        return Err(VerifyError::Lifetime);
    }
    if claims.aud.is_empty() {
        return Err(ClaimsError::Missing("aud").into());
    }
    let ours = |aud: &String| policy.audiences.contains(aud) || (policy.any_audience && aud == ANY_AUDIENCE);
    if !claims.aud.iter().any(ours) {
        return Err(VerifyError::Audience);
    }
    if !policy.lenient {
        let there =
            [("sub", claims.sub.is_some()), ("iat", claims.iat.is_some()), ("jti", claims.jti.is_some())];
        if let Some((name, _)) = there.iter().find(|(_, there)| !there) {
            return Err(ClaimsError::Missing(name).into());
        }
    }
    claims.check_names()?;
    claims.scopes().map_err(ClaimsError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests;
