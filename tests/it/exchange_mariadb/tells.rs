//! What `plan`, `explain` and `status` tell on FTS's own kind of database.

use std::process::Stdio;

use serde_json::Value;

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
    for words in ["client=\"fts-exchange\" from=\"t_token_provider\"", "mean nothing here keys=\"User\""] {
        assert!(log.contains(words), "`{words}`: {log}");
    }
    assert!(!log.contains(secret.trim()) && !log.contains(url.password().unwrap()));
    site.expect_all_released(2).await;
    site.database.remove().await.unwrap();
}
