//! Transfers, with tokens handed over through the database (reference: `unmanaged` rows, ids on the file, release to
//! `file_state_initial`).

use bytes::Bytes;
use token_core::AccessToken;

use super::*;
use crate::storage::{CopyFault, Storage, StorageConfig};

struct Grid {
    rig: Rig,
    source: Storage,
    destination: Storage,
}

impl Grid {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let storage = async || {
            let config = StorageConfig::new(rig.issuer.name());
            Storage::start(&rig.pki, config, Arc::<ManualClock>::clone(&rig.clock), rig.stop.clone())
                .await
                .unwrap()
        };
        let (source, destination) = (storage().await, storage().await);
        source.add_file("/vo/data/f", Bytes::from(vec![7; 200_000]));
        destination.add_file("/vo/data/there", Bytes::from_static(b"old"));
        Self { rig, source, destination }
    }

    fn surl(storage: &Storage, path: &str) -> String {
        format!("{}{path}", storage.url().replace("https://", "davs://"))
    }

    fn file(&self, from: &str, to: &str) -> Value {
        json!({
            "sources": [Self::surl(&self.source, from)], "destinations": [Self::surl(&self.destination, to)],
        })
    }

    fn source_token(&self) -> String {
        self.rig.token(&self.source.url(), "storage.read:/data")
    }

    fn destination_token(&self, scope: &str) -> String {
        self.rig.token(&self.destination.url(), scope)
    }

    /// Writes the tokens and points one file at them, without releasing it.
    async fn hand_over(&self, file_id: i64, source: &str, destination: &str) {
        for (token, sql) in [
            (source, "UPDATE t_file SET src_token_id = ? WHERE file_id = ?"),
            (destination, "UPDATE t_file SET dst_token_id = ? WHERE file_id = ?"),
        ] {
            let id = AccessToken::new(token).unwrap().fingerprint().to_string();
            self.rig
                .execute(
                    "INSERT OR IGNORE INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, \
                     unmanaged) VALUES (?, ?, '2026-11-23 19:20:26', ?, '', '', 1)",
                    &[&id, token, self.rig.issuer.name()],
                )
                .await;
            self.rig.execute(sql, &[&id, &file_id.to_string()]).await;
        }
    }

    async fn release(&self, job: &str) {
        let sql = "UPDATE t_file SET file_state = file_state_initial WHERE job_id = ? AND file_state = 'TOKEN_PREP'";
        self.rig.execute(sql, &[job]).await;
    }

    /// Submits, hands these tokens over to every row, releases them, and waits for the end of the job.
    async fn run(&self, body: Value, tokens: &[(&str, &str)]) -> Value {
        let id = self.rig.submit(body).await;
        let job = self.rig.job(&id).await;
        for (file, (source, destination)) in job["files"].as_array().unwrap().iter().zip(tokens) {
            self.hand_over(file["file_id"].as_i64().unwrap(), source, destination).await;
        }
        self.release(&id).await;
        self.end(&id).await
    }

    async fn end(&self, id: &str) -> Value {
        for _ in 0..6000 {
            let job = self.rig.job(id).await;
            if !job["job_finished"].is_null() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the job has no end: {}", self.rig.job(id).await);
    }
}

fn outcome(job: &Value) -> (&str, Vec<(&str, &str)>) {
    let files = job["files"].as_array().unwrap().iter();
    let files = files.map(|f| (f["file_state"].as_str().unwrap(), f["reason"].as_str().unwrap_or_default()));
    (job["job_state"].as_str().unwrap(), files.collect())
}

#[tokio::test]
async fn a_released_file_arrives_in_a_new_directory_with_both_checksums() {
    let grid = Grid::start().await;
    let mut file = grid.file("/vo/data/f", "/vo/data/new/f");
    let sum = adler2::adler32_slice(&[7; 200_000]);
    file["checksum"] = format!("ADLER32:{sum:08x}").into();
    file["filesize"] = 200_000.into();
    let body = json!({"files": [file], "params": {"verify_checksum": "both"}});
    let destination = grid.destination_token("storage.create:/data/new storage.read:/data/new");
    let job = grid.run(body, &[(&grid.source_token(), &destination)]).await;
    assert_eq!(outcome(&job), ("FINISHED", vec![("FINISHED", "")]));
    assert_eq!((&job["reason"], &job["files"][0]["filesize"]), (&json!(""), &json!(200_000)));
    assert_eq!(grid.destination.read_file("/vo/data/new/f").unwrap(), vec![7; 200_000]);
    let counts = grid.rig.fts.counts().await.unwrap();
    assert_eq!((counts.jobs, counts.files_in("FINISHED")), (1, 1));
}

#[tokio::test]
async fn reasons_name_the_side_and_nothing_refused_is_tried_again() {
    let grid = Grid::start().await;
    let (source, good) =
        (grid.source_token(), grid.destination_token("storage.modify:/data storage.read:/data"));
    let create = grid.destination_token("storage.create:/data storage.read:/data");
    let exact = grid.destination_token("storage.modify:/data/g storage.read:/data/g");
    let read = grid.destination_token("storage.read:/data");
    let refused = "HTTP 403 : Permission refused ";
    let (bearer, f, g) = (grid.rig.bearer.expose(), "/vo/data/f", "/vo/data/g");
    let overwrite = json!({"overwrite": true});
    let strict = json!({"strict_copy": true});
    for (from, to, tokens, params, reason) in [
        (f, g, (&*source, &*source), json!({}), format!("DESTINATION [1] {refused}")),
        (f, g, (&*good, &*good), json!({}), format!("SOURCE [1] {refused}")),
        (f, g, (bearer, bearer), json!({}), format!("SOURCE [1] {refused}")),
        (f, g, (&*source, &*exact), json!({}), format!("DESTINATION [1] {refused}")),
        (
            f,
            g,
            (&*source, &*read),
            json!({}),
            "TRANSFER [13] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: copy HTTP 401 : Authentication Error "
                .to_owned(),
        ),
        (
            f,
            "/vo/data/there",
            (&*source, &*create),
            json!({}),
            "DESTINATION [17] Destination file exists and overwrite is not enabled".to_owned(),
        ),
        (f, "/vo/data/there", (&*source, &*create), overwrite, format!("DESTINATION [1] DavPosix::unlink  {refused}")),
        (
            "/vo/data/nope",
            g,
            (&*source, &*good),
            json!({}),
            "SOURCE [2] Result HTTP 404 : File not found  after 1 attempts".to_owned(),
        ),
        (
            f,
            g,
            (&*good, &*good),
            strict,
            "TRANSFER [5] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: Transfer failure: Remote side failed with \
             status code 403; error message: \"Unable to open /vo/data/f; permission denied \""
                .to_owned(),
        ),
    ] {
        let mut params = params;
        params["retry"] = 2.into();
        let body = json!({"files": [grid.file(from, to)], "params": params});
        let job = grid.run(body, &[tokens]).await;
        assert_eq!(outcome(&job), ("FAILED", vec![("FAILED", &*reason)]));
        let recoverable = reason.starts_with("TRANSFER [5]");
        let attempts = if recoverable { 2 } else { 0 };
        let file = &job["files"][0];
        assert_eq!((&file["recoverable"], &file["retry"]), (&json!(recoverable), &json!(attempts)), "{reason}");
        let path = format!("/jobs/{}/files/{}/retries", job["job_id"].as_str().unwrap(), file["file_id"]);
        let (_, retries) = grid.rig.json(Method::GET, &path, None).await;
        assert_eq!(retries.as_array().unwrap().len(), attempts);
    }
    // The token may delete, so nothing of the failed copies was left; the old file is as it was.
    assert_eq!(grid.destination.paths(), ["/vo/data/there"]);
}

#[tokio::test]
async fn the_next_replica_runs_after_a_refusal_and_the_next_hop_after_a_success() {
    let grid = Grid::start().await;
    let (source, good) =
        (grid.source_token(), grid.destination_token("storage.modify:/data storage.read:/data"));
    let from = Grid::surl(&grid.source, "/vo/data/f");
    let to = Grid::surl(&grid.destination, "/vo/data/r");
    let replicas = json!({"files": [{"sources": [from, from, from], "destinations": [to]}], "params": {}});
    let job = grid.run(replicas, &[(&good, &good), (&source, &good), (&source, &good)]).await;
    let refused = ("FAILED", "SOURCE [1] HTTP 403 : Permission refused ");
    assert_eq!(outcome(&job), ("FINISHED", vec![refused, ("FINISHED", ""), ("NOT_USED", "")]));

    let (hop, end) =
        (Grid::surl(&grid.destination, "/vo/data/hop"), Grid::surl(&grid.source, "/vo/data/end"));
    let hops = json!({
        "files": [{"sources": [from], "destinations": [hop]}, {"sources": [hop], "destinations": [end]}],
        "params": {"multihop": true},
    });
    let back = grid.rig.token(&grid.source.url(), "storage.modify:/data storage.read:/data");
    let job = grid.run(hops.clone(), &[(&source, &good), (&good, &back)]).await;
    assert_eq!(outcome(&job), ("FINISHED", vec![("FINISHED", ""); 2]));
    assert!(grid.source.read_file("/vo/data/end").is_some());
    let job = grid.run(hops, &[(&good, &good), (&good, &back)]).await;
    assert_eq!(outcome(&job), ("FAILED", vec![refused, ("NOT_USED", "")]));
}

#[tokio::test]
async fn a_row_still_in_token_prep_is_passed_over_for_good() {
    let grid = Grid::start().await;
    let (source, good) =
        (grid.source_token(), grid.destination_token("storage.modify:/data storage.read:/data"));
    let from = Grid::surl(&grid.source, "/vo/data/f");
    let to = Grid::surl(&grid.destination, "/vo/data/r");
    let id = grid
        .rig
        .submit(json!({"files": [{"sources": [from, from], "destinations": [to]}], "params": {}}))
        .await;
    let job = grid.rig.job(&id).await;
    let ids = [0, 1].map(|index| job["files"][index]["file_id"].as_i64().unwrap());
    grid.hand_over(ids[0], &good, &good).await;
    grid.hand_over(ids[1], &source, &good).await;
    let release = "UPDATE t_file SET file_state = file_state_initial WHERE file_id = ?";
    grid.rig.execute(release, &[&ids[0].to_string()]).await;
    while grid.rig.fts.counts().await.unwrap().files_in("FAILED") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    grid.rig.execute(release, &[&ids[1].to_string()]).await;
    assert_eq!(grid.rig.job(&id).await["job_state"], "ACTIVE");
    assert_eq!(grid.rig.fts.counts().await.unwrap().files_in("NOT_USED"), 1);
    // Put to SUBMITTED instead, it runs.
    grid.rig
        .execute("UPDATE t_file SET file_state = 'SUBMITTED' WHERE file_id = ?", &[&ids[1].to_string()])
        .await;
    assert_eq!(grid.end(&id).await["job_state"], "FINISHED");
}

#[tokio::test]
async fn a_released_file_of_a_cancelled_job_is_still_moved() {
    let grid = Grid::start().await;
    let good = grid.destination_token("storage.create:/data storage.read:/data");
    let id = grid.rig.submit(json!({"files": [grid.file("/vo/data/f", "/vo/data/g")], "params": {}})).await;
    let file = grid.rig.job(&id).await["files"][0]["file_id"].as_i64().unwrap();
    grid.rig.json(Method::DELETE, &format!("/jobs/{id}"), None).await;
    grid.hand_over(file, &grid.source_token(), &good).await;
    grid.release(&id).await;
    while grid.rig.fts.counts().await.unwrap().files_in("FINISHED") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(outcome(&grid.rig.job(&id).await), ("CANCELED", vec![("FINISHED", "")]));
    assert!(grid.destination.read_file("/vo/data/g").is_some());
}

#[tokio::test]
async fn overwrite_replaces_the_file() {
    let grid = Grid::start().await;
    let good = grid.destination_token("storage.modify:/data/there storage.read:/data/there");
    let body = json!({"files": [grid.file("/vo/data/f", "/vo/data/there")], "params": {"overwrite": true}});
    assert_eq!(outcome(&grid.run(body, &[(&grid.source_token(), &good)]).await).0, "FINISHED");
    assert_eq!(grid.destination.read_file("/vo/data/there").unwrap().len(), 200_000);
}

#[tokio::test]
async fn a_running_transfer_is_ended_by_a_cancellation() {
    let grid = Grid::start().await;
    grid.source.set_copy_fault(CopyFault::Slow(Duration::from_secs(600)));
    let good = grid.destination_token("storage.create:/data storage.read:/data");
    let id = grid.rig.submit(json!({"files": [grid.file("/vo/data/f", "/vo/data/g")], "params": {}})).await;
    let file = grid.rig.job(&id).await["files"][0]["file_id"].as_i64().unwrap();
    grid.hand_over(file, &grid.source_token(), &good).await;
    grid.release(&id).await;
    while grid.rig.fts.counts().await.unwrap().files_in("ACTIVE") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(grid.rig.job(&id).await["job_state"], "ACTIVE");
    grid.rig.json(Method::DELETE, &format!("/jobs/{id}"), None).await;
    let path = format!("/jobs/{id}/files");
    // The finish time tells that the transfer was signalled.
    while grid.rig.json(Method::GET, &path, None).await.1[0]["finish_time"].is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        outcome(&grid.rig.job(&id).await),
        ("CANCELED", vec![("CANCELED", "Job canceled by the user")])
    );
}
