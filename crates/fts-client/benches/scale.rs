//! How the client bears a large submission and many jobs: requests, time and peak memory of the client alone. The server it
//! talks to is another process of this program, on loopback with TLS.
//!
//! `cargo bench -p fts-client`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench with its own report")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

use fts_client::{
    FileEntry, FileFields, FtsClient, FtsSettings, JobId, Lookup, Params, Submission, Submitted,
};
use serde_json::json;
use support::{Request, Server};
use token_core::AccessToken;
use token_core::http::HttpSettings;

const FILES: usize = 2_000;
const JOBS: usize = 10_000;
/// Most requests that polling all of them may take.
const REQUESTS: u64 = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        let server = Server::start(answer).await;
        println!("{} {}", server.url, server.ca_file().display());
        // Until the other end closes the pipe.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
        return ExitCode::SUCCESS;
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (url, ca) = line.trim().split_once(' ').unwrap();
    let http = HttpSettings { ca_file: Some(ca.into()), ..HttpSettings::default() };
    let settings = FtsSettings { http, ..FtsSettings::new(url.parse().unwrap()) };
    let client = FtsClient::new(&settings, Arc::new(AccessToken::new("token").unwrap())).unwrap();
    println!("at the start    peak RSS {:.1} MB", peak_mb());
    submit(&client).await;
    let few = poll(&client).await;
    drop(server.stdin.take());
    server.wait().unwrap();
    if few { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn submit(client: &FtsClient) {
    let file = |n: usize| FileEntry {
        checksum: Some("ADLER32:0a1b2c3d".into()),
        filesize: Some(1_048_576),
        metadata: metadata(n),
        ..FileEntry::new(url("source", n), url("destination", n))
    };
    let job = Submission { files: (0..FILES).map(file).collect(), params: Params::deterministic("bench") };
    let bytes = serde_json::to_vec(&job).unwrap().len();
    let began = Instant::now();
    assert!(matches!(client.submit(&job).await.unwrap(), Submitted::Accepted(_)));
    println!(
        "submission      {FILES} files in 1 request of {:.1} MB, {:.0} ms, peak RSS {:.1} MB",
        bytes as f64 / 1e6,
        began.elapsed().as_secs_f64() * 1e3,
        peak_mb()
    );
}

/// Whether it took few requests.
async fn poll(client: &FtsClient) -> bool {
    let ids: Vec<JobId> =
        (0..JOBS).map(|n| JobId::parse(&format!("00000000-0000-1000-8000-{n:012}")).unwrap()).collect();
    let began = Instant::now();
    let mut poll = client.poll(&ids, FileFields::Poll);
    let (mut known, mut unknown) = (0, 0);
    while let Some(batch) = poll.next().await {
        for job in batch.unwrap() {
            match job.outcome.unwrap() {
                Lookup::Known(job) => known += job.files.len(),
                Lookup::Unknown => unknown += 1,
            }
        }
    }
    let (requests, time) = (poll.requests(), began.elapsed().as_secs_f64());
    println!(
        "poll            {JOBS} jobs ({known} files, {unknown} jobs unknown) in {requests} requests, {:.0} ms, {:.0} jobs/s, \
         peak RSS {:.1} MB",
        time * 1e3,
        JOBS as f64 / time,
        peak_mb()
    );
    requests <= REQUESTS && known + unknown == JOBS
}

fn answer(request: &Request) -> support::Reaction {
    let Some(ids) = request.target.strip_prefix("/jobs/") else {
        return support::json(200, r#"{"job_id":"00000000-0000-1000-8000-000000000000"}"#);
    };
    let mut list = String::from("[");
    for (index, id) in ids.split('?').next().unwrap().split(',').enumerate() {
        let n: usize = id[24..].parse().unwrap();
        let entry = match n % 100 {
            99 => json!({"job_id": id, "http_status": "404 Not Found", "http_message": "no"}),
            _ => {
                json!({"job_id": id, "job_state": "FINISHED", "http_status": "200 Ok", "job_type": "N", "priority": 3,
                "user_dn": "rucio", "vo_name": "vo", "submit_time": "2026-11-23T18:20:26", "reason": null,
                "job_metadata": {"issuer": "rucio", "multi_sources": false, "auth_method": "oauth2"},
                "files": [{"file_state": "FINISHED", "source_surl": url("source", n), "dest_surl": url("destination", n),
                    "start_time": "2026-11-23T18:20:27", "finish_time": "2026-11-23T18:20:28", "staging_start": null,
                    "staging_finished": null, "reason": null, "file_metadata": metadata(n)}]})
            }
        };
        let _ = write!(list, "{}{entry}", if index == 0 { "" } else { "," });
    }
    support::json(207, &format!("{list}]"))
}

fn url(side: &str, n: usize) -> String {
    format!("davs://{side}.example.org:1094/rucio/data26/ab/cd/file.{n:08}.root")
}

/// What Rucio sends with each file.
fn metadata(n: usize) -> serde_json::Value {
    json!({"request_id": format!("{n:032x}"), "scope": "data26", "name": format!("file.{n:08}.root"), "activity": "Data Rebalancing",
        "request_type": "TRANSFER", "src_type": "DISK", "dst_type": "DISK", "src_rse": "SITE_A", "dst_rse": "SITE_B",
        "src_rse_id": format!("{n:032x}"), "dest_rse_id": format!("{n:032x}"), "filesize": 1_048_576, "md5": null,
        "adler32": "0a1b2c3d"})
}

/// The most memory that this process had, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
