//! Answers, and the three who give them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use token_core::http::HttpSettings;
use token_core::{Action, Issuer, IssuerKeys, Policy, Profile, StoragePath, SystemClock};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cases::Case;
use crate::forge::SE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Accepts,
    Refuses,
    /// Its process ends by a signal.
    Dies,
}

/// An answer, and the words that came with it.
pub(crate) type Said = (Answer, String);

/// What a library answered, by case.
#[derive(Deserialize)]
pub(crate) struct Library {
    pub(crate) version: String,
    pub(crate) answers: BTreeMap<String, Said>,
}

/// Asks the other libraries by their names in tests/interop/scitokens/answers.py; `None` for one that is not installed. They
/// fetch the issuers' keys, or hold `issuers`, the JWKS by issuer, already.
pub(crate) async fn ask_others(
    interpreter: &Path,
    ca_file: &Path,
    cache: &Path,
    issuers: Value,
    cases: &[Case],
) -> BTreeMap<String, Option<Library>> {
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({"id": case.id, "issuer": case.issuer, "audiences": [SE], "token": case.token,
                "authz": case.authz, "path": case.path})
        })
        .collect();
    let questions = json!({"authorities": ca_file, "cache": cache, "issuers": issuers, "cases": cases});
    let mut asked = Command::new(interpreter)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/scitokens/answers.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = asked.stdin.take().unwrap();
    let write = async move { input.write_all(questions.to_string().as_bytes()).await.unwrap() };
    let both = async { tokio::join!(write, asked.wait_with_output()).1.unwrap() };
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// An issuer's JWKS as it stands.
pub(crate) async fn fetch_jwks(ca_file: &Path, issuer: &str) -> Value {
    let settings = HttpSettings { ca_file: Some(ca_file.to_owned()), ..HttpSettings::default() };
    let http = token_core::http::client(&settings).unwrap();
    let metadata = token_core::discover(&http, &Issuer::new(issuer).unwrap()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, a server of our own")]
    let answer = http.get(metadata.jwks_uri).send().await.unwrap();
    answer.json().await.unwrap()
}

/// What token-core answers, as a resource that fetches keys over TLS.
pub(crate) async fn ask_token_core(ca_file: &Path, cases: &[Case]) -> BTreeMap<String, Said> {
    let settings = HttpSettings { ca_file: Some(ca_file.to_owned()), ..HttpSettings::default() };
    let http = token_core::http::client(&settings).unwrap();
    let mut held = BTreeMap::new();
    let mut answers = BTreeMap::new();
    for case in cases {
        let keys = held.entry(&case.issuer).or_insert_with(|| {
            IssuerKeys::new(Issuer::new(&case.issuer).unwrap(), http.clone(), Arc::new(SystemClock))
        });
        let said = match answer(keys, case).await {
            Ok(()) => (Answer::Accepts, String::new()),
            Err(why) => (Answer::Refuses, why),
        };
        answers.insert(case.id.to_owned(), said);
    }
    answers
}

async fn answer(keys: &IssuerKeys, case: &Case) -> Result<(), String> {
    let policy = Policy { any_audience: true, ..Policy::new(&case.issuer, vec![SE.to_owned()]) };
    let claims = keys.verify(&case.token, &policy).await.map_err(|error| error.to_string())?;
    let scopes = claims.scopes().map_err(|error| error.to_string())?;
    let path = StoragePath::from_request(case.path).map_err(|error| error.to_string())?;
    let action = match case.authz {
        "storage.read" => Action::Read(&path),
        "storage.create" => Action::Create(&path),
        "storage.modify" => Action::Overwrite(&path),
        "storage.stage" => Action::Stage(&path),
        other => panic!("{other}"),
    };
    scopes.permit(action, Profile::default()).map_err(|error| error.to_string())
}
