//! What is asked for, and in which words.

use serde::Deserialize;

use crate::scope::{Scope, ScopeSet};

/// The scope by which a refresh token is asked for (OpenID Connect Core section 11). It is no right of the access token,
/// so answers are not measured by it.
pub(super) const OFFLINE: &str = "offline_access";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The resource that shall take the token; several stand with a space between them.
    pub audience: String,
    /// The scopes; always sent, since some issuers give everything when asked for nothing.
    pub scope: ScopeSet,
}

/// By which parameter an issuer is asked for an audience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudienceParameter {
    /// `audience` (RFC 8693 section 2.1, and INDIGO IAM for every grant): one parameter, as INDIGO IAM reads it.
    #[default]
    Audience,
    /// `resource` (RFC 8707 section 2): one parameter for each.
    Resource,
    /// Both.
    Both,
    /// None: the scopes or the client's registration tell the issuer. The answer is still measured by the audience of the
    /// request, unless that is empty.
    None,
}

impl TokenRequest {
    /// The audiences.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.audience.split(' ').filter(|one| !one.is_empty())
    }

    /// The scope parameter, with `offline_access` if a refresh token is wanted.
    pub(super) fn scope_parameter(&self, refresh: bool) -> String {
        let offline = refresh.then(|| Scope::Other(OFFLINE.to_owned()));
        self.scope.iter().cloned().chain(offline).collect::<ScopeSet>().to_string()
    }
}

impl AudienceParameter {
    /// The parameters for this request.
    pub(super) fn parameters(self, request: &TokenRequest) -> Vec<(&'static str, &str)> {
        let mut form = Vec::new();
        if matches!(self, Self::Resource | Self::Both) {
            form.extend(request.audiences().map(|one| ("resource", one)));
        }
        if matches!(self, Self::Audience | Self::Both) {
            form.push(("audience", request.audience.as_str()));
        }
        form
    }
}

/// Without `offline_access`.
pub(super) fn rights(scope: &ScopeSet) -> ScopeSet {
    scope.iter().filter(|scope| !matches!(scope, Scope::Other(item) if item == OFFLINE)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_asked_for_in_the_issuers_words() {
        let request = TokenRequest { audience: "https://a https://b".into(), scope: ScopeSet::default() };
        let both =
            [("resource", "https://a"), ("resource", "https://b"), ("audience", "https://a https://b")];
        assert_eq!(AudienceParameter::Both.parameters(&request), both);
        assert_eq!(AudienceParameter::Resource.parameters(&request), both[..2]);
        assert_eq!(AudienceParameter::default().parameters(&request), both[2..]);
        assert!(AudienceParameter::None.parameters(&request).is_empty());
    }

    #[test]
    fn a_refresh_token_is_asked_for_by_a_scope_that_is_no_right() {
        let scope = ScopeSet::parse("storage.read:/a").unwrap();
        let request = TokenRequest { audience: "a".into(), scope: scope.clone() };
        assert_eq!(request.scope_parameter(false), "storage.read:/a");
        let asked = ScopeSet::parse(&request.scope_parameter(true)).unwrap();
        assert_eq!(asked, ScopeSet::parse("offline_access storage.read:/a").unwrap());
        assert_eq!(rights(&asked), scope);
    }
}
