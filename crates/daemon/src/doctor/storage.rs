//! A storage and the token that it would get. A storage says 403 and no more (observed of XRootD): the reason is found by what it
//! takes instead.

use futures_util::future::BoxFuture;
use token_core::{AccessToken, Clock, Operation, Scope, ScopeSet, StoragePath, TokenRequest};
use url::Url;

use super::clock::{Offset, between};
use super::finding::Finding;
use super::issuer::{authorities, manners};
use super::look::{Client, Method, look, why};

const CHECK: &str = "access";
/// Most other tokens that are tried at one storage.
const TRIED: usize = 12;

/// A file that is asked for where none is known; it is not there, which only who may read there is told.
pub const PROBE: &str = "doctor";

/// Where to knock, and with which token.
#[derive(Clone, Debug)]
pub struct Door {
    /// The storage, for its lines.
    pub of: String,
    /// What is asked for with HEAD: a file in its area, which need not be there.
    pub url: Url,
    /// What its token was asked for with.
    pub request: TokenRequest,
    /// The section of the configuration in which its audience and paths stand.
    pub section: &'static str,
    /// What its scopes are below now, where an `area` below that can be set for it.
    pub base: Option<String>,
    /// Certificate authorities instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

/// Gets another token of the same issuer, if it gives one.
pub type Minter<'a> = &'a (dyn Fn(TokenRequest) -> BoxFuture<'a, Option<AccessToken>> + Sync);

/// What another token differed by that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Audience(String),
    Path(StoragePath),
}

/// What an answer to HEAD says of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// What was asked for is there, or is not: it may be known.
    Taken,
    Refused,
    /// The server is in trouble.
    Trouble,
    /// Neither.
    Strange,
}

fn meaning(status: u16) -> Answer {
    match status {
        200..=399 | 404 => Answer::Taken,
        401 | 403 => Answer::Refused,
        429 | 500.. => Answer::Trouble,
        _ => Answer::Strange,
    }
}

/// Knocks: without a token, with the token, and if that is refused, with others.
pub async fn knock(
    http: &Client,
    door: &Door,
    token: &AccessToken,
    mint: Minter<'_>,
    issuer: Option<(&str, Offset)>,
    clock: &dyn Clock,
) -> Vec<Finding> {
    let ask = async |token: Option<&AccessToken>| look(http, Method::HEAD, &door.url, token, clock).await;
    let trusted = authorities(door.ca_file.as_deref());
    let anybody = match ask(None).await {
        Ok(answered) => answered,
        Err(none) => {
            let finding = why(&door.of, &door.url, none, &trusted, clock.now()).await;
            return vec![finding, Finding::skipped(&door.of, CHECK, "there was no answer")];
        }
    };
    let mut findings = manners(&door.of, &door.url, &anybody, issuer, clock.now()).await;
    let status = match ask(Some(token)).await {
        Ok(answered) => answered.status,
        Err(none) => {
            findings.push(why(&door.of, &door.url, none, &trusted, clock.now()).await);
            return findings;
        }
    };
    let mut tried = Vec::new();
    if meaning(status) == Answer::Refused {
        for (change, request) in others(door) {
            let Some(other) = mint(request).await else { continue };
            let taken =
                ask(Some(&other)).await.is_ok_and(|answered| meaning(answered.status) == Answer::Taken);
            tried.push((change, taken));
            if taken {
                break;
            }
        }
    }
    let late =
        issuer.zip(anybody.offset).and_then(|((name, issuers), own)| between(name, issuers, &door.of, own));
    findings.push(explain(door, anybody.status, status, &tried, late.as_ref()));
    findings
}

/// Other tokens that a storage may take instead, the likely ones first: other spellings of its audience, and the path as it is when
/// the storage gives more, or less, to the issuer. Never one for any audience: that is good everywhere.
fn others(door: &Door) -> Vec<(Change, TokenRequest)> {
    let reading = |path: &StoragePath| ScopeSet::from_iter([Scope::Storage(Operation::Read, path.clone())]);
    let mut all = Vec::new();
    for audience in spellings(&door.url) {
        if !door.request.audiences().any(|own| own == audience) {
            let request = TokenRequest { audience: audience.clone(), scope: door.request.scope.clone() };
            all.push((Change::Audience(audience), request));
        }
    }
    for path in paths(&door.url) {
        let scope = reading(&path);
        if !scope.iter().all(|one| door.request.scope.iter().any(|own| own == one)) {
            all.push((Change::Path(path), TokenRequest { audience: door.request.audience.clone(), scope }));
        }
    }
    all.truncate(TRIED);
    all
}

/// The ways in which storages spell themselves as an audience.
fn spellings(url: &Url) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let mut all = Vec::new();
    if port == 443 {
        all.push(format!("https://{host}"));
    }
    all.push(format!("https://{host}:{port}"));
    all.push(format!("https://{host}:{port}/"));
    all.push(host.to_owned());
    all.push(format!("{host}:{port}"));
    all
}

/// The path of a URL with ever more taken off its front.
fn paths(url: &Url) -> Vec<StoragePath> {
    let path = url.path().trim_end_matches('/');
    let starts = path.match_indices('/').map(|(at, _)| &path[at..]).chain(["/"]);
    starts.filter_map(|text| StoragePath::from_url_path(text).ok()).collect()
}

fn explain(
    door: &Door,
    anybody: u16,
    status: u16,
    tried: &[(Change, bool)],
    clock: Option<&Finding>,
) -> Finding {
    let Door { of, url, request, section, .. } = door;
    let path = url.path();
    let asked = format!("HEAD {path} with audience `{}`, scope `{}`", request.audience, request.scope);
    match meaning(status) {
        Answer::Taken if meaning(anybody) == Answer::Taken => {
            return Finding::doubt(
                of,
                CHECK,
                format!(
                    "{asked}: {status}; but anybody is answered so without a token, which says nothing of it"
                ),
                "name a path that is not public as the `area` of this storage, if it has one",
            );
        }
        Answer::Taken => {
            return Finding::good(of, CHECK, format!("{asked}: {status}, so the token is taken"));
        }
        Answer::Trouble => {
            return Finding::passing(of, CHECK, format!("{asked}: {status}"), "look again; else see its log");
        }
        Answer::Strange => {
            let found = format!("{asked}: {status}, which says nothing of the token");
            return Finding::doubt(of, CHECK, found, "see its log");
        }
        Answer::Refused => (),
    }
    let refused = format!("{asked}: refused with {status}");
    match tried.iter().find(|(_, taken)| *taken) {
        Some((Change::Audience(audience), _)) => Finding::bad(
            of,
            CHECK,
            format!("{refused}; it takes audience `{audience}`"),
            format!(
                "set `audience = \"{audience}\"` in its {section}, or let the storage take `{}`",
                request.audience
            ),
        ),
        Some((Change::Path(own), _)) => {
            let base = base(path, own);
            if door.base.as_ref() == Some(&base) {
                return Finding::bad(
                    of,
                    CHECK,
                    format!(
                        "{refused}; it takes scope path `{own}` below `{base}`, and not the wider one that was asked for"
                    ),
                    format!(
                        "`base_path` is right: set `area` in its {section} to the part below it that the issuer may use, as `{}`",
                        first(own)
                    ),
                );
            }
            let area = match &door.base {
                Some(_) => {
                    format!(", and `area` to the part below it that the issuer may use, as `{}`", first(own))
                }
                None => String::new(),
            };
            Finding::bad(
                of,
                CHECK,
                format!(
                    "{refused}; it takes scope path `{own}`, so paths of scopes begin there below `{base}`"
                ),
                format!(
                    "set `base_path = \"{base}\"` in its {section}{area}; or what it gives to the issuer at the storage"
                ),
            )
        }
        None => {
            let spelt: Vec<String> = tried
                .iter()
                .map(|(change, _)| match change {
                    Change::Audience(audience) => format!("audience `{audience}`"),
                    Change::Path(path) => format!("path `{path}`"),
                })
                .collect();
            let also = match spelt.is_empty() {
                true => String::new(),
                false => format!("; so are {}", spelt.join(", ")),
            };
            let todo = match clock {
                Some(late) => format!("mend the clock first: {}", late.found),
                None => "its audience is spelt otherwise, its area is elsewhere, or it does not trust this issuer (its name to the \
                         last slash, its keys, its CA): see the storage's log of this minute"
                    .into(),
            };
            Finding::bad(of, CHECK, format!("{refused}{also}"), todo)
        }
    }
}

/// The first part of a path.
fn first(path: &StoragePath) -> String {
    let text = path.to_string();
    format!("/{}", text.trim_start_matches('/').split('/').next().unwrap_or_default())
}

/// What stands before `own` in the path.
fn base(path: &str, own: &StoragePath) -> String {
    let own = own.to_string();
    let base = path.trim_end_matches('/').strip_suffix(own.trim_end_matches('/')).unwrap_or(path);
    if base.is_empty() { "/".to_owned() } else { base.trim_end_matches('/').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn door(url: &str, audience: &str, scope: &str) -> Door {
        Door {
            of: "storage s".into(),
            url: Url::parse(url).unwrap(),
            request: TokenRequest { audience: audience.into(), scope: ScopeSet::parse(scope).unwrap() },
            section: "[[endpoint]]",
            base: Some("/".into()),
            ca_file: None,
        }
    }

    #[test]
    fn likely_spellings_come_first_and_what_was_asked_for_is_not_asked_again() {
        let door = door("https://s/vo/a", "https://s", "storage.read:/a");
        let told: Vec<String> = others(&door)
            .into_iter()
            .map(|(_, request)| format!("{} {}", request.audience, request.scope))
            .collect();
        assert_eq!(
            told,
            [
                "https://s:443 storage.read:/a",
                "https://s:443/ storage.read:/a",
                "s storage.read:/a",
                "s:443 storage.read:/a",
                "https://s storage.read:/vo/a",
                "https://s storage.read:/",
            ]
        );
    }

    #[test]
    fn an_answer_is_explained_by_what_is_taken_instead() {
        let door = door("https://s/vo/a", "https://s", "storage.read:/vo/a");
        let told = |anybody, status, tried: &[(Change, bool)]| {
            let finding = explain(&door, anybody, status, tried, None);
            (finding.level, format!("{} -> {}", finding.found, finding.todo.unwrap_or_default()))
        };
        assert_eq!(told(403, 404, &[]).0, Level::Green);
        assert_eq!(told(200, 200, &[]).0, Level::Yellow);
        assert_eq!(told(403, 405, &[]).0, Level::Yellow);
        assert_eq!(told(403, 503, &[]).0, Level::Red);
        let audience = [(Change::Audience("s:1".into()), false), (Change::Audience("s".into()), true)];
        let (level, words) = told(401, 403, &audience);
        assert!(
            level == Level::Red && words.contains("set `audience = \"s\"` in its [[endpoint]]"),
            "{words}"
        );
        let path = [(Change::Path(StoragePath::parse("/a").unwrap()), true)];
        let words = told(403, 403, &path).1;
        assert!(words.contains("set `base_path = \"/vo\"`") && words.contains("as `/a`"), "{words}");
        let right = Door { base: Some("/vo".into()), ..door.clone() };
        let todo = explain(&right, 403, 403, &path, None).todo.unwrap();
        assert!(todo.contains("`base_path` is right: set `area`") && todo.contains("as `/a`"), "{todo}");
        let root = [(Change::Path(StoragePath::root()), true)];
        assert!(told(403, 403, &root).1.contains("set `base_path = \"/vo/a\"`"));
        let (_, none) = told(403, 403, &audience[..1]);
        assert!(
            none.contains("so are audience `s:1`") && none.contains("does not trust this issuer"),
            "{none}"
        );
        let late = Finding::bad("s", "clock", "300 s behind", "x");
        let words = explain(&door, 403, 403, &[], Some(&late)).todo.unwrap();
        assert!(words.contains("mend the clock first: 300 s behind"), "{words}");
    }
}
