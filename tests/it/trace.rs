//! `conveyor trace` and `token-exchange trace`: from a request of Rucio's to FTS's file and its tokens, and back; and the lines of log that
//! tell the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use testbed::grid::{Grid, GridSettings};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_traced_from_the_request_to_the_file_and_back() {
    let folder = tempfile::Builder::new().prefix("trace").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let mut logs = Vec::new();
    for (mut command, prefix) in [
        (grid.conveyor(&["--run-once"]), "CONVEYOR"),
        (grid.token_exchange(&["--run-once"]), "TOKEN_EXCHANGE"),
    ] {
        command.env(format!("{prefix}__LOG__LEVEL"), "info,work=debug");
        command.env(format!("{prefix}__LOG__FORMAT"), "json");
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        logs.push(lines.filter(|line| line["target"] == "work").collect::<Vec<_>>());
    }
    let [submitted, released] = logs.try_into().unwrap();
    // A request with several sources is several files.
    assert_eq!((submitted.len(), released.len()), (460, 560));

    // The lines of log.
    let line = &submitted[17];
    let [request, job, token] = ["request", "job", "token"].map(|key| line[key].as_str().unwrap().to_owned());
    let file = released
        .iter()
        .filter(|line| line["job"] == *job)
        .map(|line| line["file"].clone())
        .collect::<Vec<_>>();
    assert!(!file.is_empty());

    // Rucio's database.
    let of_request = json(grid.conveyor(&["trace", &request, "--json"])).await;
    assert_eq!(of_request["requests"][0]["job"], *job);
    assert_eq!(of_request["requests"][0]["state"], "S");
    let of_job = json(grid.conveyor(&["trace", &job, "--json"])).await;
    let requests = of_job["requests"].as_array().unwrap();
    assert!(requests.iter().any(|found| found["request"] == *request), "{of_job}");

    // FTS's database, from the request on.
    let by_request = json(grid.token_exchange(&["trace", &request, "--json"])).await;
    let of_this = by_request["files"].as_array().unwrap();
    assert!(of_this.iter().all(|found| found["request"] == *request), "{by_request}");
    let found = of_this.first().unwrap();
    assert_eq!((&found["job"], &found["request"]), (&job.as_str().into(), &request.as_str().into()));
    assert!(file.contains(&found["file_id"]));
    for side in ["source_token", "destination_token"] {
        let endpoint = &by_request["tokens"][found[side].as_str().unwrap()];
        assert_eq!(
            (&endpoint["how"], &endpoint["made_of"]),
            (&"exchange".into(), &token.as_str().into()),
            "{by_request}"
        );
    }
    assert!(by_request["tokens"][&token]["scope"].as_str().unwrap().contains("fts"), "{by_request}");

    // And back: the job, the file, the endpoint's token and the one that it was made of.
    let of = |id: String| json(grid.token_exchange(&["trace", &id, "--json"]));
    let files = |traced: &Value| traced["files"].as_array().unwrap().len();
    assert_eq!(files(&of(job.clone()).await), file.len());
    assert_eq!(files(&of(found["file_id"].to_string()).await), 1);
    let by_endpoint = of(found["source_token"].as_str().unwrap().to_owned()).await;
    // FTS transfers meanwhile: the file is the same, its state need not be.
    let same = |traced: &Value| ["file_id", "job", "request"].iter().all(|key| traced[key] == found[key]);
    assert!(by_endpoint["files"].as_array().unwrap().iter().any(same), "{by_endpoint}");
    let by_token = of(token.clone()).await;
    assert_eq!(files(&by_token), 560, "all files by way of the tokens that it was exchanged for");

    for (command, words) in [
        (grid.conveyor(&["trace", &"0".repeat(32)]), "no request"),
        (grid.conveyor(&["trace", &token]), "token-exchange trace"),
        (grid.token_exchange(&["trace", "0123456789abcdef"]), "knows nothing"),
        (grid.token_exchange(&["trace", "nonsense"]), "an id is"),
    ] {
        let output = done(command).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(words), "{words}: {said}");
    }
    let text = done(grid.token_exchange(&["trace", &request])).await;
    let page = String::from_utf8(text.stdout).unwrap();
    assert!(
        page.contains(&format!("got by exchange of token {token}")) && page.contains("came with a job"),
        "{page}"
    );
    let text = done(grid.conveyor(&["trace", &request])).await;
    assert!(String::from_utf8(text.stdout).unwrap().contains(&job));

    // A request that has ended is found where Rucio puts it, and what can't be read there is named.
    let columns = "id, request_type, scope, name, did_type, dest_rse_id, state, external_id, external_host, dest_url, rule_id, \
                   submitted_at, created_at, updated_at";
    let archive = format!(
        "INSERT INTO requests_history ({columns}) SELECT {columns} FROM requests WHERE id = '{request}'; \
         DELETE FROM sources WHERE request_id = '{request}'; DELETE FROM requests WHERE id = '{request}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(archive)).execute(grid.rucio.pool()).await.unwrap();
    let ended = json(grid.conveyor(&["trace", &request, "--json"])).await;
    assert_eq!(
        (&ended["requests"][0]["archived"], &ended["requests"][0]["job"]),
        (&true.into(), &job.into())
    );
    sqlx::raw_sql("ALTER TABLE requests_history RENAME COLUMN err_msg TO said")
        .execute(grid.rucio.pool())
        .await
        .unwrap();
    let output = done(grid.conveyor(&["trace", &request])).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("`requests_history.err_msg`"), "{said}");
}

async fn json(command: Command) -> Value {
    let output = done(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn done(mut command: Command) -> std::process::Output {
    command.output().await.unwrap()
}
