//! A certificate authority of our own, and one certificate for every server on loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::mint::element;

/// The authority's certificate on disk, and the TLS settings of every server it vouches for.
#[derive(Clone)]
pub struct Pki {
    ca_file: PathBuf,
    ca: CertificateDer<'static>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    server: Arc<ServerConfig>,
    /// The certificate of every server.
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// `domainComponent` (RFC 4519 section 2.4).
const DOMAIN_COMPONENT: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 25];
/// Attributes of a name, and how they are shown (RFC 4514 section 3).
const ATTRIBUTES: [(&[u64], &str); 4] =
    [(&[2, 5, 4, 3], "CN"), (&[2, 5, 4, 10], "O"), (&[2, 5, 4, 11], "OU"), (DOMAIN_COMPONENT, "DC")];

impl Pki {
    /// Makes the authority and a server certificate for `127.0.0.1` and `localhost`; writes the authority's certificate to
    /// `folder/ca.pem`. The keys stay in memory.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "Grid in a box CA");
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let ca_file = folder.join("ca.pem");
        std::fs::write(&ca_file, ca_certificate.pem())
            .with_context(|| format!("writing {}", ca_file.display()))?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let (certificate, key) = certified(&issuer, names, None)?;
        Ok(Self {
            ca_file,
            ca: ca_certificate.der().clone(),
            issuer: Arc::new(issuer),
            server: serving(&certificate, &key)?,
            certificate,
            key: Arc::new(key),
        })
    }

    /// The same authority, with another certificate of its servers: for these names, and if `ended`, one that has expired.
    ///
    /// # Errors
    /// When a name can't stand in a certificate.
    pub fn with_certificate(&self, names: Vec<String>, ended: bool) -> Result<Self> {
        let end = ended.then(|| rcgen::date_time_ymd(2020, 1, 31));
        let (certificate, key) = certified(&self.issuer, names, end)?;
        let server = serving(&certificate, &key)?;
        Ok(Self { server, certificate, key: Arc::new(key), ..self.clone() })
    }

    /// The authority's certificate, PEM.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// TLS settings for a server that asks its clients for a certificate of this authority, and goes on without.
    ///
    /// # Errors
    /// When the authority's certificate can't be used.
    pub fn server_for_users(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let users = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(users.allow_unauthenticated().build()?)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(Arc::new(server))
    }

    /// TLS settings for a client that trusts this authority.
    ///
    /// # Errors
    /// When the authority's certificate can't be used.
    pub fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(client.with_root_certificates(roots).with_no_client_auth())
    }

    /// A certificate for a user with the name `/DC=<component>/CN=<name>`, and its key.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn user(
        &self,
        component: &str,
        name: &str,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate()?;
        let mut user = CertificateParams::new(Vec::new())?;
        user.distinguished_name = DistinguishedName::new();
        user.distinguished_name.push(DnType::CustomDnType(DOMAIN_COMPONENT.to_vec()), component);
        user.distinguished_name.push(DnType::CommonName, name);
        user.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = user.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok((certificate.der().clone(), key))
    }

    /// The servers' certificate and its key in PEM, for a server of another make.
    pub fn server_pem(&self) -> (String, String) {
        (pem("CERTIFICATE", &self.certificate), pem("PRIVATE KEY", self.key.secret_der()))
    }

    /// TLS settings for a server.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// A certificate of a server.
fn certified(
    issuer: &Issuer<'static, KeyPair>,
    names: Vec<String>,
    end: Option<time::OffsetDateTime>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "Grid in a box");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if let Some(end) = end {
        server.not_after = end;
    }
    let certificate = server.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((certificate.der().clone(), key))
}

fn serving(certificate: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())?;
    Ok(Arc::new(server))
}

/// Textual encoding (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The subject of a certificate in the form `/DC=rig/CN=user1`; none when it can't be read. An attribute that
/// is not a usual one is shown as `?`.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // TBSCertificate (RFC 5280 section 4.1): the version is optional; then serial, algorithm, issuer, validity, subject.
    if let (0xa0, _, rest) = element(fields)? {
        fields = rest;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (_, mut names, _) = element(fields)?;
    let mut shown = String::new();
    while !names.is_empty() {
        let (_, set, rest) = element(names)?;
        let (_, pair, _) = element(set)?;
        let (_, oid, value) = element(pair)?;
        let oid = numbers(oid);
        let name = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map_or("?", |(_, name)| name);
        shown += &format!("/{name}={}", String::from_utf8_lossy(element(value)?.1));
        names = rest;
    }
    Some(shown)
}

/// The numbers of an object identifier (X.690 section 8.19).
fn numbers(oid: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_user_is_shown_as_a_grid_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(folder.path()).unwrap();
        let (certificate, _) = pki.user("rig", "user1").unwrap();
        assert_eq!(subject(&certificate).unwrap(), "/DC=rig/CN=user1");
        assert_eq!(subject(&pki.ca).unwrap(), "/CN=Grid in a box CA");
        assert_eq!(subject(b"no certificate"), None);
    }
}
