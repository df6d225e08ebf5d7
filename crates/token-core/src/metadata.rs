//! What an issuer says of itself.

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::error::TokenError;
use crate::http;
use crate::issuer::Issuer;

const CALL: &str = "discovery";
const LIMIT: usize = 256 * 1024;

/// The part of an issuer's metadata that we use.
///
/// ```
/// use token_core::{Issuer, IssuerMetadata};
///
/// let document = br#"{"issuer": "https://iam.example/", "token_endpoint": "https://iam.example/token",
///     "jwks_uri": "https://iam.example/jwk"}"#;
/// let issuer = Issuer::new("https://iam.example/")?;
/// assert_eq!(IssuerMetadata::parse(document, &issuer)?.token_endpoint.path(), "/token");
/// let other = Issuer::new("https://iam.example")?;
/// assert!(IssuerMetadata::parse(document, &other).is_err(), "the slash at the end counts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct IssuerMetadata {
    /// The issuer's own name, equal to the one asked for.
    pub issuer: String,
    /// Where tokens are asked for.
    pub token_endpoint: Url,
    /// Where its public keys are.
    pub jwks_uri: Url,
    /// Where device codes are asked for (RFC 8628 section 4), if it gives any.
    #[serde(default)]
    pub device_authorization_endpoint: Option<Url>,
    /// The grants that it says it has (RFC 8414 section 2). Without the list nothing is said; few list all they have.
    #[serde(default)]
    pub grant_types_supported: Option<Vec<String>>,
}

impl IssuerMetadata {
    /// Reads a metadata document (OpenID Connect Discovery section 4.2, RFC 8414 section 3.2) that was fetched from `issuer`.
    ///
    /// # Errors
    /// When it can't be read, is of an issuer of another name, or names an endpoint without TLS.
    pub fn parse(document: &[u8], issuer: &Issuer) -> Result<Self, TokenError> {
        let unreadable = || bad(issuer, "the metadata document can't be read");
        check(issuer, Self::peek(document).ok_or_else(unreadable)?)
    }

    /// Reads a metadata document of whatever issuer, for a person who wants to know how it names itself: nothing is checked.
    pub fn peek(document: &[u8]) -> Option<Self> {
        // What is passed over has to be text too.
        serde_json::from_str(std::str::from_utf8(document).ok()?).ok()
    }

    /// Where an issuer's document may be: OpenID Connect Discovery first, then RFC 8414 for an issuer that has no such document.
    pub fn places(issuer: &Issuer) -> Vec<Url> {
        let base = Url::parse(issuer.without_slash()).ok();
        let openid = Url::parse(&format!("{}/.well-known/openid-configuration", issuer.without_slash())).ok();
        // RFC 8414 section 3.1: the well-known part stands between host and path.
        let rfc8414 = base.and_then(|url| {
            let path = url.path().trim_end_matches('/');
            url.join(&format!("/.well-known/oauth-authorization-server{path}")).ok()
        });
        openid.into_iter().chain(rfc8414).collect()
    }
}

/// Fetches an issuer's metadata: OpenID Connect Discovery first, then RFC 8414 for an issuer that has no such document.
///
/// # Errors
/// When the issuer can't be reached, has neither document, names itself otherwise, or names an endpoint without TLS.
pub async fn discover(client: &Client, issuer: &Issuer) -> Result<IssuerMetadata, TokenError> {
    for url in IssuerMetadata::places(issuer) {
        if let Some(metadata) = fetch(client, issuer, &url).await? {
            return Ok(metadata);
        }
    }
    Err(bad(issuer, "it has neither an OpenID nor an OAuth metadata document"))
}

async fn fetch(client: &Client, issuer: &Issuer, url: &Url) -> Result<Option<IssuerMetadata>, TokenError> {
    let broken = |error: reqwest::Error| TokenError::Unreachable {
        issuer: issuer.to_string(),
        call: CALL,
        reason: http::reason(&error),
    };
    #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
    let response = client.get(url.clone()).send().await.map_err(broken)?;
    match response.status() {
        StatusCode::OK => (),
        StatusCode::NOT_FOUND => return Ok(None),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            let retry_after = http::retry_after(&response);
            return Err(TokenError::Busy {
                issuer: issuer.to_string(),
                call: CALL,
                status: status.as_u16(),
                retry_after,
            });
        }
        _ => return Err(bad(issuer, "the metadata document is answered with an unexpected status")),
    }
    let body = http::body(response, LIMIT).await.map_err(broken)?;
    let body = body.ok_or_else(|| bad(issuer, "the metadata document is too long"))?;
    IssuerMetadata::parse(&body, issuer).map(Some)
}

fn check(issuer: &Issuer, metadata: IssuerMetadata) -> Result<IssuerMetadata, TokenError> {
    if metadata.issuer != issuer.as_str() {
        return Err(TokenError::Mismatch {
            issuer: issuer.to_string(),
            call: CALL,
            reason: "its metadata names another issuer; a slash at the end counts".into(),
        });
    }
    let device = metadata.device_authorization_endpoint.as_ref();
    if ![Some(&metadata.token_endpoint), Some(&metadata.jwks_uri), device]
        .into_iter()
        .flatten()
        .all(|url| issuer.trusts(url))
    {
        return Err(bad(issuer, "its metadata names an endpoint that is not https"));
    }
    Ok(metadata)
}

fn bad(issuer: &Issuer, reason: &'static str) -> TokenError {
    TokenError::BadAnswer { issuer: issuer.to_string(), call: CALL, reason }
}
