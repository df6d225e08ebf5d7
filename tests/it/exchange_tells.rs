//! `token-exchange plan`, `explain` and `status`: what they tell is so, and they change nothing and ask nobody.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Stdio;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use testbed::grid::{Grid, GridSettings};
use testbed::issuer::Fault;

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_is_called_as_often_as_foretold_at_each_granularity() {
    let (_folder, grid, fts) =
        grid(&[("mc26.simple", 10), ("mc26.two_sources", 5), ("data26.production", 8)]).await;
    let bearer: String =
        sqlx::query_scalar("SELECT src_token_id FROM t_file LIMIT 1").fetch_one(&fts).await.unwrap();
    let mut before = 0;
    for granularity in ["endpoint", "prefix:1", "prefix:2", "directory", "file"] {
        let reset = format!(
            "UPDATE t_file SET file_state = 'TOKEN_PREP', src_token_id = '{bearer}', dst_token_id = '{bearer}'"
        );
        change(&fts, &reset).await;
        set_granularity(&grid, granularity);
        let plan = told(&grid, &["plan", "--json"]).await;
        let foretold = plan["calls"].as_u64().unwrap();
        assert_eq!(plan["calls_at"][granularity], plan["calls"], "{plan}");
        assert!(foretold >= before, "narrower tokens are not fewer");
        before = foretold;
        let calls = grid.issuer.token_calls().exchange;
        let worker = grid.token_exchange(&["--run-once"]).output().await.unwrap();
        assert!(worker.status.success(), "{}", String::from_utf8_lossy(&worker.stderr));
        assert_eq!(grid.issuer.token_calls().exchange - calls, foretold, "{granularity}");
        assert_eq!(count(&fts, "t_file WHERE file_state = 'TOKEN_PREP'").await, 0);
    }
    assert!(before >= 23, "a token a source file: {before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_so_and_nothing_is_written_or_asked_for() {
    let (_folder, grid, fts) = grid(&[("mc26.simple", 4)]).await;
    let bearer: String =
        sqlx::query_scalar("SELECT access_token FROM t_token").fetch_one(&fts).await.unwrap();
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT file_id FROM t_file ORDER BY file_id").fetch_all(&fts).await.unwrap();
    let first = ids[0].to_string();

    let looked = quiet(&grid, &fts, &bearer, &["explain", &first]).await;
    for words in [
        "TOKEN_PREP",
        "lives another",
        "wanted by exchange for https://127.0.0.1:",
        "storage.modify:/",
        "nobody has looked",
    ] {
        assert!(looked.contains(words), "`{words}`: {looked}");
    }
    let status = quiet(&grid, &fts, &bearer, &["status"]).await;
    for words in [grid.issuer.name(), "exchange, client", "4 files", "nobody has looked at them yet"] {
        assert!(status.contains(words), "`{words}`: {status}");
    }
    let plan = quiet(&grid, &fts, &bearer, &["plan"]).await;
    assert!(plan.contains("issuer calls   2") && plan.contains("if every endpoint were `file`"), "{plan}");

    // Put off.
    grid.issuer.set_fault(Fault::Status(503));
    assert!(grid.token_exchange(&["--run-once"]).output().await.unwrap().status.success());
    // For longer than it takes to look.
    change(&fts, "UPDATE token_exchange_lease SET retry_at = retry_at + 600").await;
    let status: Value =
        serde_json::from_str(&quiet(&grid, &fts, &bearer, &["status", "--json"]).await).unwrap();
    assert_eq!(status["issuers"][0]["files_waiting"], 4, "{status}");
    assert!(status["backlog"][0]["why"].as_str().unwrap().contains("503"), "{status}");
    assert!(status["leases"]["put_off"].as_u64().unwrap() > 0, "{status}");
    let looked: Value =
        serde_json::from_str(&quiet(&grid, &fts, &bearer, &["explain", &first, "--json"]).await).unwrap();
    assert_eq!(
        (&looked["state"], &looked["lease"]["attempts"]),
        (&"TOKEN_PREP".into(), &1.into()),
        "{looked}"
    );
    assert!(looked["verdict"].as_str().unwrap().starts_with("it is put off"), "{looked}");

    // Released, and one that no token can reach.
    grid.issuer.set_fault(Fault::None);
    change(&fts, "UPDATE token_exchange_lease SET retry_at = 0").await;
    let outside = "UPDATE t_file SET source_surl = 'davs://a.example/elsewhere/../f' WHERE file_id = (SELECT max(file_id) FROM t_file)";
    change(&fts, outside).await;
    assert_eq!(told(&grid, &["plan", "--json"]).await["refused"].as_object().unwrap().len(), 1);
    assert!(grid.token_exchange(&["--run-once"]).output().await.unwrap().status.success());
    let looked = quiet(&grid, &fts, &bearer, &["explain", &first]).await;
    assert!(
        looked.contains("got by exchange of ") && looked.contains("its tokens are handed over"),
        "{looked}"
    );
    let looked = quiet(&grid, &fts, &bearer, &["explain", &ids[3].to_string()]).await;
    assert!(looked.contains("FAILED") && looked.contains("we failed it"), "{looked}");
    let status: Value =
        serde_json::from_str(&quiet(&grid, &fts, &bearer, &["status", "--json"]).await).unwrap();
    assert_eq!(
        (status["tokens"].as_array().unwrap().len(), &status["issuers"][0]["tokens_living"]),
        (2, &2.into())
    );

    let unknown =
        grid.token_exchange(&["explain", "999999999"]).stderr(Stdio::piped()).output().await.unwrap();
    let line = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && line.contains("no file 999999999"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_got_as_the_issuers_mode_says() {
    let (_folder, grid, fts) = grid(&[("mc26.simple", 3)]).await;
    // The bearer of a submission is for no storage.
    let config = std::fs::read_to_string(grid.exchange_config()).unwrap();
    let mode = |mode: &str, more: &[(&str, &str)]| {
        let mut text = config.replace("[[issuer]]", &format!("[[issuer]]\nmode = \"{mode}\""));
        for (old, new) in more {
            assert!(text.contains(old), "{text}");
            text = text.replace(old, new);
        }
        std::fs::write(grid.exchange_config(), text).unwrap();
    };
    mode("unmanaged", &[]);
    let plan = told(&grid, &["plan", "--json"]).await;
    let refused = plan["refused"].as_object().unwrap();
    assert!(refused.keys().all(|why| why.contains("is not for this storage")), "{plan}");
    assert_eq!((refused.values().next(), &plan["calls"]), (Some(&3.into()), &0.into()), "{plan}");

    let secret = config.lines().find(|line| line.starts_with("client_secret_file")).unwrap();
    let other = format!("client_secret_file = \"{}\"", grid.conveyor_secret().display());
    let clients = [("\"fts-exchange\"", "\"rucio-conveyor\""), (secret, other.as_str())];
    mode("client-credentials", &clients);
    // What FTS wants of this issuer's submissions, which theirs lacks.
    let required = |scope: &str| format!("UPDATE t_token_provider SET required_submission_scope = '{scope}'");
    change(&fts, &required("fts:submit-transfer")).await;
    let plan = told(&grid, &["plan", "--json"]).await;
    assert!(plan["refused"].to_string().contains("lacks the scope `fts:submit-transfer`"), "{plan}");
    change(&fts, &required("fts")).await;
    assert_eq!(told(&grid, &["plan", "--json"]).await["tokens"][0]["subject"], Value::Null);
    let before = grid.issuer.token_calls();
    assert!(grid.token_exchange(&["--run-once"]).output().await.unwrap().status.success());
    let after = grid.issuer.token_calls();
    assert_eq!((after.exchange, after.client_credentials), (before.exchange, before.client_credentials + 2));
    let narrowed = "t_file f JOIN t_token d ON d.token_id = f.dst_token_id JOIN token_exchange_token n ON n.token_id = d.token_id \
                    WHERE f.file_state = 'SUBMITTED' AND n.how = 'client-credentials' AND d.scope NOT LIKE '%:/ %'";
    assert_eq!(count(&fts, narrowed).await, 3);
}

/// FTS's database with so many files of these kinds in `TOKEN_PREP`.
async fn grid(few: &[(&str, usize)]) -> (tempfile::TempDir, Grid, SqlitePool) {
    let folder = tempfile::Builder::new().prefix("tells").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path())).await.unwrap();
    grid.fts.set_scheduler(false);
    let options = SqliteConnectOptions::new()
        .filename(grid.fts.database())
        .busy_timeout(std::time::Duration::from_secs(60));
    let fts = SqlitePool::connect_with(options).await.unwrap();
    change(grid.rucio.pool(), "UPDATE requests SET state = 'W' WHERE state = 'Q'").await;
    for (kind, count) in few {
        let some = format!(
            "SELECT id FROM requests WHERE state = 'W' AND name LIKE '{kind}.%' ORDER BY name LIMIT {count}"
        );
        change(grid.rucio.pool(), &format!("UPDATE requests SET state = 'Q' WHERE id IN ({some})")).await;
    }
    let done = grid.conveyor(&["--run-once"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (folder, grid, fts)
}

/// No token is kept from before.
fn set_granularity(grid: &Grid, granularity: &str) {
    let config = std::fs::read_to_string(grid.exchange_config()).unwrap();
    let (_, rest) = config.split_once("[fts]").unwrap();
    let folder = format!("exchange-tokens-{}\"", granularity.replace(':', ""));
    let (head, tail) = rest.split_once("/exchange-tokens").unwrap();
    let (_, tail) = tail.split_once('\n').unwrap();
    let changed = format!("[endpoints]\ngranularity = \"{granularity}\"\n[fts]{head}/{folder}\n{tail}");
    std::fs::write(grid.exchange_config(), changed).unwrap();
}

async fn text(grid: &Grid, arguments: &[&str]) -> String {
    let output =
        grid.token_exchange(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn told(grid: &Grid, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(grid, arguments).await).unwrap()
}

/// What a command prints, once it is seen that it changed nothing, asked nobody, and shows no token.
async fn quiet(grid: &Grid, fts: &SqlitePool, secret: &str, arguments: &[&str]) -> String {
    let before = (content(fts).await, grid.issuer.token_calls());
    let told = text(grid, arguments).await;
    assert_eq!((content(fts).await, grid.issuer.token_calls()), before, "{arguments:?}");
    let signature = secret.rsplit('.').next().unwrap();
    assert!(!told.contains(secret) && !told.contains(signature), "{arguments:?}");
    told
}

/// Everything in the database, in words.
async fn content(fts: &SqlitePool) -> Vec<String> {
    let tables =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut all = Vec::new();
    for table in sqlx::query_scalar::<_, String>(tables).fetch_all(fts).await.unwrap() {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(&table)
            .fetch_all(fts)
            .await
            .unwrap();
        let quoted =
            columns.iter().map(|name| format!("quote(\"{name}\")")).collect::<Vec<_>>().join(" || ',' || ");
        let sql = format!("SELECT '{table}: ' || {quoted} FROM \"{table}\" ORDER BY 1");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(fts).await.unwrap();
        all.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    all
}

async fn change(pool: &SqlitePool, sql: &str) {
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

async fn count(pool: &SqlitePool, what: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {what}"))).fetch_one(pool).await.unwrap()
}
