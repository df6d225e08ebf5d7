//! The service's certificate.

use std::path::Path;
use std::sync::Arc;

use daemon::Failure;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// TLS by a certificate and its key.
///
/// # Errors
/// When a file can't be read or used.
pub(super) fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let wrong = |name: &str, path: &Path, why: &dyn std::fmt::Display| {
        Failure::configuration(format!("`api.{name}` = {}: {why}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong("certificate_file", certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong("certificate_file", certificate, &"it holds no PEM certificate"));
    }
    // What is wrong with a key file is not shown: it might be some of the key.
    let unreadable = "it can't be read, or holds no PEM private key without a passphrase";
    let private = PrivateKeyDer::from_pem_file(key).map_err(|_| wrong("key_file", key, &unreadable))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::configuration)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong("key_file", key, &format!("it does not go with the certificate: {error}")))?;
    Ok(Arc::new(config))
}
