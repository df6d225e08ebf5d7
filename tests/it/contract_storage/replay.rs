//! Replays one recording against endpoints of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use serde_json::{Value, json};
use testbed::pki::Pki;
use testbed::storage::{Storage, StorageConfig};
use token_core::{Clock, ManualClock, UnixSeconds, random_hex};
use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Names};
use super::contract::issuer::{Forgery, RecordedIssuer};
use super::contract::wire::Wire;
use super::recording::{Recording, Request, Token, offset, split};
use super::state::{Initial, initial, pattern};

/// The issuer that the recorded servers trusted, with its keys; the second is one that they did not.
const ISSUERS: [(&str, &[&str]); 2] = [
    ("https://localhost:11090", &["rig-a-rs256-1", "rig-a-es256-1"]),
    ("https://localhost:11091", &["rig-b-rs256-1"]),
];
/// The any-audience of the profile.
const ANY: &str = "https://wlcg.cern.ch/jwt/v1/any";
const NOW: UnixSeconds = UnixSeconds(1_795_456_876);

/// What all cases share.
pub(crate) struct Rig {
    pki: Pki,
    wire: Wire,
    /// By the recorded name: the issuer, and its name here.
    issuers: Vec<(&'static str, RecordedIssuer, String)>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A token that was sent, and where.
struct Sent {
    header: String,
    token: Token,
    text: String,
}

impl Rig {
    /// Starts the issuers.
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (pki, stop) = (Pki::create(folder.path())?, CancellationToken::new());
        let mut issuers = Vec::new();
        for (name, kids) in ISSUERS {
            let issuer = RecordedIssuer::new(kids)?;
            let url = issuer.serve("", &pki, stop.clone()).await?;
            issuers.push((name, issuer, url));
        }
        Ok(Self { wire: Wire::new(pki.ca_file(), None)?, pki, issuers, stop, _folder: folder })
    }

    /// Sends the steps and tells every difference.
    pub(crate) async fn replay(&self, recording: &Recording) -> Result<Vec<String>> {
        let (clock, stop) = (Arc::new(ManualClock::new(NOW)), self.stop.child_token());
        let servers = self.servers(recording, &clock, &stop).await?;
        let mut names = Names::default();
        for (server, storage) in &servers {
            names.same(server, &storage.url());
        }
        for (recorded, _, here) in &self.issuers {
            names.same(recorded, here);
        }
        for ((server, path), what) in initial(recording) {
            prepare(servers.get(&server).context("a server that no step names")?, &path, &what);
        }
        let (mut comparison, mut sent) = (Comparison::new(names), Vec::new());
        let forgery = Forgery::read(&recording.shows);
        for (number, step) in recording.steps.iter().enumerate() {
            let request = &step.request;
            let (server, target) = split(&request.url).context("a step without a URL")?;
            let storage = servers.get(server).context("a server that no step names")?;
            let headers =
                self.headers(request, &recording.shows, forgery, &mut sent, &clock, &comparison.names)?;
            let body = Bytes::from(pattern(request.body_bytes));
            let to = storage.server().address();
            let answer = self.wire.send(to, &request.method, target, &headers, body).await?;
            comparison.step(number + 1, &step.response, &answer);
        }
        stop.cancel();
        Ok(comparison.differences)
    }

    /// An endpoint for every server that a step talks to, or sends another to.
    async fn servers(
        &self,
        recording: &Recording,
        clock: &Arc<ManualClock>,
        stop: &CancellationToken,
    ) -> Result<BTreeMap<String, Storage>> {
        let recorded = &recording.storage_config;
        let issuer = self.issuers.iter().find(|(name, ..)| *name == recorded.issuer);
        let config = StorageConfig {
            base_path: recorded.base_path.clone(),
            restricted_paths: recorded.restricted_path.clone(),
            roots_audience: recorded.audiences.iter().any(|audience| audience.contains("roots")),
            any_audience: recorded.audiences.iter().any(|audience| audience == ANY),
            ..StorageConfig::new(&*issuer.context("an issuer with another name")?.2)
        };
        let mut servers = BTreeMap::new();
        for step in &recording.steps {
            let others = ["Source", "Destination"].map(|name| step.request.header(name));
            for url in [Some(step.request.url.as_str())].into_iter().chain(others).flatten() {
                let server = split(url).map(|(server, _)| server.replacen("davs://", "https://", 1));
                let Some(server) = server.filter(|server| !servers.contains_key(server)) else { continue };
                let clock = Arc::<ManualClock>::clone(clock);
                let storage = Storage::start(&self.pki, config.clone(), clock, stop.clone()).await?;
                storage.set_flaws(true);
                servers.insert(server, storage);
            }
        }
        Ok(servers)
    }

    /// The headers of a request, with tokens in them. A token that was sent before, only older now, is the same one, and as
    /// much time has passed.
    fn headers(
        &self,
        request: &Request,
        shows: &str,
        forgery: Forgery,
        sent: &mut Vec<Sent>,
        clock: &ManualClock,
        names: &Names,
    ) -> Result<Vec<(String, String)>> {
        let mut texts = BTreeMap::new();
        for (header, token) in &request.tokens {
            let earlier = sent.iter().find_map(|sent| {
                (sent.header == *header).then(|| age(&sent.token, token)).flatten().map(|age| (age, sent))
            });
            if let Some((age, earlier)) = earlier {
                clock.advance(age);
                texts.insert(header, earlier.text.clone());
                continue;
            }
            let forgery = if *header == forged_header(request, shows) { forgery } else { Forgery::None };
            let text = self.mint(token, forgery, clock.now(), names)?;
            texts.insert(header, text.clone());
            sent.push(Sent { header: header.clone(), token: token.clone(), text });
        }
        // Tokens are aged from where they were first sent on.
        for sent in sent.iter_mut() {
            if let Some(now) = request.tokens.get(&sent.header).filter(|now| age(&sent.token, now).is_some())
            {
                sent.token = now.clone();
            }
        }
        let fill = |(name, value): (&String, &String)| {
            let value = texts.iter().fold(names.here(value), |value, (token, text)| {
                value.replace(&format!("<token {token}>"), text)
            });
            (name.clone(), value)
        };
        Ok(request.headers.iter().map(fill).collect())
    }

    fn mint(&self, token: &Token, forgery: Forgery, now: UnixSeconds, names: &Names) -> Result<String> {
        let issuer = token.claims.get("iss").and_then(Value::as_str);
        let known = self.issuers.iter().find(|(name, ..)| Some(*name) == issuer).or(self.issuers.first());
        let claims = token.claims.iter().map(|(name, value)| {
            let value = match offset(value) {
                Some(offset) => json!(now.0 + offset),
                None if name == "jti" => json!(random_hex()),
                None => names.here_in(value),
            };
            (name.clone(), value)
        });
        let claims = Value::Object(claims.collect());
        known.context("an issuer")?.1.mint(&token.header, &claims, forgery)
    }
}

/// Which token of a request the words are about: of a copy, the one for the other side if they name that side.
fn forged_header(request: &Request, shows: &str) -> &'static str {
    let other = match (request.header("Source"), request.header("Destination")) {
        (Some(_), None) => "source token",
        (None, Some(_)) if request.method == "COPY" => "destination token",
        _ => return "Authorization",
    };
    if shows.contains(other) { "TransferHeaderAuthorization" } else { "Authorization" }
}

/// How much older `now` is than `then`, when it is the same token.
fn age(then: &Token, now: &Token) -> Option<Duration> {
    let times = ["iat", "nbf", "exp"];
    let mut ages = times.iter().filter_map(|time| Some(then.offset(time)? - now.offset(time)?));
    let age = ages.next()?;
    let timeless = |token: &Token| {
        let mut token = token.clone();
        token.claims.retain(|name, _| !times.contains(&name.as_str()));
        token
    };
    let same = ages.all(|other| other == age)
        && times.iter().all(|time| then.offset(time).is_some() == now.offset(time).is_some())
        && timeless(then) == timeless(now);
    u64::try_from(age).ok().filter(|_| same).map(Duration::from_secs)
}

fn prepare(storage: &Storage, path: &str, what: &Initial) {
    // The directory of a path is there, and nothing else.
    match what {
        Initial::NoParent => (),
        Initial::Directory => storage.add_directory(path),
        Initial::File(content) => storage.add_file(path, Bytes::from(content.clone())),
        Initial::Absent => storage.add_directory(path.rsplit_once('/').map_or("", |(parent, _)| parent)),
    }
}
