//! `conveyor explain` tells what a pass then does, and changes nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use testbed::grid::{Grid, GridSettings};

async fn explain(grid: &Grid, id: &str, more: &[&str]) -> Value {
    let mut command = grid.conveyor(&["explain", id, "--json"]);
    let output = command.args(more).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the failing conditions ask.
fn failing(explanation: &Value) -> Vec<&str> {
    let conditions = explanation["conditions"].as_array().unwrap().iter();
    conditions.filter(|c| c["holds"] == false).map(|c| c["what"].as_str().unwrap()).collect()
}

async fn column(grid: &Grid, query: &str) -> Vec<String> {
    let rows = grid.rucio.texts(query).await.unwrap();
    rows.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_what_is_done_and_nothing_changes_by_it() {
    let folder = tempfile::Builder::new().prefix("explain").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    // All that can't be submitted, and some of the others.
    let bad = "SELECT id FROM requests WHERE name LIKE 'bad.%' ORDER BY id";
    let good = "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY substr(name, 1, 8) ORDER BY id) AS n \
                FROM requests WHERE name NOT LIKE 'bad.%') WHERE n <= 4";
    let mut ids = column(&grid, bad).await;
    ids.extend(column(&grid, good).await);
    assert!(ids.len() >= 28, "{}", ids.len());

    let database = grid.folder.join("rucio.sqlite");
    let (before, calls) = (std::fs::read(&database).unwrap(), grid.issuer.token_calls());
    let mut told = Vec::new();
    for id in &ids {
        told.push(explain(&grid, id, &[]).await);
    }
    assert!(std::fs::read(&database).unwrap() == before, "the database has changed");
    assert_eq!(grid.issuer.token_calls(), calls, "the issuer was called");
    assert!(!grid.folder.join("conveyor-tokens").exists(), "a cache was made");

    let done = grid.conveyor(&["--run-once"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (id, told) in ids.iter().zip(&told) {
        assert_eq!(told["eligible"], true, "{told}");
        let row = &grid
            .rucio
            .texts(&format!("SELECT state, dest_url, err_msg FROM requests WHERE id = '{id}'"))
            .await
            .unwrap()[0];
        let (state, url, reason) = (row[0].as_deref().unwrap(), &row[1], &row[2]);
        match told["outcome"].as_str().unwrap() {
            "submit" => {
                assert_eq!(state, "S", "{told}");
                assert_eq!(told["destination_url"].as_str(), url.as_deref());
                let sources =
                    format!("SELECT url FROM sources WHERE request_id = '{id}' AND is_using ORDER BY url");
                let used = told["sources"].as_array().unwrap().iter().filter(|source| source["used"] == true);
                let mut urls: Vec<_> = used.map(|source| source["url"].as_str().unwrap()).collect();
                urls.sort_unstable();
                assert_eq!(column(&grid, &sources).await, urls);
                let file = &told["job"]["files"][0];
                assert_eq!(file["destinations"][0].as_str(), url.as_deref());
                assert_eq!(file["metadata"]["request_id"].as_str(), Some(id.as_str()));
                assert_eq!(told["token"]["audience"], "127.0.0.1");
                assert!(told["token"]["how"].as_str().unwrap().starts_with("asked for"), "{told}");
            }
            "leave" => assert_eq!(state, "Q", "{told}"),
            letter => assert!(letter == state && told["reason"].as_str() == reason.as_deref(), "{told}"),
        }
        if told["outcome"] != "submit" {
            let sources = told["sources"].as_array().unwrap();
            assert!(sources.iter().all(|source| source["dropped"].is_string()), "{told}");
        }
    }
    let outcomes: std::collections::BTreeSet<_> =
        told.iter().map(|told| told["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["M", "N", "leave", "submit"]);

    // A request that is through, with its dashes on, while the token is in the cache; for people.
    let id = &ids[ids.len() - 1];
    let dashed =
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]).to_uppercase();
    let explanation = explain(&grid, &dashed, &[]).await;
    assert_eq!(failing(&explanation), ["it is queued"]);
    let life = explanation["token"]["life_s"].as_i64().unwrap();
    assert!((3000..=3600).contains(&life), "{explanation}");
    let output = grid.conveyor(&["explain", &dashed]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("NO  it is queued: S (SUBMITTED), FTS job ") && text.contains("from the cache"),
        "{text}"
    );
    let secret = std::fs::read_to_string(grid.conveyor_secret()).unwrap();
    assert!(!text.contains(secret.trim()) && !text.contains("eyJ"), "a secret or a token is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_is_named_that_holds_a_request_back() {
    let folder = tempfile::Builder::new().prefix("explain").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let ids =
        column(&grid, "SELECT id FROM requests WHERE name LIKE 'mc26.simple%' ORDER BY id LIMIT 8").await;
    let other = &ids[7];
    let change = async |id: &str, change: &str| {
        grid.rucio.run(&change.replace("$id", id)).await.unwrap();
    };
    change(&ids[0], "UPDATE requests SET state = 'W' WHERE id = '$id'").await;
    change(&ids[1], "UPDATE requests SET request_type = 'I' WHERE id = '$id'").await;
    change(&ids[2], "UPDATE requests SET transfertool = 'globus' WHERE id = '$id'").await;
    let hop = format!(
        "INSERT INTO transfer_hops (request_id, next_hop_request_id, initial_request_id, created_at, updated_at) \
         VALUES ('{other}', '$id', '{other}', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')"
    );
    change(&ids[3], &hop).await;
    change(
        &ids[4],
        "UPDATE requests SET rule_id = (SELECT rule_id FROM requests WHERE name LIKE 'data26.production%' LIMIT 1) WHERE id = '$id'",
    )
    .await;
    change(
        &ids[4],
        "UPDATE rules SET expires_at = '2020-01-01 00:00:00.000000' WHERE id = (SELECT rule_id FROM requests WHERE id = '$id')",
    )
    .await;
    change(
        &ids[5],
        "UPDATE requests SET last_processed_by = 'conveyor-submitter', \
         last_processed_at = strftime('%Y-%m-%d %H:%M:%S.000000', 'now') WHERE id = '$id'",
    )
    .await;
    for (id, what) in [
        (&ids[0], "it is queued"),
        (&ids[1], "it is a transfer"),
        (&ids[2], "its transfer tool is FTS"),
        (&ids[3], "no earlier hop holds it back"),
        (&ids[4], "its rule wants it still"),
        (&ids[5], "nobody else has it in hand"),
    ] {
        let explanation = explain(&grid, id, &[]).await;
        assert_eq!(failing(&explanation), [what]);
        assert_eq!((&explanation["eligible"], &explanation["outcome"]), (&false.into(), &"submit".into()));
    }
    let stamped = explain(&grid, &ids[5], &[]).await;
    assert!(stamped.to_string().contains("left to it for another"), "{stamped}");
    // Ten minutes later, or of a host that writes its local time.
    for offset in ["-601 seconds", "+9 hours"] {
        let stamp = format!(
            "UPDATE requests SET last_processed_at = strftime('%Y-%m-%d %H:%M:%S.000000', 'now', '{offset}') WHERE id = '$id'"
        );
        change(&ids[5], &stamp).await;
        assert_eq!(explain(&grid, &ids[5], &[]).await["eligible"], true, "{offset}");
    }

    let flags: &[&str] = &["--activities", "Production Transfers", "--exclude-rses", "*", "--vos", "def"];
    let filtered = explain(&grid, &ids[6], flags).await;
    assert_eq!(failing(&filtered), ["its activity is ours", "its destination is ours"]);
    grid.rucio.run("UPDATE rses SET availability_write = 0").await.unwrap();
    assert_eq!(failing(&explain(&grid, &ids[6], &[]).await), ["its destination may be written"]);
    assert_eq!(explain(&grid, &ids[6], &["--ignore-availability"]).await["eligible"], true);

    for (id, code, words) in
        [("xyz", 2, "32 hex digits"), ("00000000000000000000000000000000", 2, "there is no request 0000")]
    {
        let output = grid.conveyor(&["explain", id]).output().await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(log.lines().last().unwrap().contains(words), "{log}");
    }
}
