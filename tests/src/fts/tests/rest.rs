//! REST answers.

use std::time::Instant;

use super::*;
use crate::fts::SubmitFault;
use crate::mint::SigningKey;

fn bearer_job() -> Value {
    json!({"files": [{"sources": [SOURCE], "destinations": [DESTINATION]}], "params": {}})
}

#[tokio::test]
async fn a_bad_token_is_nobody_and_nobody_is_never_told_why() {
    let rig = Rig::start().await;
    let mint = |claims| rig.issuer.mint(claims).unwrap().expose().to_owned();
    let aud = rig.fts.url();
    let foreign = SigningKey::es256("es256-1").unwrap();
    let forged = json!({"iss": rig.issuer.name(), "sub": "x", "aud": aud, "exp": NOW.0 + 60, "iat": NOW.0});
    let bad = [
        mint(json!({"aud": "https://elsewhere.example"})),
        mint(json!({"aud": aud, "exp": NOW.0})),
        mint(json!({"aud": aud, "nbf": NOW.0 + 1})),
        mint(json!({"aud": aud, "iss": "https://unknown.example/"})),
        mint(json!({"aud": aud, "iss": rig.issuer.name().trim_end_matches('/')})),
        mint(json!({"aud": aud, "iss": null})),
        foreign.sign(&forged).unwrap(),
        "garbage".to_owned(),
    ];
    for token in &bad {
        let (status, who) = rig.call(Method::GET, "/whoami", Some(token), None).await;
        assert!(status == 200 && who.contains("\"anon\""), "{who}");
    }
    for (method, path, body, status) in [
        (Method::POST, "/jobs", Some(bearer_job()), 403),
        (Method::GET, "/jobs", None, 403),
        (Method::GET, "/jobs/00000000-0000-0000-0000-000000000000", None, 500),
        (Method::DELETE, "/jobs/00000000-0000-0000-0000-000000000000", None, 500),
    ] {
        let answer = rig.call(method, path, Some(&bad[0]), body.map(|body| body.to_string())).await;
        let message = if status == 403 { "Not enough permissions" } else { "internal error" };
        assert!(answer.0 == status && answer.1.contains(message), "{path}: {answer:?}");
    }
    let (_, who) = rig.json(Method::GET, "/whoami", None).await;
    assert_eq!((&who["user_dn"], &who["vos"]), (&json!("rucio-client"), &json!(["rigvo"])));
    assert_eq!(who["vos_id"], json!(["227ce925-dfae-5484-ac3a-28be9286cd27"]));
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_found_later() {
    let rig = Rig::start().await;
    rig.issuer.server().set_up(false);
    let config =
        FtsConfig { database: rig.fts.database().with_file_name("two"), ..rig.fts.inner.config.clone() };
    let clock = Arc::<ManualClock>::clone(&rig.clock);
    let late = Fts::start(&rig.pki, config, clock, rig.stop.clone()).await.unwrap();
    let token = rig.token(&late.url(), "fts");
    let url = format!("{}/whoami", late.url());
    let mut who = Value::Null;
    for up in [false, true] {
        rig.issuer.server().set_up(up);
        for _ in 0..100 {
            #[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
            let response = rig.http.get(&url).bearer_auth(&token).send().await.unwrap();
            who = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            // The issuer's port takes a moment to come back.
            if !up || who["user_dn"] != "anon" {
                break;
            }
        }
        assert_eq!(who["user_dn"] == "anon", !up);
    }
}

#[tokio::test]
async fn a_bearer_only_job_waits_with_both_ids_on_the_bearer() {
    let rig = Rig::start().await;
    let id = rig.submit(bearer_job()).await;
    let job = rig.job(&id).await;
    let bearer = rig.bearer.fingerprint().to_string();
    let file = &job["files"][0];
    assert_eq!((&job["job_state"], &job["source_se"]), (&json!("SUBMITTED"), &json!("davs://src.rig.test")));
    assert_eq!(
        (&file["file_state"], &file["file_state_initial"]),
        (&json!("TOKEN_PREP"), &json!("SUBMITTED"))
    );
    assert_eq!((&file["src_token_id"], &file["dst_token_id"]), (&json!(bearer), &json!(bearer)));
    assert!(file.get("wibble").is_none());
    let find = "SELECT issuer, audience, unmanaged, access_token_expiry FROM t_token WHERE token_id = ?";
    let find = crate::fts::sql::statement(find).bind(&bearer);
    let row = find.fetch_one(&rig.fts.inner.database.reader).await.unwrap();
    assert_eq!(row.get::<&str>(0), rig.issuer.name());
    assert_eq!(row.get::<&str>(1), rig.fts.url());
    assert_eq!((row.get::<i64>(2), row.get::<&str>(3)), (0, "2026-11-23 19:20:26"));

    // Once the token has a refresh token, the next job does not wait.
    rig.fts.set_scheduler(false);
    rig.execute("UPDATE t_token SET refresh_token = 'r'", &[]).await;
    let second = rig.submit(bearer_job()).await;
    assert_eq!(rig.job(&second).await["files"][0]["file_state"], "SUBMITTED");
}

#[tokio::test]
async fn files_without_tokens_beside_others_wait_for_ever_without_ids() {
    let rig = Rig::start().await;
    let token = rig.token("https://src.rig.test", "storage.read:/");
    let mut mixed = job(&json!({}), &json!({}), &token);
    mixed["files"].as_array_mut().unwrap().push(bearer_job()["files"][0].clone());
    let empty = job(&json!({"source_tokens": [], "destination_tokens": []}), &json!({}), &token);
    for (body, index) in [(mixed, 1), (empty, 0)] {
        let id = rig.submit(body).await;
        let file = &rig.job(&id).await["files"][index];
        assert_eq!((&file["file_state"], &file["src_token_id"]), (&json!("TOKEN_PREP"), &Value::Null));
    }
}

#[tokio::test]
async fn a_deterministic_id_is_foreseen_and_taken_once_also_when_the_answer_was_lost() {
    let rig = Rig::start().await;
    let mut body = bearer_job();
    body["params"] = json!({"id_generator": "deterministic", "sid": "rig-1795458021"});
    rig.fts.set_submit_fault(SubmitFault::Refuse503(1));
    assert_eq!(rig.json(Method::POST, "/jobs", Some(body.clone())).await.0, 503);
    rig.fts.set_submit_fault(SubmitFault::LoseAnswer(1));
    assert_eq!(rig.json(Method::POST, "/jobs", Some(body.clone())).await, (502, Value::Null));
    let (status, answer) = rig.json(Method::POST, "/jobs", Some(body)).await;
    assert_eq!((status, &answer["message"]), (409, &json!("The sid provided by the user is duplicated")));
    assert_eq!((rig.fts.submissions(), rig.fts.counts().await.unwrap().jobs), (3, 1));
    assert_eq!(rig.job("7dffad3b-77ac-562b-a66d-2e8c08133183").await["http_status"], "200 Ok");
}

#[tokio::test]
async fn one_id_gives_an_object_and_several_a_list() {
    let rig = Rig::start().await;
    let (one, two) = (rig.submit(bearer_job()).await, rig.submit(bearer_job()).await);
    let unknown = "00000000-0000-0000-0000-000000000000";
    let missing = json!({
        "job_id": unknown, "http_status": "404 Not Found",
        "http_message": format!("No job with the id \"{unknown}\" has been found"),
    });
    let get = async |ids: String| rig.json(Method::GET, &format!("/jobs/{ids}"), None).await;
    assert_eq!(get(unknown.to_owned()).await, (404, missing.clone()));
    assert_eq!(get(format!("{unknown},")).await, (207, json!([missing])));
    let (status, some) = get(format!("{one},{unknown}")).await;
    assert_eq!((status, &some[0]["job_id"], &some[1]), (207, &json!(one), &missing));
    let (status, all) = get(format!("{one},{two}?files=file_id")).await;
    assert_eq!((status, all[1]["files"][0].as_object().unwrap().len()), (200, 1));
    let keys = get(one.clone()).await.1;
    assert_eq!(keys.as_object().unwrap().len(), 30, "29 of the job, and http_status: {keys}");
    assert_eq!(get(format!("{one}/job_state")).await, (200, json!("SUBMITTED")));
    assert_eq!(get(format!("{one}/wibble")).await.1["message"], "No such field");
    assert_eq!(get(format!("{one}/files")).await.1[0].as_object().unwrap().len(), 42);
    let (status, _) = rig.call(Method::GET, &format!("/jobs/{}", "a".repeat(8200)), None, None).await;
    assert_eq!(status, 414);
}

#[tokio::test]
async fn a_cancellation_leaves_a_file_in_token_prep_behind() {
    let rig = Rig::start().await;
    let id = rig.submit(bearer_job()).await;
    let path = format!("/jobs/{id}");
    let (status, job) = rig.json(Method::POST, &path, Some(json!({"params": {"priority": 5}}))).await;
    assert_eq!((status, &job["files"][0]["priority"]), (200, &json!(5)));
    let (status, job) = rig.json(Method::DELETE, &path, None).await;
    assert_eq!((status, &job["job_state"], &job["cancel_job"]), (200, &json!("CANCELED"), &json!(true)));
    assert_eq!(rig.job(&id).await["files"][0]["file_state"], "TOKEN_PREP");
    let (status, again) = rig.json(Method::DELETE, &path, None).await;
    assert_eq!((status, &again["http_status"]), (200, &json!("304 Not Modified")));
}

#[tokio::test]
async fn several_sources_and_hops_begin_with_one_row() {
    let rig = Rig::start().await;
    let states = async |body: Value| {
        let id = rig.submit(body).await;
        let job = rig.job(&id).await;
        let files = job["files"].as_array().unwrap().iter().map(|file| file["file_state_initial"].clone());
        (job["job_type"].clone(), Value::from_iter(files))
    };
    let two = json!({"files": [{"sources": [SOURCE, "davs://src2/x"], "destinations": [DESTINATION]}], "params": {}});
    assert_eq!(states(two).await, (json!("R"), json!(["SUBMITTED", "NOT_USED"])));
    let hop = "davs://hop/x";
    let hops = json!({
        "files": [{"sources": [SOURCE], "destinations": [hop]}, {"sources": [hop], "destinations": [DESTINATION]}],
        "params": {"multihop": true, "overwrite_hop": true},
    });
    assert_eq!(states(hops).await, (json!("H"), json!(["SUBMITTED", "NOT_USED"])));
}

#[tokio::test]
async fn two_hundred_files_are_stored_fast() {
    let rig = Rig::start().await;
    let file = bearer_job()["files"][0].clone();
    let started = Instant::now();
    rig.submit(json!({"files": vec![file; 200], "params": {}})).await;
    let took = started.elapsed();
    // 30 ms here, unoptimised; the bound is for busy machines.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(rig.fts.counts().await.unwrap().files_in("TOKEN_PREP"), 200);
}
