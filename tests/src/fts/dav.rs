//! The requests that gfal2 and davix send to a storage.

use std::time::Duration;

use anyhow::Result;
use token_core::AccessToken;
use url::Url;

use super::failure::Trouble;
use super::wire::{Reply, Request, Wire};
use crate::pki::Pki;

/// How much of an answer is kept.
const LIMIT: usize = 1024 * 1024;
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A copy lasts as long as it lasts.
const COPY_TIMEOUT: Duration = Duration::from_secs(3600);

/// A client of storage.
#[derive(Clone)]
pub(super) struct Dav {
    wire: Wire,
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
        Ok(Self { wire: Wire::new(pki.client()?) })
    }

    /// The size of a file or directory, by PROPFIND.
    pub(super) async fn stat(&self, end: &End) -> Result<u64, Trouble> {
        let reply = self.accepted("PROPFIND", end, vec![("Depth", "0".into())]).await?;
        Ok(content_length(&String::from_utf8_lossy(&reply.body)).unwrap_or(0))
    }

    /// Whether HEAD finds the file.
    pub(super) async fn head(&self, end: &End) -> Result<u64, Trouble> {
        let reply = self.accepted("HEAD", end, Vec::new()).await?;
        Ok(reply.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0))
    }

    /// The checksum that the storage has (RFC 3230), or none if it tells none.
    pub(super) async fn checksum(&self, end: &End, algorithm: &str) -> Result<Option<String>, Trouble> {
        let reply = self.accepted("HEAD", end, vec![("Want-Digest", algorithm.to_owned())]).await?;
        let digest = reply.header("Digest").unwrap_or_default();
        let found = digest.split(',').filter_map(|item| item.trim().split_once('='));
        Ok(found
            .filter(|(name, _)| name.eq_ignore_ascii_case(algorithm))
            .map(|(_, value)| value.to_ascii_lowercase())
            .next())
    }

    /// MKCOL, DELETE, and the POST that asks for a macaroon: only their status matters.
    pub(super) async fn plain(&self, method: &str, end: &End) -> Result<(), Trouble> {
        self.accepted(method, end, Vec::new()).await.map(drop)
    }

    /// Third-party pull: COPY to the destination, which reads the source with the source's token. Gives the last line of
    /// the markers; when the connection breaks off, what was the last line then is no success.
    pub(super) async fn pull(&self, source: &End, destination: &End) -> Result<String, Trouble> {
        let mut headers = vec![
            ("Source", source.url.to_string()),
            ("Credential", "none".into()),
            ("RequireChecksumVerification", "false".into()),
        ];
        if let Some(token) = &source.token {
            headers.push(("TransferHeaderAuthorization", format!("Bearer {}", token.expose())));
        }
        let body = self.accepted("COPY", destination, headers).await?.body;
        let text = String::from_utf8_lossy(&body);
        Ok(text.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default().to_owned())
    }

    async fn accepted(
        &self,
        method: &str,
        end: &End,
        mut headers: Vec<(&'static str, String)>,
    ) -> Result<Reply, Trouble> {
        if let Some(token) = &end.token {
            headers.push(("Authorization", format!("Bearer {}", token.expose())));
        }
        let timeout = if method == "COPY" { COPY_TIMEOUT } else { TIMEOUT };
        let reply = self.wire.send(Request { method, url: &end.url, headers, timeout, limit: LIMIT }).await?;
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(Trouble::Status(reply.status)) }
    }
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
