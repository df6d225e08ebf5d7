//! The private key that a client signs its assertions with, from a PEM file.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// `rsaEncryption` (RFC 8017 appendix A.1), as a DER object identifier.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `id-ecPublicKey` and `prime256v1` (RFC 5480 section 2.1.1), as DER object identifiers.
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // id-ecPublicKey
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, // prime256v1
];

/// Why a key file can't be used. Never holds anything of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file can't be read.
    #[error("cannot read the key file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No PEM block with a private key.
    #[error("the key file has no unencrypted PEM block `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY`")]
    NoKey,
    /// A key, but not one for RS256 or ES256.
    #[error("the key is neither RSA of at least 2048 bits nor on the curve P-256, or is damaged")]
    Kind,
}

/// A private key for RS256 or ES256; wiped on drop.
#[derive(Clone)]
pub struct AssertionKey {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl AssertionKey {
    /// Reads a key file; `kid` is the id under which the issuer knows the public key, if it wants one.
    ///
    /// # Errors
    /// When the file can't be read or holds no key for RS256 or ES256.
    pub fn from_file(path: &Path, kid: Option<String>) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KeyError::Unreadable { path: path.display().to_string(), source })?;
        Self::from_pem(&Zeroizing::new(text), kid)
    }

    /// Reads a key in PEM: PKCS#8 (RFC 5208), or RSA in PKCS#1 (RFC 8017 appendix A.1.2). Its kind tells the algorithm.
    ///
    /// # Errors
    /// When there is no key for RS256 or ES256.
    pub fn from_pem(text: &str, kid: Option<String>) -> Result<Self, KeyError> {
        let (key, algorithm) = if let Some(der) = block(text, "PRIVATE KEY") {
            let (algorithm, inner) = unwrap(&der).ok_or(KeyError::Kind)?;
            if algorithm.starts_with(RSA) {
                (EncodingKey::from_rsa_der(inner), Algorithm::RS256)
            } else if algorithm.starts_with(P256) {
                (EncodingKey::from_ec_der(&der), Algorithm::ES256)
            } else {
                return Err(KeyError::Kind);
            }
        } else {
            let der = block(text, "RSA PRIVATE KEY").ok_or(KeyError::NoKey)?;
            (EncodingKey::from_rsa_der(&der), Algorithm::RS256)
        };
        let made = Self { key, algorithm, kid };
        // The library looks at the key when it signs, and a bad one is to be named at the start.
        made.sign(&json!({})).map(|_| made).ok_or(KeyError::Kind)
    }

    /// Signs `claims`; `None` if the key can't.
    pub(super) fn sign(&self, claims: &Value) -> Option<Zeroizing<String>> {
        let header = Header { kid: self.kid.clone(), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).ok().map(Zeroizing::new)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({:?}, [redacted])", self.algorithm)
    }
}

/// The bytes of the first PEM block of this label (RFC 7468).
fn block(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let digits: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(digits.as_bytes()).ok().map(Zeroizing::new)
}

/// Algorithm and key of a PKCS#8 `PrivateKeyInfo` (RFC 5208 section 5): SEQUENCE { INTEGER, SEQUENCE, OCTET STRING, .. }.
/// jsonwebtoken wants an RSA key without this wrapping.
fn unwrap(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let (0x30, body, _) = element(pkcs8)? else { return None };
    let (0x02, _, rest) = element(body)? else { return None };
    let (0x30, algorithm, rest) = element(rest)? else { return None };
    let (0x04, key, _) = element(rest)? else { return None };
    Some((algorithm, key))
}

/// Splits the first DER element off: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let add = |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add(usize::from(*byte));
        (bytes.iter().try_fold(0, add)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    };

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let body: Vec<_> = STANDARD.encode(der).into_bytes();
        let lines: Vec<_> = body.chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("Some text\n-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    #[test]
    fn the_kind_of_key_tells_the_algorithm() {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let (_, inner) = unwrap(rsa.as_ref()).unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        for (text, algorithm) in [
            (pem("PRIVATE KEY", rsa.as_ref()), Algorithm::RS256),
            (pem("RSA PRIVATE KEY", inner), Algorithm::RS256),
            (pem("PRIVATE KEY", ec.as_ref()), Algorithm::ES256),
        ] {
            let key = AssertionKey::from_pem(&text, Some("k".into())).unwrap();
            assert_eq!(key.algorithm, algorithm);
            assert_eq!(format!("{key:?}"), format!("AssertionKey({algorithm:?}, [redacted])"));
            let header =
                jsonwebtoken::decode_header(key.sign(&json!({"iss": "c"})).unwrap().as_bytes()).unwrap();
            assert_eq!((header.alg, header.kid.as_deref()), (algorithm, Some("k")));
        }
    }

    #[test]
    fn what_is_no_key_for_rs256_or_es256_is_refused() {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let cut = &ec.as_ref()[..ec.as_ref().len() - 10];
        for der in [p384.as_ref(), cut, b"", b"\x30", b"\x30\xff\xff", b"canary"] {
            assert!(matches!(AssertionKey::from_pem(&pem("PRIVATE KEY", der), None), Err(KeyError::Kind)));
        }
        for text in ["", "canary", &pem("ENCRYPTED PRIVATE KEY", ec.as_ref()), &pem("PUBLIC KEY", b"x")] {
            assert!(matches!(AssertionKey::from_pem(text, None), Err(KeyError::NoKey)));
        }
        let missing = AssertionKey::from_file(Path::new("/no/such.pem"), None).unwrap_err();
        assert!(missing.to_string().contains("/no/such.pem"));
    }
}
