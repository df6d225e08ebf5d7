//! The claims of a WLCG token (profile section 2).

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::clock::UnixSeconds;
use crate::scope::{ScopeError, ScopeSet};
use crate::secret::AccessToken;

/// The audience that fits everywhere (profile section 2.1.1).
pub const ANY_AUDIENCE: &str = "https://wlcg.cern.ch/jwt/v1/any";

/// Why the claims of a token can't be read. Holds nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// Not three base64url parts around JSON objects, or a claim has the wrong JSON type.
    #[error("the token is not a JWT whose claims have the types of the profile")]
    Unreadable,
    /// Its scope has an item that the profile forbids.
    #[error("{0}")]
    Scope(#[from] ScopeError),
}

/// What a token says. Claims outside the profile are left unread, as section 4.3.3 wants.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// Issuer, compared as an exact string.
    pub iss: String,
    /// Subject, unique at its issuer.
    #[serde(default)]
    pub sub: Option<String>,
    /// Audiences; a single string in the token is a list of one.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Not accepted at or after this time.
    #[serde(deserialize_with = "seconds")]
    pub exp: UnixSeconds,
    /// Not accepted before this time.
    #[serde(default, deserialize_with = "seconds_opt")]
    pub nbf: Option<UnixSeconds>,
    /// Time of issue.
    #[serde(default, deserialize_with = "seconds_opt")]
    pub iat: Option<UnixSeconds>,
    /// Unique id, for tracing.
    #[serde(default)]
    pub jti: Option<String>,
    /// Version of the profile.
    #[serde(default, rename = "wlcg.ver")]
    pub version: Option<String>,
    /// The scope string.
    #[serde(default)]
    pub scope: Option<String>,
    /// Groups, in the order they were asked for.
    #[serde(default, rename = "wlcg.groups")]
    pub groups: Vec<String>,
}

impl Claims {
    /// Reads the claims of a token **without checking its signature**: for tokens that came from their issuer over TLS,
    /// or that FTS has already checked.
    ///
    /// # Errors
    /// When it is no JWT or a claim has the wrong type.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads claims without a check")]
    pub fn peek(token: &AccessToken) -> Result<Self, ClaimsError> {
        jsonwebtoken::dangerous::insecure_decode::<Self>(token.expose())
            .map(|data| data.claims)
            .map_err(|_| ClaimsError::Unreadable)
    }

    /// The scopes.
    ///
    /// # Errors
    /// When an item is a storage scope without a normal path; the whole token is then to be refused.
    pub fn scopes(&self) -> Result<ScopeSet, ScopeError> {
        ScopeSet::parse(self.scope.as_deref().unwrap_or(""))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = many.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }
    input.deserialize_any(OneOrMany)
}

/// A NumericDate; fractions are allowed (RFC 7519 section 2) and cut.
fn seconds<'de, D: Deserializer<'de>>(input: D) -> Result<UnixSeconds, D::Error> {
    struct Seconds;
    impl Visitor<'_> for Seconds {
        type Value = UnixSeconds;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds")
        }

        fn visit_i64<E: de::Error>(self, v: i64) -> Result<UnixSeconds, E> {
            Ok(UnixSeconds(v))
        }

        fn visit_u64<E: de::Error>(self, v: u64) -> Result<UnixSeconds, E> {
            i64::try_from(v).map(UnixSeconds).map_err(|_| E::custom("too large"))
        }

        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        fn visit_f64<E: de::Error>(self, v: f64) -> Result<UnixSeconds, E> {
            if (0.0..1e15).contains(&v) { Ok(UnixSeconds(v as i64)) } else { Err(E::custom("out of range")) }
        }
    }
    input.deserialize_any(Seconds)
}

fn seconds_opt<'de, D: Deserializer<'de>>(input: D) -> Result<Option<UnixSeconds>, D::Error> {
    seconds(input).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Result<Claims, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn audience_is_a_string_or_a_list_of_strings() {
        assert_eq!(claims(r#"{"iss":"i","exp":1,"aud":"a"}"#).unwrap().aud, ["a"]);
        assert_eq!(claims(r#"{"iss":"i","exp":1,"aud":["a","b"]}"#).unwrap().aud, ["a", "b"]);
        assert!(claims(r#"{"iss":"i","exp":1}"#).unwrap().aud.is_empty());
        assert!(claims(r#"{"iss":"i","exp":1,"aud":[1]}"#).is_err());
    }

    #[test]
    fn times_are_numbers() {
        assert_eq!(claims(r#"{"iss":"i","exp":1.9}"#).unwrap().exp, UnixSeconds(1));
        for bad in [r#"{"iss":"i","exp":"1"}"#, r#"{"iss":"i","exp":1e300}"#, r#"{"iss":"i"}"#] {
            assert!(claims(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_list_or_a_second_member_is_refused() {
        assert!(claims(r#"{"iss":"i","exp":1,"scope":["a"]}"#).is_err());
        assert!(claims(r#"{"iss":"i","exp":1,"exp":2}"#).is_err());
    }
}
