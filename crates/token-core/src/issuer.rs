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
    /// Not https.
    #[error("the issuer is not https (plain http has to be allowed, and on a loopback address)")]
    NotHttps,
    /// Has a query, a fragment or a user name.
    #[error(
        "the issuer has a query, a fragment or a user name, which OpenID Connect Discovery does not allow"
    )]
    Extras,
}

/// An issuer, as the exact string of its `iss` claim. A slash at the end matters: the profile compares bytes.
///
/// ```
/// use token_core::Issuer;
///
/// assert_ne!(Issuer::new("https://iam.example/")?, Issuer::new("https://iam.example")?);
/// assert!(Issuer::new("http://127.0.0.1:8080/").is_err());
/// assert!(Issuer::on_loopback("http://127.0.0.1:8080/").is_ok());
/// # Ok::<(), token_core::IssuerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Issuer(String);

impl Issuer {
    /// Takes an issuer's name.
    ///
    /// # Errors
    /// When it is no https URL (RFC 8414 section 2).
    pub fn new(text: impl Into<String>) -> Result<Self, IssuerError> {
        Self::checked(text.into(), false)
    }

    /// As [`Self::new`], and takes plain http on a loopback address too. Secrets and tokens then pass in the clear on this
    /// machine: for issuers behind a proxy on the same host, and for trying things out.
    ///
    /// # Errors
    /// When it is no https URL, and no http URL of a loopback address.
    pub fn on_loopback(text: impl Into<String>) -> Result<Self, IssuerError> {
        Self::checked(text.into(), true)
    }

    fn checked(text: String, plain_http: bool) -> Result<Self, IssuerError> {
        let url = Url::parse(&text).map_err(|_| IssuerError::NotAUrl)?;
        if !url.has_host() {
            return Err(IssuerError::NotAUrl);
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(IssuerError::Extras);
        }
        if !(url.scheme() == "https" || (plain_http && plain_loopback(&url))) {
            return Err(IssuerError::NotHttps);
        }
        Ok(Self(text))
    }

    /// Whether a secret may be sent to this address that the issuer named: https, or, for an issuer that is plain http on a
    /// loopback address itself, that.
    pub(crate) fn trusts(&self, url: &Url) -> bool {
        let plain = || Url::parse(&self.0).is_ok_and(|own| plain_loopback(&own));
        url.scheme() == "https" || (plain_loopback(url) && plain())
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

fn plain_loopback(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && loopback
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
    fn plain_http_is_for_loopback_and_only_when_allowed() {
        let secure = ["https://iam.example/", "https://iam.example"];
        let plain = ["http://127.0.0.1:8080/", "http://[::1]:1/x", "http://localhost:1"];
        let never =
            ["iam.example", "http://iam.example", "https://iam.example/?a", "https://u@iam.example", ""];
        for text in secure {
            assert!(Issuer::new(text).is_ok() && Issuer::on_loopback(text).is_ok(), "{text}");
        }
        for text in plain {
            assert!(Issuer::new(text).is_err() && Issuer::on_loopback(text).is_ok(), "{text}");
        }
        for text in never {
            assert!(Issuer::new(text).is_err() && Issuer::on_loopback(text).is_err(), "{text}");
        }
        let url = Url::parse("http://127.0.0.1:1/token").unwrap();
        assert!(
            !Issuer::new(secure[0]).unwrap().trusts(&url)
                && Issuer::on_loopback(plain[0]).unwrap().trusts(&url)
        );
    }
}
