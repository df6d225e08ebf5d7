//! The claims of a WLCG token (profile section 2).

use serde_json::Value;

use crate::clock::UnixSeconds;
use crate::jwt::{Object, take_apart};
use crate::scope::{ScopeError, ScopeSet};
use crate::secret::AccessToken;

/// The audience that fits everywhere (profile section 2.1.1).
pub const ANY_AUDIENCE: &str = "https://wlcg.cern.ch/jwt/v1/any";

/// Why the claims of a token can't be read. Holds nothing that the token's maker wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// Not three base64url parts around JSON objects, or an object has a member twice.
    #[error("the token is not a JWT, or one of its JSON objects has a member twice (RFC 7519 section 4)")]
    Unreadable,
    /// A claim that must be there is not.
    #[error("the claim `{0}` is missing (profile section 2.1.1)")]
    Missing(&'static str),
    /// A claim has another JSON type than the profile gives it.
    #[error("the claim `{0}` has the wrong JSON type (profile section 2.1.1)")]
    Type(&'static str),
    /// The subject is too long or not ASCII.
    #[error("`sub` is longer than 255 characters or not ASCII (profile section 2.1.1)")]
    Subject,
    /// A group breaks the grammar.
    #[error("a name in `wlcg.groups` breaks the grammar of groups (profile section 3.1)")]
    Group,
    /// Its scope has an item that the profile forbids.
    #[error("{0}")]
    Scope(#[from] ScopeError),
}

/// What a token says. Claims outside the profile are left unread, as section 4.3.3 wants.
///
/// ```
/// use token_core::{AccessToken, Claims};
/// # use base64::Engine as _;
/// # let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
/// # let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#), part(
/// #     r#"{"iss":"https://iam.example/","sub":"alice","aud":"https://se.example","exp":4600,"wlcg.ver":"1.0","scope":"storage.read:/data"}"#));
///
/// let claims = Claims::peek(&AccessToken::new(text)?)?; // looks only: nothing is checked
/// assert_eq!((claims.iss.as_str(), claims.aud.as_slice()), ("https://iam.example/", ["https://se.example".to_owned()].as_slice()));
/// assert_eq!(claims.scopes()?.to_string(), "storage.read:/data");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Issuer, compared as an exact string.
    pub iss: String,
    /// Subject, unique at its issuer.
    pub sub: Option<String>,
    /// Audiences; a single string in the token is a list of one.
    pub aud: Vec<String>,
    /// Not accepted at or after this time.
    pub exp: UnixSeconds,
    /// Not accepted before this time.
    pub nbf: Option<UnixSeconds>,
    /// Time of issue.
    pub iat: Option<UnixSeconds>,
    /// Unique id, for tracing.
    pub jti: Option<String>,
    /// Version of the profile, `wlcg.ver`.
    pub version: Option<String>,
    /// The scope string.
    pub scope: Option<String>,
    /// Groups, `wlcg.groups`, in the order they were asked for.
    pub groups: Vec<String>,
    /// The client that asked for it (RFC 8693 section 4.3). The profile knows no such claim, so one of another type is none.
    pub client_id: Option<String>,
}

impl Claims {
    /// Reads the claims of a token **without checking its signature**: for tokens that came from their issuer over TLS,
    /// or that FTS has already checked.
    ///
    /// # Errors
    /// When it is no JWT, has no `iss` or `exp`, or a claim has the wrong type.
    pub fn peek(token: &AccessToken) -> Result<Self, ClaimsError> {
        Self::from_object(&take_apart(token.expose()).ok_or(ClaimsError::Unreadable)?.claims)
    }

    pub(crate) fn from_object(claims: &Object) -> Result<Self, ClaimsError> {
        Ok(Self {
            iss: text(claims, "iss")?.ok_or(ClaimsError::Missing("iss"))?,
            sub: text(claims, "sub")?,
            aud: match claims.get("aud") {
                None => Vec::new(),
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(many)) => texts(many).ok_or(ClaimsError::Type("aud"))?,
                Some(_) => return Err(ClaimsError::Type("aud")),
            },
            exp: time(claims, "exp")?.ok_or(ClaimsError::Missing("exp"))?,
            nbf: time(claims, "nbf")?,
            iat: time(claims, "iat")?,
            jti: text(claims, "jti")?,
            version: text(claims, "wlcg.ver")?,
            scope: text(claims, "scope")?,
            groups: match claims.get("wlcg.groups") {
                None => Vec::new(),
                Some(Value::Array(many)) => texts(many).ok_or(ClaimsError::Type("wlcg.groups"))?,
                Some(_) => return Err(ClaimsError::Type("wlcg.groups")),
            },
            client_id: claims.get("client_id").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// The scopes.
    ///
    /// # Errors
    /// When an item is a storage scope without a normal path; the whole token is then to be refused.
    pub fn scopes(&self) -> Result<ScopeSet, ScopeError> {
        ScopeSet::parse(self.scope.as_deref().unwrap_or(""))
    }

    /// The groups that count: none, when the token holds any capability of the profile, whether it fits here or not (section
    /// 2.2.3 of 1.1 and later: a service that knows both uses the capabilities only).
    ///
    /// # Errors
    /// As [`Self::scopes`].
    pub fn effective_groups(&self) -> Result<&[String], ScopeError> {
        Ok(if self.scopes()?.has_capability() { &[] } else { &self.groups })
    }

    /// Whether subject and groups keep to the profile's grammar.
    pub(crate) fn check_names(&self) -> Result<(), ClaimsError> {
        if self.sub.as_ref().is_some_and(|sub| sub.len() > 255 || !sub.is_ascii()) {
            return Err(ClaimsError::Subject);
        }
        if self.groups.iter().all(|group| is_group(group)) { Ok(()) } else { Err(ClaimsError::Group) }
    }
}

/// A slash and a name, once or more; a name begins with a letter or digit (section 3.1).
fn is_group(group: &str) -> bool {
    let name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    group.strip_prefix('/').is_some_and(|rest| rest.split('/').all(name))
}

fn text(claims: &Object, name: &'static str) -> Result<Option<String>, ClaimsError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ClaimsError::Type(name)),
    }
}

fn texts(items: &[Value]) -> Option<Vec<String>> {
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A NumericDate; fractions are allowed (RFC 7519 section 2) and cut.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn time(claims: &Object, name: &'static str) -> Result<Option<UnixSeconds>, ClaimsError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole =
        value.as_i64().or_else(|| value.as_f64().filter(|v| v.abs() < 1e15).map(|v| v.floor() as i64));
    whole.map(|seconds| Some(UnixSeconds(seconds))).ok_or(ClaimsError::Type(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Result<Claims, ClaimsError> {
        Claims::from_object(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn audience_is_a_string_or_a_list_of_strings() {
        assert_eq!(claims(r#"{"iss":"i","exp":1,"aud":"a"}"#).unwrap().aud, ["a"]);
        assert_eq!(claims(r#"{"iss":"i","exp":1,"aud":["a","b"]}"#).unwrap().aud, ["a", "b"]);
        assert!(claims(r#"{"iss":"i","exp":1}"#).unwrap().aud.is_empty());
        assert_eq!(claims(r#"{"iss":"i","exp":1,"aud":[1]}"#), Err(ClaimsError::Type("aud")));
    }

    #[test]
    fn times_are_numbers() {
        assert_eq!(claims(r#"{"iss":"i","exp":1.9}"#).unwrap().exp, UnixSeconds(1));
        for bad in [r#"{"iss":"i","exp":"1"}"#, r#"{"iss":"i","exp":1e300}"#, r#"{"iss":"i","exp":null}"#] {
            assert_eq!(claims(bad), Err(ClaimsError::Type("exp")), "{bad}");
        }
        assert_eq!(claims(r#"{"iss":"i"}"#), Err(ClaimsError::Missing("exp")));
    }

    #[test]
    fn capabilities_win_over_groups() {
        let groups = |scope: &str| {
            let claims = claims(&format!(r#"{{"iss":"i","exp":1,"scope":"{scope}","wlcg.groups":["/vo"]}}"#));
            claims.unwrap().effective_groups().unwrap().to_vec()
        };
        assert_eq!(groups("openid"), ["/vo"]);
        assert!(groups("compute.create").is_empty());
        assert!(groups("openid storage.read:/elsewhere").is_empty());
    }
}
