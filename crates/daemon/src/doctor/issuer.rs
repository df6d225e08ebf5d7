//! An issuer without its tokens: its name, certificate, clock, metadata and keys.

use token_core::http::client;
use token_core::{Clock, Issuer, IssuerMetadata, KeySet, UnixSeconds};
use url::Url;

use super::clock::{self, Offset};
use super::finding::Finding;
use super::look::{Answered, Client, Method, look, why};
use super::{print::words, tls};
use crate::settings::IssuerSettings;

const METADATA: &str = "metadata";
const KEYS: &str = "keys";

/// A grant that a daemon uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8693.
    Exchange,
}

impl Grant {
    /// As `grant_types_supported` names it.
    fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Exchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

/// What was seen of an issuer.
#[derive(Debug, Default)]
pub struct Examined {
    /// The lines about it.
    pub findings: Vec<Finding>,
    /// Its clock.
    pub offset: Option<Offset>,
    /// Its keys.
    pub keys: Option<KeySet>,
    /// Whether it can be asked for tokens.
    pub usable: bool,
    /// How it names itself.
    pub name: Option<String>,
}

/// Looks an issuer over.
pub async fn examine(settings: &IssuerSettings, grant: Option<Grant>, clock: &dyn Clock) -> Examined {
    let of = format!("issuer {}", settings.url);
    let mut seen = Examined::default();
    let unusable = |check, error: String| Finding::bad(&of, check, error, "mend the configuration");
    let issuer = match settings.issuer() {
        Ok(issuer) => issuer,
        Err(error) => {
            seen.findings.push(unusable("name", error.to_string()));
            return seen;
        }
    };
    let http = match client(&settings.http()) {
        Ok(http) => http,
        Err(error) => {
            seen.findings.push(unusable("ca_file", error.to_string()));
            return seen;
        }
    };
    let authorities = authorities(settings.ca_file.as_deref());
    let Some((url, answered)) = document(&of, &http, &issuer, &authorities, clock, &mut seen).await else {
        seen.findings.push(Finding::skipped(&of, METADATA, "there was no answer"));
        return seen;
    };
    if url.scheme() == "https" {
        seen.findings.push(tls::good(&of, &tls::presented(&url).await, clock.now()));
    }
    seen.offset = answered.offset;
    seen.findings.extend(answered.offset.map(|offset| clock::own(&of, offset)));
    seen.name = answered.body.as_deref().and_then(IssuerMetadata::peek).map(|metadata| metadata.issuer);
    let (metadata, findings) = read(&of, &issuer, grant, &answered);
    seen.findings.extend(findings);
    match metadata {
        None => seen.findings.push(Finding::skipped(&of, KEYS, "its metadata can't be used")),
        Some(metadata) => {
            seen.usable = true;
            let answer = look(&http, Method::GET, &metadata.jwks_uri, None, clock).await;
            let finding = match answer {
                Err(none) => why(&of, &metadata.jwks_uri, none, &authorities, clock.now()).await,
                Ok(answered) => {
                    let (keys, finding) = keys(&of, &metadata.jwks_uri, &answered);
                    seen.keys = keys;
                    finding
                }
            };
            seen.findings.push(finding);
        }
    }
    seen
}

/// Which authorities are trusted, in words.
pub fn authorities(ca_file: Option<&std::path::Path>) -> String {
    ca_file.map_or_else(
        || "this system (no `ca_file` is set)".to_owned(),
        |path| format!("`ca_file` = {}", path.display()),
    )
}

/// The first document that is there.
async fn document(
    of: &str,
    http: &Client,
    issuer: &Issuer,
    authorities: &str,
    clock: &dyn Clock,
    seen: &mut Examined,
) -> Option<(Url, Answered)> {
    let mut last = None;
    for url in IssuerMetadata::places(issuer) {
        match look(http, Method::GET, &url, None, clock).await {
            Err(none) => {
                seen.findings.push(why(of, &url, none, authorities, clock.now()).await);
                return None;
            }
            Ok(answered) if answered.status == 404 => last = Some((url, answered)),
            Ok(answered) => return Some((url, answered)),
        }
    }
    last
}

/// What the document says.
fn read(
    of: &str,
    issuer: &Issuer,
    grant: Option<Grant>,
    answered: &Answered,
) -> (Option<IssuerMetadata>, Vec<Finding>) {
    let status = answered.status;
    let one = |finding| (None, vec![finding]);
    match status {
        200 => (),
        404 => {
            let found = "there is no metadata document below this name";
            return one(Finding::bad(of, METADATA, found, "is this the issuer's name? Ask its operators"));
        }
        status if status == 429 || status >= 500 => {
            let found = format!("its metadata is answered with {status}");
            return one(Finding::passing(of, METADATA, found, "look again; else tell its operators"));
        }
        status => {
            let found = format!("its metadata is answered with {status}");
            return one(Finding::bad(of, METADATA, found, "is this the issuer's name? Ask its operators"));
        }
    }
    let Some(metadata) = answered.body.as_deref().and_then(IssuerMetadata::peek) else {
        let found = "what stands in the place of its metadata can't be read";
        return one(Finding::bad(of, METADATA, found, "is this the issuer's name? Ask its operators"));
    };
    if metadata.issuer != issuer.as_str() {
        let named = words(&metadata.issuer);
        let (differs, todo) = match issuer.same_but_for_slash(&metadata.issuer) {
            true => (", which differs by the slash at the end", format!("set `url = \"{named}\"`")),
            false => ("", format!("if that is the one you mean, set `url = \"{named}\"`")),
        };
        return one(Finding::bad(of, METADATA, format!("it names itself `{named}`{differs}"), todo));
    }
    if let Err(error) = IssuerMetadata::parse(answered.body.as_deref().unwrap_or_default(), issuer) {
        return one(Finding::bad(of, METADATA, error.to_string(), "tell its operators"));
    }
    let mut findings = vec![Finding::good(
        of,
        METADATA,
        format!("its name is exact, tokens at {}", metadata.token_endpoint),
    )];
    if let (Some(grant), Some(listed)) = (grant, &metadata.grant_types_supported)
        && !listed.iter().any(|name| name == grant.name())
    {
        findings.push(Finding::doubt(
            of,
            METADATA,
            format!("`{}` is not among the grants that it lists", grant.name()),
            "the line about the token says whether it is there all the same",
        ));
    }
    (Some(metadata), findings)
}

/// What its key document says.
fn keys(of: &str, url: &Url, answered: &Answered) -> (Option<KeySet>, Finding) {
    let keys = answered.body.as_deref().filter(|_| answered.status == 200).map(KeySet::parse);
    match keys {
        Some(Ok(keys)) if !keys.is_empty() => {
            let found = format!("{} that tokens can be signed with", keys.len());
            (Some(keys), Finding::good(of, KEYS, found))
        }
        Some(Ok(_)) => {
            let found =
                format!("{url} holds no RSA, P-256 or Ed25519 key with a `kid`: no token can be checked");
            (None, Finding::bad(of, KEYS, found, "tell its operators"))
        }
        Some(Err(error)) => (None, Finding::bad(of, KEYS, format!("{url}: {error}"), "tell its operators")),
        None => {
            let found = format!("{url} is answered with {}", answered.status);
            (None, Finding::passing(of, KEYS, found, "look again; else tell its operators"))
        }
    }
}

/// How a party's answer to anything at all looks: its clock and its certificate.
pub async fn manners(
    of: &str,
    url: &Url,
    answered: &Answered,
    issuer: Option<(&str, Offset)>,
    now: UnixSeconds,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if url.scheme() == "https" {
        findings.push(tls::good(of, &tls::presented(url).await, now));
    }
    if let Some(offset) = answered.offset {
        let beside = issuer.and_then(|(name, issuers)| clock::between(name, issuers, of, offset));
        findings.push(beside.unwrap_or_else(|| clock::own(of, offset)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn answered(status: u16, body: &str) -> Answered {
        Answered { status, offset: None, body: Some(body.into()) }
    }

    fn document(name: &str, grants: &str) -> Answered {
        let json = format!(
            r#"{{"issuer":"{name}","token_endpoint":"https://i/token","jwks_uri":"https://i/jwk"{grants}}}"#
        );
        answered(200, &json)
    }

    #[test]
    fn the_name_is_compared_to_the_last_byte() {
        let issuer = Issuer::new("https://i").unwrap();
        let told = |answered: &Answered| {
            let (metadata, findings) = read("issuer", &issuer, Some(Grant::Exchange), answered);
            let words = format!("{} {:?}", findings[0].found, findings[0].todo);
            (metadata.is_some(), words, findings.last().unwrap().level)
        };
        assert_eq!(told(&document("https://i", "")).2, Level::Green);
        let (usable, words, _) = told(&document("https://i/", ""));
        assert!(
            !usable && words.contains("slash at the end") && words.contains(r#"url = \"https://i/\""#),
            "{words}"
        );
        assert!(told(&document("https://j", "")).1.contains("names itself `https://j`"));
        assert_eq!(told(&document("https://i", r#","grant_types_supported":["a"]"#)).2, Level::Yellow);
        assert!(told(&answered(200, "<html>")).1.contains("can't be read"));
        assert!(told(&answered(404, "")).1.contains("no metadata document"));
        let (_, busy) = read("issuer", &issuer, None, &answered(503, ""));
        assert!(busy[0].may_pass);
        let http = r#","device_authorization_endpoint":"http://i/device""#;
        assert!(told(&document("https://i", http)).1.contains("not https"));
    }

    #[test]
    fn keys_are_counted() {
        let url = Url::parse("https://i/jwk").unwrap();
        let level = |answer: &Answered| keys("issuer", &url, answer).1;
        assert!(level(&answered(200, r#"{"keys":[]}"#)).found.contains("no token can be checked"));
        assert!(level(&answered(200, "{}")).found.contains("not a JWKS"));
        assert!(level(&answered(502, "{}")).may_pass);
    }
}
