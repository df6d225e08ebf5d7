//! Certificates: whose they are, and what is wrong with them. Whether one is good is for the client that the daemon itself uses to
//! say; a second handshake, which is always given up, only reads what the server shows.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use token_core::UnixSeconds;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::finding::{Finding, listed};
use super::print::words;

const CHECK: &str = "certificate";
/// Longest wait for a look at certificates.
const PATIENCE: Duration = Duration::from_secs(5);
/// A certificate that ends within this time is worth a word.
const SOON_S: i64 = 7 * 86_400;

/// A certificate, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    subject: String,
    issuer: String,
    names: Vec<String>,
    begins: UnixSeconds,
    ends: UnixSeconds,
}

/// The certificates that a server shows; none when it shows none, or they can't be read.
pub(super) async fn presented(url: &Url) -> Vec<Shown> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let reader = Arc::new(Reader { seen: Mutex::default(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let (Ok(config), Some(host)) = (config, url.host_str()) else { return Vec::new() };
    let verifier = Arc::clone(&reader) as Arc<dyn ServerCertVerifier>;
    let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let host = host.trim_matches(['[', ']']).to_owned();
    let place = (host.clone(), url.port_or_known_default().unwrap_or(443));
    let _ = timeout(PATIENCE, async move {
        let stream = TcpStream::connect(place).await.ok()?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host).ok()?, stream).await.ok()
    })
    .await;
    let seen = std::mem::take(&mut *reader.seen.lock().unwrap_or_else(PoisonError::into_inner));
    seen.iter().filter_map(|der| read(der)).collect()
}

fn read(der: &CertificateDer<'_>) -> Option<Shown> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.map(|found| found.value.general_names.iter().filter_map(name).collect());
    let validity = certificate.validity();
    Some(Shown {
        subject: words(&certificate.subject().to_string()),
        issuer: words(&certificate.issuer().to_string()),
        names: names.unwrap_or_default(),
        begins: UnixSeconds(validity.not_before.timestamp()),
        ends: UnixSeconds(validity.not_after.timestamp()),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(words(name)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// What is wrong with a certificate that was refused.
pub(super) fn wrong(
    of: &str,
    host: &str,
    error: &CertificateError,
    chain: &[Shown],
    authorities: &str,
    now: UnixSeconds,
) -> Finding {
    let own = chain.first();
    let bad = |found: String, todo: String| Finding::bad(of, CHECK, found, todo);
    match error {
        CertificateError::UnknownIssuer => {
            let top = chain.last().map_or("an authority that can't be read", |top| top.issuer.as_str());
            let intermediate = match own {
                Some(own) if chain.len() == 1 && own.subject != own.issuer => {
                    "; or let the server send the certificates between its own and the authority's"
                }
                _ => "",
            };
            bad(
                format!("it is signed by `{top}`, which is not among the authorities of {authorities}"),
                format!("put the certificate of `{top}` there, or name its file as `ca_file`{intermediate}"),
            )
        }
        CertificateError::BadSignature => {
            let top = chain.last().map_or("an authority that can't be read", |top| top.issuer.as_str());
            bad(
                format!(
                    "it is signed by `{top}`, and the authority of this name among those of {authorities} has another key"
                ),
                format!("put the certificate there that `{top}` has now"),
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = own.map_or_else(|| "no name".to_owned(), |own| listed(&own.names));
            bad(
                format!("it is not for the name `{host}`, but for {names}"),
                "use one of these names in the configuration, or give the server a certificate with this one"
                    .into(),
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let ended = chain.iter().find(|one| one.ends <= now);
            let which = ended.map_or_else(String::new, |one| {
                format!(" of `{}` ended {} ago", one.subject, span(now.0 - one.ends.0))
            });
            bad(format!("the certificate{which}: it has expired"), "renew it; is our own clock right?".into())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let which = chain.iter().find(|one| one.begins > now).map_or_else(String::new, |one| {
                format!(" of `{}` begins in {}", one.subject, span(one.begins.0 - now.0))
            });
            bad(format!("the certificate{which}: it is not valid yet"), "is our own clock right?".into())
        }
        other => bad(
            format!("it is refused: {}", words(&other.to_string())),
            "see what it is by `openssl s_client -connect HOST:PORT -showcerts`".into(),
        ),
    }
}

/// A certificate that was taken.
pub(super) fn good(of: &str, chain: &[Shown], now: UnixSeconds) -> Finding {
    let Some(first) = chain.iter().min_by_key(|one| one.ends) else {
        return Finding::good(of, CHECK, "good");
    };
    let found = format!("good, signed by `{}`, for another {}", chain[0].issuer, span(first.ends.0 - now.0));
    match first.ends.0 - now.0 {
        left if left < SOON_S => {
            Finding::doubt(of, CHECK, found, format!("renew that of `{}`", first.subject))
        }
        _ => Finding::good(of, CHECK, found),
    }
}

fn span(seconds: i64) -> String {
    match seconds.abs() {
        seconds @ 0..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Reads what a server shows, and always refuses it.
struct Reader {
    seen: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl ServerCertVerifier for Reader {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(own).chain(others);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            all.map(|one| one.clone().into_owned()).collect();
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const DAY: i64 = 86_400;

    fn chain(days: i64) -> Vec<Shown> {
        vec![Shown {
            subject: "CN=fts.example".into(),
            issuer: "CN=Grid CA".into(),
            names: vec!["fts.example".into()],
            begins: UnixSeconds(0),
            ends: UnixSeconds(days * DAY),
        }]
    }

    fn told(error: &CertificateError, days: i64) -> String {
        let finding =
            wrong("FTS f", "other.example", error, &chain(days), "/etc/ca.pem", UnixSeconds(10 * DAY));
        format!("{} -> {}", finding.found, finding.todo.unwrap_or_default())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = told(&CertificateError::UnknownIssuer, 20);
        assert!(
            unknown.contains("`CN=Grid CA`, which is not among the authorities of /etc/ca.pem"),
            "{unknown}"
        );
        let name = told(&CertificateError::NotValidForName, 20);
        assert!(name.contains("not for the name `other.example`, but for fts.example"), "{name}");
        let expired = told(&CertificateError::Expired, 7);
        assert!(expired.contains("`CN=fts.example` ended 3 days ago"), "{expired}");
        assert!(told(&CertificateError::BadSignature, 20).contains("has another key"));
        assert!(told(&CertificateError::Revoked, 20).contains("refused"));
        let blind = wrong("f", "h", &CertificateError::Expired, &[], "x", UnixSeconds(0));
        assert!(blind.found.contains("expired"));
    }

    #[test]
    fn one_that_ends_soon_is_worth_a_word() {
        let level = |days| good("f", &chain(days), UnixSeconds(10 * DAY)).level;
        assert_eq!([level(100), level(12)], [Level::Green, Level::Yellow]);
        assert_eq!(good("f", &[], UnixSeconds(0)).level, Level::Green);
    }
}
