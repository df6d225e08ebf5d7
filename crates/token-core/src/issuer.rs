//! The name of an issuer.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Why a text is not an issuer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// Not a URL with a host.
    #[error("the issuer is not a URL with a host")]
    NotAUrl,
    /// Not https, and not http on a loopback address either.
    #[error("the issuer is not https (plain http is taken on loopback addresses only)")]
    NotHttps,
    /// Has a query, a fragment or a user name.
    #[error(
        "the issuer has a query, a fragment or a user name, which OpenID Connect Discovery does not allow"
    )]
    Extras,
}

/// An issuer, as the exact string of its `iss` claim. A slash at the end matters: the profile compares bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Issuer(String);

impl Issuer {
    /// Takes an issuer's name.
    ///
    /// # Errors
    /// When it is no https URL (RFC 8414 section 2); plain http passes for loopback addresses, where tests live.
    pub fn new(text: impl Into<String>) -> Result<Self, IssuerError> {
        let text = text.into();
        let url = Url::parse(&text).map_err(|_| IssuerError::NotAUrl)?;
        if !url.has_host() {
            return Err(IssuerError::NotAUrl);
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(IssuerError::Extras);
        }
        if !secure(&url) {
            return Err(IssuerError::NotHttps);
        }
        Ok(Self(text))
    }

    /// The exact string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with one slash at its end, which is how FTS's `t_token_provider.issuer` writes it.
    pub fn with_slash(&self) -> String {
        format!("{}/", self.without_slash())
    }

    /// The name without a slash at its end.
    pub fn without_slash(&self) -> &str {
        self.0.trim_end_matches('/')
    }

    /// Whether both name the same issuer but for a slash at the end.
    pub fn same_but_for_slash(&self, other: &str) -> bool {
        self.without_slash() == other.trim_end_matches('/')
    }
}

/// Whether a secret may be sent there: https, or http to a loopback address.
pub(crate) fn secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl TryFrom<String> for Issuer {
    type Error = IssuerError;

    fn try_from(text: String) -> Result<Self, IssuerError> {
        Self::new(text)
    }
}

impl From<Issuer> for String {
    fn from(issuer: Issuer) -> Self {
        issuer.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback() {
        for good in
            ["https://iam.example/", "https://iam.example", "http://127.0.0.1:8080/", "http://[::1]:1/x"]
        {
            assert!(Issuer::new(good).is_ok(), "{good}");
        }
        for bad in
            ["iam.example", "http://iam.example", "https://iam.example/?a", "https://u@iam.example", ""]
        {
            assert!(Issuer::new(bad).is_err(), "{bad}");
        }
    }
}
