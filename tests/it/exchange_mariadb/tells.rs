//! What `plan`, `explain` and `status` tell on FTS's own kind of database.

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
