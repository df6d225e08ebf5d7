//! What stood at the servers before the first step, as far as the steps tell. The recordings do not say it.
//!
//! The first step that touches a path decides. What a refused reader asks for is there, so that a leak would show. A write that
//! is refused although the token may create here found something that is in the way.

use std::collections::{BTreeMap, BTreeSet};

use super::recording::{Recording, Request, Response, Token, split};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// Nothing.
    Absent,
    /// Nothing, and no directory for it either.
    NoParent,
    /// A directory.
    Directory,
    /// A file with this content.
    File(Vec<u8>),
}

/// A server (`scheme://authority`) and a path there.
pub(crate) type Place = (String, String);

/// The content of files that are no more than their length.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    b"0123456789abcdef".iter().copied().cycle().take(length).collect()
}

#[derive(Default)]
struct Reader {
    initial: BTreeMap<Place, Initial>,
    /// Files whose content was seen.
    seen: BTreeSet<Place>,
    /// What an earlier step has written or removed: it tells nothing of the start any more.
    changed: BTreeSet<Place>,
    /// Which place was copied to which, to size a source by what arrived.
    copied: BTreeMap<Place, Place>,
}

/// Reads what has to be there.
pub(crate) fn initial(recording: &Recording) -> BTreeMap<Place, Initial> {
    let mut reader = Reader::default();
    for step in &recording.steps {
        if let Some((server, path)) = split(&step.request.url) {
            reader.step(recording, (server.to_owned(), path.to_owned()), &step.request, &step.response);
        }
    }
    reader.initial
}

impl Reader {
    fn step(&mut self, recording: &Recording, place: Place, request: &Request, response: &Response) {
        let done = (200..300).contains(&response.status);
        match request.method.as_str() {
            "GET" | "HEAD" | "PROPFIND" => self.read(place, response),
            "DELETE" => {
                self.found(&place, if response.status == 404 { Initial::Absent } else { some_file() });
                self.change(place, done);
            }
            "MKCOL" => {
                let there = response.status == 405;
                self.found(&place, if there { Initial::Directory } else { Initial::Absent });
                self.change(place, done);
            }
            "PUT" => {
                let found = written(recording, &place, request.token("Authorization"), done, &response.body);
                self.found(&place, found);
                self.change(place, done);
            }
            "MOVE" => {
                self.found(&place, if response.status == 404 { Initial::Absent } else { some_file() });
                if let Some(to) = other(request, "Destination") {
                    self.found(&to, if done { Initial::Absent } else { Initial::NoParent });
                    self.change(to, done);
                }
                self.change(place, done);
            }
            "COPY" => self.copy(recording, place, request, response),
            _ => (),
        }
    }

    fn read(&mut self, place: Place, response: &Response) {
        // A copy has the content of its source.
        let copy = self.copied.get(&place);
        if self.changed.contains(&place) && copy.is_none() {
            return;
        }
        let place = copy.cloned().unwrap_or(place);
        let content = match response.status {
            200 | 206 if response.body.is_empty() || response.bytes().is_some() => {
                response.length().map(pattern)
            }
            200 | 206 => Some(response.body.clone().into_bytes()),
            207 if !response.body.contains("collection/>") => response.length().map(pattern),
            _ => None,
        };
        match (content, response.status) {
            // What is there was known; what is in it is known from here on.
            (Some(content), _) if self.seen.insert(place.clone()) => {
                self.initial.insert(place, Initial::File(content));
            }
            (Some(_), _) => (),
            (None, 404) => self.found(&place, Initial::Absent),
            (None, 207) if response.body.contains("collection/>") => self.found(&place, Initial::Directory),
            (None, _) => self.found(&place, some_file()),
        }
    }

    fn copy(&mut self, recording: &Recording, place: Place, request: &Request, response: &Response) {
        let last = response.body.lines().last().unwrap_or_default();
        let success = response.status == 201 && last.starts_with("success");
        if let Some(source) = other(request, "Source") {
            let lost = last.contains("status code 404");
            self.found(&source, if lost { Initial::Absent } else { some_file() });
            let token = request.token("Authorization");
            let begun = response.status == 201;
            let found = match response.status {
                412 => some_file(),
                _ => written(recording, &place, token, begun, &response.body),
            };
            self.found(&place, found);
            if success {
                self.copied.insert(place.clone(), source);
            }
            self.change(place, begun);
        } else if let Some(to) = other(request, "Destination") {
            let lost = response.status != 201 && response.body.contains("no such file");
            self.found(&place, if lost { Initial::Absent } else { some_file() });
            let token = request.token("TransferHeaderAuthorization");
            let found = written(recording, &to, token, success, &response.body);
            self.found(&to, found);
            if success {
                self.copied.insert(to.clone(), place);
            }
            self.change(to, success);
        }
    }

    fn found(&mut self, place: &Place, what: Initial) {
        if !self.changed.contains(place) {
            self.initial.entry(place.clone()).or_insert(what);
        }
    }

    fn change(&mut self, place: Place, done: bool) {
        if done {
            self.changed.insert(place);
        }
    }
}

fn some_file() -> Initial {
    Initial::File(pattern(1024))
}

fn other(request: &Request, header: &str) -> Option<Place> {
    let (server, path) = split(request.header(header)?)?;
    let server =
        server.strip_prefix("davs://").map_or_else(|| server.to_owned(), |rest| format!("https://{rest}"));
    Some((server, path.to_owned()))
}

/// What a write found.
fn written(recording: &Recording, place: &Place, token: Option<&Token>, done: bool, body: &str) -> Initial {
    let may_create = token.is_some_and(|token| creates(recording, place, token));
    match (done, may_create) {
        (false, _) if body.contains("no such file or directory") => Initial::NoParent,
        (false, _) if body.contains("is a directory") => Initial::Directory,
        // Made anew; or a right that only replaces, which is to be seen replacing.
        (true, _) if token.is_some_and(|token| !token.has("storage.create")) => some_file(),
        (true, _) => Initial::Absent,
        (false, true) => some_file(),
        (false, false) => Initial::Absent,
    }
}

/// Whether the token, taken at its word, could make a new file there.
fn creates(recording: &Recording, (server, path): &Place, token: &Token) -> bool {
    let claim = |name: &str| token.claims.get(name);
    let audiences = match claim("aud") {
        Some(serde_json::Value::Array(many)) => many.iter().filter_map(|one| one.as_str()).collect(),
        Some(one) => one.as_str().into_iter().collect::<Vec<_>>(),
        None => Vec::new(),
    };
    let below = path.strip_prefix(recording.storage_config.base_path.as_str()).unwrap_or(path);
    let scope = claim("scope").and_then(|scope| scope.as_str()).unwrap_or_default();
    let on_path = scope
        .split(' ')
        .filter_map(|item| item.strip_prefix("storage.create:"))
        .any(|above| below.starts_with(above));
    audiences.iter().any(|aud| aud == server || aud.ends_with("/any"))
        && claim("iss").and_then(|iss| iss.as_str()) == Some(&recording.storage_config.issuer)
        && token.offset("exp").is_some_and(|exp| exp > 0)
        && token.offset("nbf").is_some_and(|nbf| nbf <= 0)
        && on_path
}
