//! The issuer of the testbed and an FTS that only counts, in a process of their own: what a benchmark of submitters talks to, and lean
//! enough not to be what it measures. Told what to do by lines on standard input, one JSON object back for each:
//! `counts`, `reset`, `arrivals` (when each request arrived), and the end of the input to stop.
#![expect(clippy::print_stdout, reason = "the answers are its output")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use testbed::issuer::{Client, GrantType, Issuer};
use testbed::pki::Pki;
use testbed::server::Server;
use token_core::{ClientSecret, ScopeSet, SystemClock, random_hex};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The name space of its deterministic job ids.
const BASE: Uuid = Uuid::from_u128(0x1b5e_7c3a_9f00_4d11_8c22_6f1e_2d3c_4b5a);
const VO: &str = "testvo";
const SCOPES: &str = "fts offline_access storage.read:/ storage.modify:/";

/// What arrived: when, by request.
#[derive(Default)]
struct Seen {
    jobs: u64,
    files: u64,
    arrivals: HashMap<Uuid, f64>,
}

type Shared = Arc<Mutex<Seen>>;

/// What is read of a submission.
#[derive(Deserialize)]
struct Submission {
    files: Vec<File>,
    params: Params,
}

#[derive(Deserialize)]
struct File {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    request_id: Uuid,
}

#[derive(Deserialize)]
struct Params {
    sid: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: bench-services FOLDER")?);
    let (stop, seen) = (CancellationToken::new(), Shared::default());
    let pki = Pki::create(&folder)?;
    let secret = random_hex();
    let client = |id: &str| -> Result<Client> {
        Ok(Client {
            id: id.into(),
            secret: ClientSecret::new(secret.clone()),
            key: None,
            scopes: ScopeSet::parse(SCOPES)?,
            grants: vec![GrantType::ClientCredentials],
            token_life: Duration::from_secs(3600),
        })
    };
    let clients = vec![client("rucio-conveyor")?, client("rucio-submitter")?];
    let issuer = Issuer::start(&pki, clients, Arc::new(SystemClock), stop.clone()).await?;
    let router = Router::new()
        .route("/whoami", get(whoami))
        .route("/jobs", post(submit))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(&seen));
    let fts = Server::start(router, pki.server(), 0, stop.clone()).await?;
    println!(
        "{}",
        json!({"issuer": issuer.name(), "fts": fts.url(), "ca_file": pki.ca_file(), "secret": secret})
    );
    let asked = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            println!("{}", told(&line, &seen, &issuer));
        }
    });
    asked.await?;
    stop.cancel();
    Ok(())
}

fn told(line: &str, seen: &Shared, issuer: &Issuer) -> Value {
    let mut seen = lock(seen);
    match line {
        "reset" => {
            *seen = Seen::default();
            issuer.reset_calls();
            json!({})
        }
        "arrivals" => json!(
            seen.arrivals.iter().map(|(id, at)| (id.simple().to_string(), at)).collect::<HashMap<_, _>>()
        ),
        _ => json!({
            "jobs": seen.jobs,
            "files": seen.files,
            "requests": seen.arrivals.len(),
            "token_calls": issuer.token_calls().total(),
        }),
    }
}

async fn whoami(headers: HeaderMap) -> Json<Value> {
    let method = if headers.contains_key("authorization") { "oauth2" } else { "certificate" };
    Json(json!({
        "user_dn": "submitter", "base_id": BASE, "vos": [VO], "vos_id": [Uuid::new_v5(&BASE, VO.as_bytes())],
        "delegation_id": "0123456789abcdef", "method": method, "is_root": false, "level": {}, "roles": [], "dn": [],
    }))
}

async fn submit(State(seen): State<Shared>, body: Bytes) -> Response {
    let Ok(job) = serde_json::from_slice::<Submission>(&body) else {
        return (StatusCode::BAD_REQUEST, "not a submission").into_response();
    };
    #[expect(clippy::disallowed_methods, reason = "the clock knows whole seconds only")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut seen = lock(&seen);
    seen.jobs += 1;
    seen.files += job.files.len() as u64;
    seen.arrivals.extend(job.files.iter().map(|file| (file.metadata.request_id, now)));
    let id = match job.params.sid {
        Some(sid) => Uuid::new_v5(&Uuid::new_v5(&BASE, VO.as_bytes()), sid.as_bytes()),
        None => random_hex().parse().unwrap_or_default(),
    };
    Json(json!({"job_id": id})).into_response()
}

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
