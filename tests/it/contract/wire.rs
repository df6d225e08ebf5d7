//! One HTTP/1.1 request over TLS, byte for byte as it was recorded: a client library would tidy the path up and add headers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_LENGTH, HOST};
use axum::http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// From the connection to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer.
const LIMIT: usize = 64 * 1024 * 1024;

/// A client with one authority to trust, and a certificate of its own or none.
pub(crate) struct Wire(TlsConnector);

impl Wire {
    /// Trusts the authority of `ca_file`, and shows `identity` where it is asked for one.
    pub(crate) fn new(
        ca_file: &Path,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca_file).context("reading the authority's certificate")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Sends one request to a loopback server and waits for the whole answer. `Host` and `Content-Length` are filled in.
    pub(crate) async fn send(
        &self,
        to: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(target).body(Body::from(body.clone()))?;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&to.to_string())?);
        if !body.is_empty() {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        match tokio::time::timeout(PATIENCE, self.exchange(to, request)).await {
            Ok(answer) => answer.with_context(|| format!("{method} {target}")),
            Err(_) => bail!("{method} {target}: no answer within {} s", PATIENCE.as_secs()),
        }
    }

    async fn exchange(&self, to: SocketAddr, request: Request<Body>) -> Result<Response<Bytes>> {
        let stream = TcpStream::connect(to).await?;
        let stream = self.0.connect(ServerName::from(to.ip()), stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
        let running = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = to_bytes(Body::new(body), LIMIT).await?;
        drop(sender);
        running.abort();
        Ok(Response::from_parts(parts, body))
    }
}
