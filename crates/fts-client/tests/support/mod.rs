//! A server on loopback with a certificate authority of its own, which answers with whatever bytes a test wants.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// One request as it came.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the client showed a certificate.
    pub(crate) certificate: bool,
}

/// What the server does with a request.
pub(crate) enum Reaction {
    /// These bytes.
    Answer(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Hang,
    /// The connection is cut.
    Cut,
}

/// A running server; it ends with the runtime.
pub(crate) struct Server {
    pub(crate) url: Url,
    /// Where `ca.pem`, `client.pem` and `client.key` are.
    pub(crate) folder: tempfile::TempDir,
    connections: Arc<AtomicU64>,
}

/// An answer with a JSON body.
pub(crate) fn json(status: u16, body: &str) -> Reaction {
    Reaction::Answer(answer(status, "application/json", body.as_bytes()))
}

/// The bytes of an answer.
pub(crate) fn answer(status: u16, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes =
        format!("HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Server {
    pub(crate) async fn start(react: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = TlsAcceptor::from(certificates(folder.path()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let (react, counted) = (Arc::new(react), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (tls, react) = (tls.clone(), Arc::clone(&react));
                tokio::spawn(async move { serve(stream, tls, react.as_ref()).await });
            }
        });
        Self { url, folder, connections }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, react: &(impl Fn(&Request) -> Reaction + Sync)) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().is_some();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream, certificate).await {
        match react(&request) {
            Reaction::Answer(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Reaction::Hang => std::future::pending().await,
            Reaction::Cut => return,
        }
    }
}

async fn read<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
    certificate: bool,
) -> Option<Request> {
    let line = text_line(stream).await?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let line = text_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line, method, target, headers, body, certificate })
}

async fn text_line<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}

/// An authority, a server under it, and a client under it, whose files go into `folder`.
fn certificates(folder: &Path) -> Arc<ServerConfig> {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let put = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    put("ca.pem", authority.pem());

    let client_key = KeyPair::generate().unwrap();
    let client =
        CertificateParams::new(vec!["user".into()]).unwrap().signed_by(&client_key, &issuer).unwrap();
    put("client.pem", client.pem());
    put("client.key", client_key.serialize_pem());

    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".into(), "localhost".into()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}
