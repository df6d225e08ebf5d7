//! Each storage that is configured or that FTS's last files name, with the token that it would get.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use daemon::doctor::{Asked, Desk, Door, Finding, Minter, PROBE, knock, of_refusal, of_token};
use token_core::http::{HttpSettings, client};
use token_core::{Clock, Given, OAuthClient, StoragePath, TokenError, TokenRequest};
use url::Url;

use super::Doctor;
use super::issuers::Issuer;
use super::subject::Subject;
use crate::endpoint::Authority;
use crate::plan::{Leg, Mode, Planning, Side, need};
use crate::settings::Settings;

/// Most storages that are looked at.
const MOST: usize = 50;
/// Longest waits for a storage.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);

/// What looks need.
pub(super) struct Storages<'a> {
    pub(super) asked: &'a Doctor,
    pub(super) settings: &'a Settings,
    pub(super) planning: &'a Planning,
    pub(super) clock: &'a dyn Clock,
}

impl Storages<'_> {
    /// Looks over each storage for each issuer of which there is a token to start from.
    pub(super) async fn look_over(
        &self,
        subjects: &[Subject],
        issuers: &[Issuer],
        last: &[String],
        desk: &Desk,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let urls = self.urls(last, &mut findings);
        let asking: Vec<(usize, Option<&Subject>)> = issuers
            .iter()
            .enumerate()
            .filter_map(|(number, issuer)| {
                let subject = subjects.iter().find(|subject| subject.issuer == number);
                match issuer.known.mode() {
                    Mode::Exchange => subject.map(|subject| (number, Some(subject))),
                    Mode::ClientCredentials => Some((number, None)),
                    Mode::Unmanaged => None,
                }
            })
            .collect();
        if asking.is_empty() {
            let because = "there is no token to exchange: see the lines before this one";
            findings.push(Finding::skipped("storages", "access", because));
            return findings;
        }
        for (number, subject) in asking {
            let issuer = &issuers[number];
            let looked = desk.each(&urls, async |(origin, url)| {
                let of = match issuers.len() {
                    1 => format!("storage {origin}"),
                    _ => format!("storage {origin} for {}", issuer.known.shared().url),
                };
                let looked = desk.look(&of, self.one(&of, origin, url, issuer, subject)).await;
                looked.unwrap_or_else(|| vec![desk.late(&of, "access")])
            });
            findings.extend(looked.await.into_iter().flatten());
        }
        findings
    }

    /// A URL at each storage, by its origin: of the last files if there is one, else of its area.
    fn urls(&self, last: &[String], findings: &mut Vec<Finding>) -> BTreeMap<String, Option<String>> {
        let mut urls: BTreeMap<String, Option<String>> = BTreeMap::new();
        for entry in &self.settings.endpoint {
            let url = entry.url.trim_end_matches('/').to_owned() + "/";
            let at = Authority::split(&url);
            // A whole domain has no door.
            if let Some((authority, _)) = at.filter(|_| !entry.url.contains("://*")) {
                urls.insert(authority.origin(), None);
            }
        }
        for url in last {
            if let Some((authority, _)) = Authority::split(url) {
                urls.entry(authority.origin()).or_default().get_or_insert_with(|| url.clone());
            }
        }
        if urls.is_empty() {
            let because = "no [[endpoint]] names one, and FTS has no file yet";
            findings.push(Finding::skipped("storages", "access", because));
        }
        if let Some(more) = urls.len().checked_sub(MOST + 1) {
            findings.push(Finding::skipped("storages", "access", format!("{} more than {MOST}", more + 1)));
        }
        while urls.len() > MOST {
            urls.pop_last();
        }
        urls
    }

    async fn one(
        &self,
        of: &str,
        origin: &str,
        url: &Option<String>,
        issuer: &Issuer,
        subject: Option<&Subject>,
    ) -> Vec<Finding> {
        let Some(client) = issuer.client.as_ref().filter(|_| issuer.examined.usable) else {
            return vec![Finding::skipped(of, "token", "its issuer or our client there can't be used")];
        };
        let (request, door, base) = match self.wanted(origin, url.as_deref(), client.issuer().as_str()) {
            Ok(wanted) => wanted,
            Err(why) => {
                return vec![Finding::bad(of, "path", why, "see its [[endpoint]]: `base_path` and `area`")];
            }
        };
        let given = match ask(client, subject, &request).await {
            Ok(given) => given,
            Err(error) => {
                let proof = "its secret or key file, or t_token_provider";
                return vec![of_refusal(of, &error, (client.client_id(), proof))];
            }
        };
        let asked = Asked {
            of,
            issuer: client.issuer(),
            client_id: client.client_id(),
            request: &request,
            life: (Duration::from_secs(self.settings.worker.min_token_life_s), "`worker.min_token_life_s`"),
            narrows: subject.is_some(),
            answer: client.answer(),
        };
        let mut findings = of_token(&asked, &given, issuer.examined.keys.as_ref(), self.clock.now());
        let ca_file: Option<PathBuf> =
            self.asked.storage_ca_file.clone().or_else(|| issuer.known.shared().ca_file.clone());
        let settings = HttpSettings { ca_file: ca_file.clone(), connect_timeout: CONNECT, timeout: ANSWER };
        let http = match client_of(&settings) {
            Ok(http) => http,
            Err(line) => {
                findings.push(Finding::bad(of, "ca_file", line, "see --storage-ca-file"));
                return findings;
            }
        };
        let base = Some(base);
        let door = Door { of: of.to_owned(), url: door, request, section: "[[endpoint]]", base, ca_file };
        let mint: Minter<'_> =
            &|request| Box::pin(async move { Some(ask(client, subject, &request).await.ok()?.token) });
        let name = format!("issuer {}", client.issuer());
        let offset = issuer.examined.offset.map(|offset| (name.as_str(), offset));
        findings.extend(knock(&http, &door, &given.token, mint, offset, self.clock).await);
        findings
    }

    /// What a destination's token there is asked for with, the file that it is tried on, and the base path that counts there.
    fn wanted(
        &self,
        origin: &str,
        url: Option<&str>,
        issuer: &str,
    ) -> Result<(TokenRequest, Url, String), String> {
        let unfit = || format!("{origin} is no URL of a storage");
        let (authority, _) = Authority::split(&format!("{origin}/")).ok_or_else(unfit)?;
        let endpoint = self.planning.endpoints.at(&authority, issuer);
        let (file, path) = match url.and_then(|url| Some((url, Authority::split(url)?.1))) {
            // One of FTS's own files.
            Some((url, path)) => (url.to_owned(), path.to_owned()),
            None => {
                let whole = |path: &StoragePath| path.to_string().trim_matches('/').to_owned();
                let area = [whole(&endpoint.base_path), whole(&endpoint.area), PROBE.to_owned()];
                let area: Vec<&str> =
                    area.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
                let path = format!("/{}", area.join("/"));
                (format!("{origin}{path}"), path)
            }
        };
        let leg = Leg { url: &file, side: Side::Destination, staging: false, overwrites: true };
        let request = need(&leg, issuer, &self.planning.endpoints)
            .map_err(|why| format!("{}: {why}", token_core::http::printable(&file)))?;
        let door = Url::parse(&format!("{origin}{path}")).map_err(|_| unfit())?;
        Ok((request, door, endpoint.base_path.to_string()))
    }
}

fn client_of(settings: &HttpSettings) -> Result<daemon::doctor::look::Client, String> {
    client(settings).map_err(|error| error.to_string())
}

/// As the daemon would: by exchange, or as ourselves.
async fn ask(
    client: &OAuthClient,
    subject: Option<&Subject>,
    request: &TokenRequest,
) -> Result<Given, TokenError> {
    match subject {
        Some(subject) => client.exchange_as_given(&subject.token, request).await,
        None => client.client_credentials_as_given(request).await,
    }
}
