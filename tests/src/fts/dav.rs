//! The requests that gfal2 and davix send to a storage.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Client, Method, RequestBuilder, Response};
use token_core::AccessToken;
use token_core::http::{self, HttpSettings};
use url::Url;

use super::failure::Trouble;
use crate::pki::Pki;

/// Longest answer read, but for a copy's markers, of which only the last line is kept.
const LIMIT: usize = 1024 * 1024;

/// A client of storage.
#[derive(Clone)]
pub(super) struct Dav {
    client: Client,
    /// With a longer time-out: a copy lasts as long as it lasts.
    copier: Client,
}

/// One end of a transfer: a URL, and the token that goes with it.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) url: Url,
    pub(super) token: Option<AccessToken>,
}

impl Dav {
    /// A client that trusts the box's authority.
    pub(super) fn new(pki: &Pki) -> Result<Self> {
        let settings = |timeout| HttpSettings {
            ca_file: Some(pki.ca_file().to_owned()),
            connect_timeout: Duration::from_secs(5),
            timeout,
        };
        let client = http::client(&settings(Duration::from_secs(60)))?;
        let copier = http::client(&settings(Duration::from_secs(3600)))?;
        Ok(Self { client, copier })
    }

    /// The size of a file or directory, by PROPFIND.
    pub(super) async fn stat(&self, end: &End) -> Result<u64, Trouble> {
        let request = self.request("PROPFIND", end)?.header("Depth", "0");
        let response = accepted(send(request).await?)?;
        let body = http::body(response, LIMIT).await.map_err(trouble)?.unwrap_or_default();
        Ok(content_length(&String::from_utf8_lossy(&body)).unwrap_or(0))
    }

    /// Whether HEAD finds the file.
    pub(super) async fn head(&self, end: &End) -> Result<u64, Trouble> {
        let response = accepted(send(self.request("HEAD", end)?).await?)?;
        let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
        Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0))
    }

    /// The checksum that the storage has (RFC 3230), or none if it tells none.
    pub(super) async fn checksum(&self, end: &End, algorithm: &str) -> Result<Option<String>, Trouble> {
        let request = self.request("HEAD", end)?.header("Want-Digest", algorithm);
        let response = accepted(send(request).await?)?;
        let digest =
            response.headers().get("Digest").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let found = digest.split(',').filter_map(|item| item.trim().split_once('='));
        Ok(found
            .filter(|(name, _)| name.eq_ignore_ascii_case(algorithm))
            .map(|(_, value)| value.to_ascii_lowercase())
            .next())
    }

    /// MKCOL, DELETE, and the POST that asks for a macaroon: only their status matters.
    pub(super) async fn plain(&self, method: &str, end: &End) -> Result<(), Trouble> {
        accepted(send(self.request(method, end)?).await?).map(drop)
    }

    /// Third-party pull: COPY to the destination, which reads the source with the source's token. Gives the last line of
    /// the markers.
    pub(super) async fn pull(&self, source: &End, destination: &End) -> Result<String, Trouble> {
        let mut request = request(&self.copier, "COPY", destination)?
            .header("Source", source.url.as_str())
            .header("Credential", "none")
            .header("RequireChecksumVerification", "false");
        if let Some(token) = &source.token {
            request = request.header("TransferHeaderAuthorization", format!("Bearer {}", token.expose()));
        }
        let mut response = accepted(send(request).await?)?;
        let mut line = Vec::new();
        // A connection that breaks off ends the markers: what was the last line then is no success.
        while let Ok(Some(chunk)) = response.chunk().await {
            for byte in chunk {
                if line.last() == Some(&b'\n') {
                    line.clear();
                }
                if line.len() < LIMIT {
                    line.push(byte);
                }
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
    }

    fn request(&self, method: &str, end: &End) -> Result<RequestBuilder, Trouble> {
        request(&self.client, method, end)
    }
}

fn request(client: &Client, method: &str, end: &End) -> Result<RequestBuilder, Trouble> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Trouble::Unreachable)?;
    let request = client.request(method, end.url.clone());
    Ok(match &end.token {
        Some(token) => request.bearer_auth(token.expose()),
        None => request,
    })
}

#[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bodies bounded by the callers")]
async fn send(request: RequestBuilder) -> Result<Response, Trouble> {
    request.send().await.map_err(trouble)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn trouble(error: reqwest::Error) -> Trouble {
    if error.is_timeout() { Trouble::Silent } else { Trouble::Unreachable }
}

fn accepted(response: Response) -> Result<Response, Trouble> {
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(Trouble::Status(status.as_u16())) }
}

/// `getcontentlength` of a PROPFIND answer (RFC 4918 section 15.4), whatever the prefix of its name.
fn content_length(xml: &str) -> Option<u64> {
    let after = xml.split_once("getcontentlength")?.1;
    let text = after.split_once('>')?.1;
    text.split('<').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_under_any_prefix() {
        for xml in [
            "<D:prop><lp1:getcontentlength>200000</lp1:getcontentlength></D:prop>",
            "<prop><getcontentlength xmlns=\"DAV:\"> 200000 </getcontentlength></prop>",
        ] {
            assert_eq!(content_length(xml), Some(200_000));
        }
        assert_eq!(content_length("<D:prop/>"), None);
    }
}
