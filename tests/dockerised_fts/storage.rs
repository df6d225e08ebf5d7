//! A storage, as its users see it: WebDAV over HTTPS with a bearer token.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Certificate, Client, Method, redirect};
use token_core::AccessToken;
use url::Url;

/// One of the two.
pub(crate) struct Storage {
    /// A folder of it, as FTS knows it (davs).
    pub(crate) url: Url,
    /// The audience it takes.
    pub(crate) audience: String,
    http: Client,
}

impl Storage {
    pub(crate) fn new(url: &Url, audience: String, ca: &Path) -> Result<Self> {
        let http = client(ca).with_context(|| format!("authorities in {}", ca.display()))?;
        Ok(Self { url: url.clone(), audience, http })
    }

    /// The URL of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.url.as_str().trim_end_matches('/'))
    }

    /// The URL of a path from its root.
    pub(crate) fn at(&self, path: &str) -> Result<String> {
        let host = self.url.host_str().context("a storage's host")?;
        Ok(format!("davs://{host}:{}{path}", self.url.port().unwrap_or(443)))
    }

    /// Status and content.
    #[expect(clippy::disallowed_methods, reason = "time-outs set, sizes known, no redirects")]
    pub(crate) async fn call(
        &self,
        method: Method,
        davs: &str,
        token: &AccessToken,
        content: Vec<u8>,
    ) -> Result<(u16, Vec<u8>)> {
        let url = davs.replacen("davs://", "https://", 1);
        let answer = self.http.request(method, url).bearer_auth(token.expose()).body(content).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }
}

/// Writes `Authorization` as davix does: XRootD 5.5 takes a header for a token by its letters (observed).
#[expect(
    clippy::disallowed_methods,
    reason = "the one of token_core writes names of headers in small letters, as HTTP allows"
)]
fn client(ca: &Path) -> Result<Client> {
    let files = match ca.is_dir() {
        true => std::fs::read_dir(ca)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?,
        false => vec![ca.to_owned()],
    };
    let mut authorities = Vec::new();
    for file in files {
        authorities.extend(Certificate::from_pem_bundle(&std::fs::read(file)?).unwrap_or_default());
    }
    let builder = Client::builder().tls_certs_only(authorities).redirect(redirect::Policy::none()).no_proxy();
    // After a refusal it ends the connection and does not say so (observed): none is used twice.
    let builder = builder.http1_only().http1_title_case_headers().pool_max_idle_per_host(0);
    Ok(builder.timeout(Duration::from_secs(120)).build()?)
}
