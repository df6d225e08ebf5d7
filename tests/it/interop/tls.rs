//! A certificate for a server that wants its key in PEM, which the grid's own servers don't.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// The certificate of an authority on disk; certificate and key of its one server in memory.
pub(crate) struct Certified {
    pub(crate) ca_file: PathBuf,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes an authority, written to `folder/ca.pem`, and a server certificate for 127.0.0.1.
pub(crate) fn certify(folder: &Path) -> Certified {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, ca_certificate.pem()).unwrap();
    Certified { ca_file, certificate: certificate.pem(), key: key.serialize_pem() }
}
