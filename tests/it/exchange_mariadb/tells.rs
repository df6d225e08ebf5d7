//! What `plan`, `explain` and `status` tell on FTS's own kind of database.

use std::process::Stdio;

use serde_json::{Value, json};
use token_core::{Clock as _, SystemClock};

use super::site::{FILES, Site, report};

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_look_work_and_foretell_the_calls() {
    const JOBS: usize = 5;
    let Some(site) = Site::start(JOBS).await else { return };
    let files = JOBS * FILES;
    let plan = told(&site, &["plan", "--json"]).await;
    assert_eq!((&plan["files"], &plan["calls"]), (&files.into(), &2.into()), "{plan}");
    assert_eq!(plan["calls_at"]["file"], files + 1, "{plan}");
    let status = told(&site, &["status", "--json"]).await;
    assert_eq!((&status["schema"], &status["backlog"][0]["files"]), (&10.into(), &files.into()), "{status}");
    let id = site.database.rows(&["min(file_id)"], "t_file").await.unwrap()[0][0].clone().unwrap();
    let waiting = told(&site, &["explain", &id, "--json"]).await;
    assert_eq!(waiting["source"]["wanted"]["scope"], "storage.read:/data", "{waiting}");
    assert_eq!(report(&site.once().output().await.unwrap()), format!("{files} released"));
    assert_eq!(plan["calls"], site.issuer.token_calls().exchange);
    let released = told(&site, &["explain", &id, "--json"]).await;
    assert_eq!(
        (&released["state"], &released["source"]["token"]["got_by"]),
        (&"SUBMITTED".into(), &"exchange".into()),
        "{released}"
    );
    let request = "0123456789abcdef0123456789abcdef";
    site.change("UPDATE t_job SET submit_time = '2026-03-04 05:06:07'").await;
    site.change(&format!(
        "UPDATE t_file SET file_metadata = '{{\"request_id\": \"{request}\"}}' WHERE file_id = {id}"
    ))
    .await;
    let traced = told(&site, &["trace", &id, "--json"]).await;
    assert_eq!(told(&site, &["trace", request, "--json"]).await["files"], traced["files"]);
    let [file] = traced["files"].as_array().unwrap().as_slice() else { panic!("{traced}") };
    let submitted = file["submitted_at"].as_str().unwrap();
    assert!(submitted.starts_with("2026-03-04 05:06:07") && file["state"] == "SUBMITTED", "{traced}");
    let made_of = &traced["tokens"][file["source_token"].as_str().unwrap()]["made_of"];
    let by_token = told(&site, &["trace", made_of.as_str().unwrap(), "--json"]).await;
    assert!(by_token["files"].as_array().unwrap().contains(file), "{by_token}");
    let life = released["source"]["token"]["lives_s"].as_i64().unwrap();
    assert!((3300..=3600).contains(&life), "{released}");
    let status = told(&site, &["status", "--json"]).await;
    assert_eq!(status["tokens"].as_array().unwrap().len(), 2, "{status}");
    assert!(status["backlog"].as_array().unwrap().is_empty(), "{status}");
    site.database.remove().await.unwrap();
}

async fn told(site: &Site, arguments: &[&str]) -> Value {
    let output = site.worker(arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_token_that_can_not_outlive_queue_and_copy_is_reported() {
    let Some(site) = Site::start(2).await else { return };
    // Of the first job, the source's token is its submitter's own.
    let exp = SystemClock.now().0 + 700;
    let claims = json!({"aud": "https://source.example", "scope": "storage.read:/data", "exp": exp});
    let token = site.issuer.mint(claims).unwrap();
    site.change(&format!(
        "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, unmanaged) VALUES ('{}', '{}', \
         UTC_TIMESTAMP() + INTERVAL 700 SECOND, '{}', 'storage.read:/data', 'https://source.example', 1)",
        token.fingerprint(),
        token.expose(),
        site.issuer.name()
    ))
    .await;
    site.change(&format!(
        "UPDATE t_file SET src_token_id = '{}' WHERE job_id = (SELECT min(job_id) FROM t_job)",
        token.fingerprint()
    ))
    .await;
    let plan = told(&site, &["plan", "--json"]).await;
    assert_eq!((&plan["given"], &plan["short_lived"]), (&FILES.into(), &FILES.into()), "{plan}");
    let life = plan["shortest_life_s"].as_u64().unwrap();
    assert!((600..=700).contains(&life), "{plan}");
    let output = site.once().output().await.unwrap();
    let (log, done) = (String::from_utf8_lossy(&output.stderr).into_owned(), report(&output));
    assert_eq!(done, "4 released");
    // Those that we got live for an hour.
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["short_lived"]["files"], FILES, "{said}");
    let life = said["short_lived"]["shortest_s"].as_u64().unwrap();
    assert!((600..=700).contains(&life), "{said}");
    assert!(
        log.contains("live shorter than `worker.min_token_life_s`") && !log.contains(token.expose()),
        "{log}"
    );
    let status = told(&site, &["status", "--json"]).await;
    let short = status["short_lived"].as_array().unwrap();
    assert_eq!(
        (short.len(), &short[0]["audience"], &short[0]["tokens"], &short[0]["files"]),
        (1, &"https://source.example".into(), &1.into(), &FILES.into()),
        "{status}"
    );

    // All is well for who needs less; who needs more than an hour is told of all. The second time around, the endpoint tokens are
    // what the files were submitted with, unmanaged and for their storages.
    for (needed_s, expected) in [("500", 0), ("7200", 2 * FILES)] {
        site.change("UPDATE t_file SET file_state = 'TOKEN_PREP'").await;
        let output =
            site.once().env("TOKEN_EXCHANGE__WORKER__MIN_TOKEN_LIFE_S", needed_s).output().await.unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["short_lived"]["files"], expected, "{said}");
    }
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ftss_own_files_and_clients_are_enough() {
    let Some(site) = Site::start(2).await else { return };
    let url: url::Url = site.database.url().parse().unwrap();
    let fts3config = site.folder.path().join("fts3config");
    let lines = format!(
        "User=fts3\nDbType=mysql\nDbUserName={}\nDbPassword={}\nDbConnectString={}:{}{}\n\
         TokenExchangeCheckInterval = 30\nTokenRefreshMarginPeriod = 300\n",
        url.username(),
        url.password().unwrap(),
        url.host_str().unwrap(),
        url.port().unwrap(),
        url.path(),
    );
    std::fs::write(&fts3config, lines).unwrap();
    // Only what FTS does not know: the authorities to trust, and what the storages give.
    let own = site.folder.path().join("own.toml");
    let ca = site.folder.path().join("ca.pem");
    let text = format!("[providers]\nca_file = \"{}\"\n[endpoints]\narea = \"/data\"\n", ca.display());
    std::fs::write(&own, text).unwrap();
    let secret = std::fs::read_to_string(site.folder.path().join("secret")).unwrap();
    site.change(&format!(
        "UPDATE t_token_provider SET client_id = 'fts-exchange', client_secret = '{secret}'"
    ))
    .await;
    let plain = site.worker(&[]);
    let mut worker = tokio::process::Command::new(plain.as_std().get_program());
    worker.arg("--fts3config").arg(&fts3config).arg("--config").arg(&own).args(["--run-once", "--json"]);
    let output = worker.stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(report(&output), "4 released");
    let log = String::from_utf8_lossy(&output.stderr);
    for words in ["client=\"fts-exchange\" from=\"t_token_provider\"", "not taken over keys=\"User\""] {
        assert!(log.contains(words), "`{words}`: {log}");
    }
    assert!(!log.contains(secret.trim()) && !log.contains(url.password().unwrap()));
    site.expect_all_released(2).await;
    site.database.remove().await.unwrap();
}
