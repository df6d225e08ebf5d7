//! What goes over the wire: tokens that are not believed, lost answers, certificates, bulk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fts_client::{
    Answered, Change, FileEntry, FileFields, FtsClient, FtsError, FtsSettings, JobQuery, Lookup, Params,
    Priority, Submission, Submitted, Verdict,
};
use token_core::AccessToken;
use token_core::http::{ClientCertificate, HttpSettings, SetupError};

use crate::support::{Reaction, Request, Server, answer, json};
use crate::{ANON, DENIED, KNOWN, certificate, client, job_ids, settings};

const ID: &str = "8e531ad2-e76a-11f1-b890-02fc00000001";
const CRASH: &str = r#"{"status":"500 Internal Server Error","message":"internal error"}"#;

fn job() -> Submission {
    Submission {
        files: vec![FileEntry::new("davs://a.example/x", "davs://b.example/x")],
        params: Params::deterministic("s"),
    }
}

fn good(request: &Request) -> bool {
    request.headers.get("authorization").is_some_and(|value| value == "Bearer good")
}

/// The FTS of section b of what was observed: an unbelieved token makes one anonymous.
fn fts(request: &Request) -> Reaction {
    match (request.target.as_str(), good(request)) {
        ("/whoami", true) => json(200, KNOWN),
        ("/whoami", false) => json(200, ANON),
        ("/jobs", false) => json(403, DENIED),
        ("/jobs", true) if request.method == "POST" => json(200, &format!(r#"{{"job_id":"{ID}"}}"#)),
        ("/jobs", true) => json(200, "[]"),
        (_, false) => json(500, CRASH),
        (_, true) => {
            json(200, &format!(r#"{{"job_id":"{ID}","job_state":"ACTIVE","http_status":"200 Ok"}}"#))
        }
    }
}

#[tokio::test]
async fn an_unbelieved_token_is_replaced_exactly_once() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let server = Server::start(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        fts(request)
    })
    .await;
    let id = fts_client::JobId::parse(ID).unwrap();
    for call in 0..5 {
        let (client, source) = client(&server);
        calls.store(0, Ordering::Relaxed);
        let requests = match call {
            0 => client.whoami().await.map(|_| 2),
            1 => client.submit(&job()).await.map(|_| 2),
            2 => client.list(&JobQuery::default()).await.map(|_| 2),
            // 500, whoami as nobody, whoami with a fresh token, and the call again.
            3 => client.job(&id, FileFields::Poll).await.map(|_| 4),
            _ => client.set_priority(&id, Priority::new(5).unwrap()).await.map(|_| 4),
        };
        assert_eq!(requests.unwrap(), calls.load(Ordering::Relaxed), "call {call}");
        assert_eq!(source.fresh(), 1, "call {call}");
    }
}

#[tokio::test]
async fn a_token_without_the_scope_that_fts_wants_is_replaced_once() {
    const LACKS: &[u8] = b"<h1>Forbidden</h1>\n<p>Invalid credentials (Invalid OAuth2 credentials)</p>";
    // Also before anything else is looked at, as `whoami`.
    for mended in [true, false] {
        let server = Server::start(move |request| match good(request) && mended {
            true => fts(request),
            false => Reaction::Answer(answer(403, "text/html", LACKS)),
        })
        .await;
        for call in 0..2 {
            let (client, source) = client(&server);
            let outcome = match call {
                0 => client.whoami().await.map(drop),
                _ => client.submit(&job()).await.map(drop),
            };
            assert_eq!(outcome.is_ok(), mended, "{call}: {outcome:?}");
            assert!(mended || matches!(outcome, Err(FtsError::Forbidden { .. })), "{call}: {outcome:?}");
            assert_eq!(source.fresh(), 1, "{call}");
        }
    }
}

#[tokio::test]
async fn a_fresh_token_that_is_not_believed_either_ends_it() {
    let server = Server::start(|request| match request.target.as_str() {
        "/whoami" => json(200, ANON),
        "/jobs" => json(403, DENIED),
        _ => json(500, CRASH),
    })
    .await;
    let id = fts_client::JobId::parse(ID).unwrap();
    for call in 0..4 {
        let (client, source) = client(&server);
        let error = match call {
            0 => client.whoami().await.unwrap_err(),
            1 => client.submit(&job()).await.unwrap_err(),
            2 => client.job(&id, FileFields::None).await.unwrap_err(),
            _ => client.cancel(&id).await.unwrap_err(),
        };
        assert!(matches!(error, FtsError::Anonymous { .. }), "{call}: {error}");
        assert_eq!((error.verdict(), source.fresh()), (Verdict::Mend, 1), "{call}");
    }
}

#[tokio::test]
async fn a_real_500_is_not_the_tokens_fault() {
    let server = Server::start(|request| match request.target.as_str() {
        "/whoami" => json(200, KNOWN),
        _ => json(500, CRASH),
    })
    .await;
    let id = fts_client::JobId::parse(ID).unwrap();
    let (client, source) = client(&server);
    assert_eq!(client.job(&id, FileFields::None).await.unwrap_err().verdict(), Verdict::TryLater);
    assert_eq!(client.cancel(&id).await.unwrap_err().verdict(), Verdict::OutcomeUnknown);
    assert_eq!(client.submit(&job()).await.unwrap_err().verdict(), Verdict::OutcomeUnknown);
    assert_eq!(source.fresh(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_told_from_a_call_that_never_went() {
    let server = Server::start(|request| match request.target.as_str() {
        "/jobs" if request.method == "POST" && request.body.ends_with(b"}") => Reaction::Hang,
        "/whoami" => Reaction::Cut,
        _ => json(200, "[]"),
    })
    .await;
    let patient = settings(&server);
    let http = HttpSettings { timeout: Duration::from_secs(3), ..patient.http.clone() };
    let token = Arc::new(AccessToken::new("good").unwrap());
    let client = FtsClient::new(&FtsSettings { http, ..patient }, token).unwrap();
    let lost = client.submit(&job()).await.unwrap_err();
    assert!(
        matches!(&lost, FtsError::OutcomeUnknown { reason, .. } if reason == "no answer in time"),
        "{lost}"
    );
    let cut = client.whoami().await.unwrap_err();
    assert_eq!(cut.verdict(), Verdict::TryLater, "only read: {cut}");

    // A call that is dropped leaves the client as good as it was.
    let dropped = tokio::time::timeout(Duration::from_millis(50), client.submit(&job())).await;
    assert!(dropped.is_err());
    assert!(client.list(&JobQuery::default()).await.unwrap().is_empty());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = FtsSettings::new(format!("https://{nobody}").parse().unwrap());
    let client = FtsClient::without_token(&away).unwrap();
    let refused = client.submit(&job()).await.unwrap_err();
    assert!(matches!(refused, FtsError::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn an_unknown_authority_is_not_trusted_and_a_certificate_is_shown() {
    let server = Server::start(|request| match request.certificate {
        true => json(200, &KNOWN.replace("oauth2", "certificate")),
        false => json(200, ANON),
    })
    .await;
    let trusting = settings(&server);
    let plain = FtsClient::without_token(&FtsSettings::new(server.url.clone())).unwrap();
    assert!(
        matches!(plain.whoami().await, Err(FtsError::Unreachable { .. })),
        "nobody signed for this server"
    );

    let nobody = FtsClient::without_token(&trusting).unwrap();
    assert!(matches!(nobody.whoami().await, Err(FtsError::Anonymous { .. })));
    let shown = FtsSettings { certificate: Some(certificate(&server)), ..trusting.clone() };
    assert_eq!(FtsClient::without_token(&shown).unwrap().whoami().await.unwrap().method, "certificate");

    // A proxy is one file with both.
    let read = |name: &str| std::fs::read_to_string(server.folder.path().join(name)).unwrap();
    let proxy = server.folder.path().join("proxy.pem");
    std::fs::write(&proxy, format!("{}{}", read("client.pem"), read("client.key"))).unwrap();
    let shown = FtsSettings {
        certificate: Some(ClientCertificate { certificate: proxy, key: None }),
        ..trusting.clone()
    };
    assert_eq!(FtsClient::without_token(&shown).unwrap().whoami().await.unwrap().method, "certificate");

    let without_key = ClientCertificate { key: None, ..certificate(&server) };
    let made = FtsClient::without_token(&FtsSettings { certificate: Some(without_key), ..trusting });
    assert!(matches!(made, Err(SetupError::ClientCertificate { .. })));
}

/// Every third job is unknown; the list is in another order than asked.
fn mixed(ids: &str) -> (u16, String) {
    let entry = |id: &str| match id.ends_with(['0', '3', '6', '9']) {
        true => format!(r#"{{"job_id":"{id}","http_status":"404 Not Found","http_message":"x"}}"#),
        false => format!(r#"{{"job_id":"{id}","job_state":"ACTIVE","http_status":"200 Ok"}}"#),
    };
    let entries: Vec<_> = ids.split(',').rev().map(entry).collect();
    match &entries[..] {
        [one] if one.contains("404") => (404, one.clone()),
        [one] => (200, one.clone()),
        many => (207, format!("[{}]", many.join(","))),
    }
}

#[tokio::test]
async fn many_jobs_are_polled_in_few_requests_over_one_connection() {
    let longest = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&longest);
    let server = Server::start(move |request| {
        seen.fetch_max(request.line.len() as u64 + 2, Ordering::Relaxed);
        let path = request.target.strip_prefix("/jobs/").unwrap();
        let (status, body) = mixed(path.split('?').next().unwrap());
        json(status, &body)
    })
    .await;
    let (client, _) = client(&server);
    let ids = job_ids(10_000);
    let mut poll = client.poll(&ids, FileFields::Poll);
    let mut found = Vec::new();
    while let Some(jobs) = poll.next().await {
        found.extend(jobs.unwrap());
    }
    assert!(poll.requests() <= 60, "{} requests", poll.requests());
    assert!(longest.load(Ordering::Relaxed) <= 8190);
    assert_eq!(server.connections(), 1);
    assert_eq!(found.iter().map(|job| &job.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    for Answered { id, outcome } in found {
        let unknown = id.as_str().ends_with(['0', '3', '6', '9']);
        assert_eq!(matches!(outcome.unwrap(), Lookup::Unknown), unknown, "{id}");
    }
}

#[tokio::test]
async fn a_server_with_a_shorter_limit_gets_shorter_requests() {
    let server = Server::start(|request| {
        if request.line.len() > 1000 {
            return Reaction::Answer(answer(414, "text/html", b"<h1>Request-URI Too Long</h1>"));
        }
        let (status, body) = mixed(request.target.strip_prefix("/jobs/").unwrap());
        json(status, &body)
    })
    .await;
    let (client, _) = client(&server);
    let ids = job_ids(150);
    let mut cancel = client.cancel_many(&ids);
    let mut done = 0;
    while let Some(jobs) = cancel.next().await {
        done += jobs.unwrap().iter().filter(|job| matches!(job.outcome, Ok(Change::Done(_)))).count();
    }
    assert_eq!(done, 90);
}

#[tokio::test]
async fn an_answer_too_long_for_many_is_asked_for_in_halves() {
    let server = Server::start(|request| {
        let ids: Vec<_> = request.target.strip_prefix("/jobs/").unwrap().split(',').collect();
        let padding = "x".repeat(3 << 20);
        let entry = |id: &&str| format!(r#"{{"job_id":"{id}","job_state":"ACTIVE","reason":"{padding}"}}"#);
        let entries: Vec<_> = ids.iter().map(entry).collect();
        json(200, &if ids.len() == 1 { entries[0].clone() } else { format!("[{}]", entries.join(",")) })
    })
    .await;
    let (client, _) = client(&server);
    let ids = job_ids(16);
    let mut poll = client.poll(&ids, FileFields::None);
    let mut found = 0;
    while let Some(jobs) = poll.next().await {
        found += jobs.unwrap().into_iter().filter(|job| matches!(job.outcome, Ok(Lookup::Known(_)))).count();
    }
    assert_eq!((found, poll.requests()), (16, 3));
}

#[tokio::test]
async fn a_job_that_is_there_already_is_no_error() {
    let server = Server::start(|_| {
        json(409, r#"{"status":"409 Conflict","message":"The sid provided by the user is duplicated"}"#)
    })
    .await;
    assert_eq!(client(&server).0.submit(&job()).await.unwrap(), Submitted::AlreadyThere);
}
