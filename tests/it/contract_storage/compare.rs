//! An answer beside the recorded one.

use std::collections::BTreeMap;

use axum::body::Bytes;
use hyper::ext::ReasonPhrase;
use serde_json::Value;

use super::recording::Response;

/// Headers of which one more than was recorded is a difference.
const TELLING: [&str; 6] =
    ["connection", "content-length", "content-type", "digest", "server", "transfer-encoding"];

/// What has another name here than where it was recorded.
#[derive(Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// Takes one URL (`https://authority`) for another, and their hosts and ports in every other form.
    pub(crate) fn same(&mut self, recorded: &str, here: &str) {
        let authority = |url: &str| url.split_once("://").map_or(url, |(_, authority)| authority).to_owned();
        let (recorded, here) = (authority(recorded), authority(here));
        let port = recorded.rsplit(':').next().unwrap_or_default();
        for form in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), recorded.clone()] {
            self.0.push((form, here.clone()));
        }
    }

    /// A recorded text in the names of here.
    pub(crate) fn here(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here))
    }

    /// The same for every text in a JSON value.
    pub(crate) fn here_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.here(text).into(),
            Value::Array(list) => list.iter().map(|item| self.here_in(item)).collect(),
            other => other.clone(),
        }
    }
}

/// Goes along the steps of a case.
pub(crate) struct Comparison {
    pub(crate) names: Names,
    /// Digests of contents that were not recorded, and of what stands for them here.
    digests: BTreeMap<String, String>,
    /// What was found so far.
    pub(crate) differences: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, digests: BTreeMap::new(), differences: Vec::new() }
    }

    /// Compares the answers to one step.
    pub(crate) fn step(&mut self, number: usize, recorded: &Response, answer: &axum::http::Response<Bytes>) {
        let mut found = Vec::new();
        let mut compare = |what: &str, theirs: &str, ours: &str| {
            if theirs != ours {
                found.push(format!(
                    "step {number}: {what}: recorded {}, here {}",
                    short(theirs),
                    short(ours)
                ));
            }
        };
        compare("status", &recorded.status.to_string(), answer.status().as_str());
        let own = answer.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
        let usual = answer.status().canonical_reason().unwrap_or_default().as_bytes();
        compare("reason", &recorded.reason, &String::from_utf8_lossy(own.unwrap_or(usual)));
        let body = String::from_utf8_lossy(answer.body());
        match recorded.bytes() {
            Some(length) => compare("length", &length.to_string(), &answer.body().len().to_string()),
            None => compare("body", &timeless(&self.names.here(&recorded.body)), &timeless(&body)),
        }
        for (name, theirs) in &recorded.headers {
            let ours = answer.headers().get(name.as_str()).and_then(|value| value.to_str().ok());
            let ours = ours.unwrap_or("(none)");
            if name.eq_ignore_ascii_case("digest") {
                let (algorithm, _) = ours.split_once('=').unwrap_or((ours, ""));
                compare("digest", theirs.split('=').next().unwrap_or_default(), algorithm);
                let first = self.digests.entry(theirs.clone()).or_insert_with(|| ours.to_owned());
                compare("digest of the same content", first, ours);
            } else {
                compare(name, theirs, ours);
            }
        }
        for name in TELLING {
            if let (None, Some(ours)) = (recorded.header(name), answer.headers().get(name)) {
                compare(name, "(none)", ours.to_str().unwrap_or_default());
            }
        }
        self.differences.extend(found);
    }
}

/// A body without the times of Perf Markers and of files.
fn timeless(body: &str) -> String {
    let timed = ["Timestamp: ", "<lp1:getlastmodified>"];
    let line = |line: &str| match timed.iter().find(|start| line.starts_with(**start)) {
        Some(start) => format!("{start}(then)"),
        None => line.to_owned(),
    };
    body.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn short(text: &str) -> String {
    if text.len() <= 200 { format!("{text:?}") } else { format!("{} bytes", text.len()) }
}
