//! `token-exchange`'s HTTP service over TLS: a caller's token goes in, one for a storage endpoint comes out, or who erred.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "exchange_api/rig.rs"]
mod rig;

use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::grid::{Signal, signal, terminate};
use testbed::issuer::Fault;
use testbed::mint::tampered;
use token_core::{Clock as _, Issuer, IssuerKeys, Policy, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use rig::{AUDIENCE, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_the_endpoint_comes_out_as_the_endpoint_table_has_it() {
    let rig = Rig::start().await;
    let (worker, url) = rig.worker().await;
    let (caller, storage) = (rig.caller(&json!({})), rig.storage("DISK-A"));
    let question = json!({"endpoint": storage, "operations": ["read"]});
    let calls = rig.grid.issuer.token_calls().exchange;
    let answer = rig.ask(&url, caller.expose(), &question).await;
    let given = answer.token();
    // As the storage will see it.
    let policy = Policy::new(rig.grid.issuer.name(), vec![storage.clone()]);
    let issuer = Issuer::new(rig.grid.issuer.name()).unwrap();
    let keys = IssuerKeys::new(issuer, rig.http.clone(), Arc::new(SystemClock));
    let claims = keys.verify(given.expose(), &policy).await.unwrap();
    let [area, path] = rig.area("DISK-A");
    let scope = claims.scope.unwrap();
    assert_eq!(scope, format!("storage.read:{area}"));
    let said = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    assert_eq!(
        (said("audience").as_str(), said("scope"), said("token_type").as_str()),
        (storage.as_str(), scope, "Bearer")
    );
    assert_eq!(said("issued_token_type"), "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(answer.body["expires_at"].as_i64().unwrap(), claims.exp.0);
    assert!((3500..=3600).contains(&answer.body["expires_in"].as_u64().unwrap()), "{answer:?}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    assert_eq!(answer.header("content-type"), "application/json");

    // It is kept, also for another token of the same caller, and with a path below the area.
    let with_path = json!({"endpoint": storage, "operations": ["read"], "path": format!("{path}/d/f")});
    for question in [&question, &with_path] {
        assert_eq!(rig.ask(&url, rig.caller(&json!({})).expose(), question).await.token(), given);
    }
    assert_eq!(rig.grid.issuer.token_calls().exchange - calls, 1);
    // Another caller's is its own.
    assert_ne!(rig.ask(&url, rig.caller(&json!({"sub": "other"})).expose(), &question).await.token(), given);
    let write = json!({"endpoint": storage, "operations": ["read", "modify"]});
    let scope = rig.ask(&url, caller.expose(), &write).await.body["scope"].clone();
    assert_eq!(scope, format!("storage.read:{area} storage.modify:{area}"));

    terminate(worker).await.unwrap();
    let log = rig.log();
    assert!(log.contains("token given over HTTP") && log.contains(&given.fingerprint().to_string()), "{log}");
    for secret in [&caller, &given] {
        let parts: Vec<&str> = secret.expose().split('.').collect();
        assert!(!log.contains(parts[1]) && !log.contains(parts[2]), "a token is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_or_asks_for_too_much_is_refused_and_the_issuer_is_not_bothered() {
    let rig = Rig::start().await;
    let (worker, url) = rig.worker().await;
    let storage = rig.storage("DISK-A");
    let question = json!({"endpoint": storage, "operations": ["read"]});
    let calls = rig.grid.issuer.token_calls();
    let good = rig.caller(&json!({}));
    let expired = json!({"exp": SystemClock.now().0 - 10});
    let signed_by_none = tampered(good.expose());
    let refused = [
        rig.caller(&json!({"aud": "https://fts.example"})).expose().to_owned(),
        rig.caller(&json!({"aud": format!("{AUDIENCE}/")})).expose().to_owned(),
        rig.caller(&json!({"aud": "https://wlcg.cern.ch/jwt/v1/any"})).expose().to_owned(),
        rig.caller(&expired).expose().to_owned(),
        rig.caller(&json!({"iss": "https://another.example/"})).expose().to_owned(),
        signed_by_none,
        "canary".to_owned(),
    ];
    for token in refused {
        let answer = rig.ask(&url, &token, &question).await;
        assert_eq!(answer.refusal(), (401, "invalid_token", "caller"), "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    for request in [
        rig.http.post(&url),
        rig.http.post(&url).basic_auth("agent", Some("canary")),
        rig.http.post(&url).bearer_auth(good.expose()).header("authorization", "Bearer canary"),
    ] {
        let answer = rig.send(request.body(question.to_string())).await;
        assert_eq!(answer.refusal(), (401, "invalid_request", "caller"), "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }

    // More than it holds: another operation, another path.
    let narrow = rig.caller(&json!({"scope": "storage.read:/"}));
    let elsewhere = rig.caller(&json!({"scope": "storage.read:/nowhere storage.modify:/nowhere"}));
    for (caller, operations) in [(&narrow, "modify"), (&narrow, "stage"), (&elsewhere, "read")] {
        let question = json!({"endpoint": storage, "operations": [operations]});
        let answer = rig.ask(&url, caller.expose(), &question).await;
        assert_eq!(answer.refusal(), (403, "insufficient_scope", "caller"), "{answer:?}");
    }

    // Nothing that could be asked for.
    let long = "x".repeat(20_000);
    for (body, status, error) in [
        (json!({"endpoint": "storage", "operations": ["read"]}).to_string(), 400, "invalid_target"),
        (
            json!({"endpoint": storage, "operations": ["read"], "path": "/a/../b"}).to_string(),
            400,
            "invalid_request",
        ),
        (json!({"endpoint": storage, "operations": []}).to_string(), 400, "invalid_request"),
        (json!({"endpoint": storage, "operations": ["delete"]}).to_string(), 400, "invalid_request"),
        (
            json!({"endpoint": storage, "operations": ["read"], "audience": "https://a"}).to_string(),
            400,
            "invalid_request",
        ),
        ("no JSON".to_owned(), 400, "invalid_request"),
        (long, 413, "invalid_request"),
    ] {
        let answer = rig.send(rig.http.post(&url).bearer_auth(good.expose()).body(body)).await;
        assert_eq!(answer.refusal(), (status, error, "caller"), "{answer:?}");
    }
    let answer = rig.send(rig.http.get(&url).bearer_auth(good.expose())).await;
    assert_eq!(answer.refusal(), (405, "invalid_request", "caller"));
    let answer = rig.send(rig.http.post(url.replace("/v1/", "/v2/")).bearer_auth(good.expose())).await;
    assert_eq!(answer.refusal(), (404, "invalid_request", "caller"));
    assert_eq!(rig.grid.issuer.token_calls(), calls, "the issuer was not asked for anything");
    terminate(worker).await.unwrap();
    assert!(!rig.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_is_said_to_be_and_when_to_come_again() {
    let rig = Rig::start().await;
    let (worker, url) = rig.worker().await;
    let caller = rig.caller(&json!({}));
    let question = json!({"endpoint": rig.storage("DISK-A"), "operations": ["read"]});
    // Not even its keys are there.
    rig.grid.issuer.set_fault(Fault::Down);
    let answer = rig.ask(&url, caller.expose(), &question).await;
    assert_eq!(answer.refusal(), (503, "temporarily_unavailable", "issuer"), "{answer:?}");
    let again: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=300).contains(&again) && answer.body["retry_after_s"] == again, "{answer:?}");
    rig.grid.issuer.set_fault(Fault::None);
    tokio::time::sleep(Duration::from_secs(again)).await;
    rig.ask(&url, caller.expose(), &question).await.token();

    let ask = async |operation: &str| {
        let question = json!({"endpoint": rig.storage("DISK-B"), "operations": [operation]});
        rig.ask(&url, caller.expose(), &question).await
    };
    rig.grid.issuer.set_fault(Fault::TooManyRequests { retry_after_s: 7 });
    let answer = ask("read").await;
    assert_eq!(answer.refusal(), (503, "temporarily_unavailable", "issuer"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "7");
    rig.grid.issuer.set_fault(Fault::Refuse("access_denied"));
    let answer = ask("create").await;
    assert_eq!(answer.refusal(), (403, "access_denied", "issuer"), "{answer:?}");
    rig.grid.issuer.set_fault(Fault::Refuse("invalid_client"));
    let answer = ask("modify").await;
    assert_eq!(answer.refusal(), (503, "temporarily_unavailable", "token-exchange"), "{answer:?}");
    // A token that is not the one asked for is not given on.
    rig.grid.issuer.set_fault(Fault::WrongAudience);
    let answer = ask("read").await;
    assert_eq!((answer.status, &answer.body["erred"]), (503, &json!("issuer")), "{answer:?}");
    rig.grid.issuer.set_fault(Fault::None);
    ask("read").await.token();
    terminate(worker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_the_same_cost_one_call_and_too_many_are_sent_away() {
    let rig = Rig::start().await;
    rig.listen("max_in_flight = 50");
    let (worker, url) = rig.worker().await;
    let question = json!({"endpoint": rig.storage("DISK-A"), "operations": ["read"]});
    rig.ask(
        &url,
        rig.caller(&json!({})).expose(),
        &json!({"endpoint": rig.storage("DISK-B"), "operations": ["read"]}),
    )
    .await
    .token();
    let calls = rig.grid.issuer.token_calls().exchange;
    rig.grid.issuer.set_fault(Fault::Slow(Duration::from_secs(1)));
    let callers: Vec<_> = (0..40).map(|_| rig.caller(&json!({}))).collect();
    let all = futures_util::future::join_all(
        callers.iter().map(|caller| rig.ask(&url, caller.expose(), &question)),
    )
    .await;
    let first = all[0].token();
    assert!(all.iter().all(|answer| answer.token() == first));
    assert_eq!(rig.grid.issuer.token_calls().exchange - calls, 1);
    terminate(worker).await.unwrap();

    // And what is being answered when it is to end is answered.
    rig.listen("max_in_flight = 2");
    let (mut worker, url) = rig.worker().await;
    rig.grid.issuer.set_fault(Fault::Slow(Duration::from_secs(4)));
    let sent_away = std::cell::Cell::new(0);
    let ask = async |sub: String| {
        let answer = rig.ask(&url, rig.caller(&json!({"sub": sub})).expose(), &question).await;
        sent_away.set(sent_away.get() + usize::from(answer.status == 503));
        answer
    };
    let stop = async {
        let end = Instant::now() + Duration::from_secs(60);
        while sent_away.get() < 8 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        signal(worker.id().unwrap(), Signal::TERM).unwrap();
    };
    let (answers, ()) =
        tokio::join!(futures_util::future::join_all((0..10).map(|n| ask(format!("agent {n}")))), stop);
    let (given, sent_away): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((given.len(), sent_away.len()), (2, 8), "{sent_away:?}");
    for answer in sent_away {
        assert_eq!(answer.refusal(), (503, "temporarily_unavailable", "token-exchange"));
        assert_eq!(answer.header("retry-after"), "1");
    }
    // It ends by itself; a second signal would cut that short.
    let ended = tokio::time::timeout(Duration::from_secs(30), worker.wait()).await.unwrap();
    assert!(ended.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default_and_never_in_the_clear_but_on_loopback() {
    let rig = Rig::start().await;
    let expect = async |api: &str, named: &str| {
        rig.configure("[api]", api);
        let output: Output =
            rig.grid.token_exchange(&[]).stderr(std::process::Stdio::piped()).output().await.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        let line = log.lines().last().unwrap_or_default();
        assert!(output.status.code() == Some(2) && line.contains(named), "`{named}`: {log}");
        assert!(!log.contains("canary"), "{log}");
    };
    let folder = rig.grid.folder.display().to_string();
    let files = format!("certificate_file = \"{folder}/host.pem\"\nkey_file = \"{folder}/host.key\"\n");
    let (listen, audience) = ("listen = \"127.0.0.1:0\"\n", format!("audience = [\"{AUDIENCE}\"]\n"));
    expect(&format!("{listen}{audience}"), "`api.certificate_file`").await;
    expect(
        &format!("listen = \"0.0.0.0:0\"\nplain_http_on_loopback = true\n{audience}"),
        "`api.certificate_file`",
    )
    .await;
    expect(&format!("{listen}{files}"), "`api.audience` is missing").await;
    std::fs::write(rig.grid.folder.join("other.key"), "canary").unwrap();
    expect(&format!("{listen}{audience}{}", files.replace("host.key", "other.key")), "`api.key_file`").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    expect(&format!("listen = \"{at}\"\n{audience}{files}"), &format!("`api.listen` = {at}")).await;

    rig.configure("[api]", &format!("{listen}{audience}plain_http_on_loopback = true\ntimeout_s = 5"));
    let (worker, url) = rig.worker().await;
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    // A body that does not come, and a header without end.
    let head = "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer";
    for (sent, status) in [
        (format!("{head} {}\r\nContent-Length: 100\r\n\r\n{{", rig.caller(&json!({})).expose()), "408"),
        (format!("{head} {}\r\n\r\n", "x".repeat(100_000)), "431"),
    ] {
        let mut connection = TcpStream::connect(&address).await.unwrap();
        // It may be cut off before all is sent.
        let _ = connection.write_all(sent.as_bytes()).await;
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(60), connection.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
    let question = json!({"endpoint": rig.storage("DISK-A"), "operations": ["read"]});
    rig.ask(&url, rig.caller(&json!({})).expose(), &question).await.token();
    terminate(worker).await.unwrap();

    rig.configure("[api]", "");
    let checked = rig.grid.token_exchange(&["config", "show"]).output().await.unwrap();
    assert!(checked.status.success());
    let once = rig.grid.token_exchange(&["--run-once", "--json"]).output().await.unwrap();
    assert!(once.status.success() && serde_json::from_slice::<Value>(&once.stdout).is_ok());
    assert!(!String::from_utf8_lossy(&once.stderr).contains("tokens are given at"));
}
