//! The command `fts-client`: what it prints, how it exits, and that no token is seen.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fts_client::Identity;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{self, Reaction, Request, Server};
use crate::{ANON, DENIED, KNOWN};

const CANARY: &str = "canary.canary.canary";
const FILES: [&str; 2] = ["davs://a.example/x", "davs://b.example/x"];
const GONE: &str = "00000000-0000-0000-0000-000000000000";

/// How an FTS takes the next submissions.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Takes the job, and the connection is cut.
    LosesAnswer,
    /// Cuts the connection before it takes the job.
    LosesCall,
    Busy,
    Refuses,
    Anonymous,
}

/// A small FTS: jobs by id, with how often each was looked at. A job ends after two looks.
struct Small {
    mood: Mood,
    end: &'static str,
    jobs: Mutex<BTreeMap<String, u64>>,
    posts: AtomicU64,
    last: Mutex<Value>,
}

impl Small {
    async fn start(mood: Mood, end: &'static str) -> (Server, Arc<Self>) {
        let small = Arc::new(Self {
            mood,
            end,
            jobs: Mutex::default(),
            posts: AtomicU64::new(0),
            last: Mutex::default(),
        });
        let answering = Arc::clone(&small);
        (Server::start(move |request| answering.answer(request)).await, small)
    }

    fn answer(&self, request: &Request) -> Reaction {
        let known =
            request.headers.get("authorization").is_some_and(|token| token == &format!("Bearer {CANARY}"));
        let path = request.target.split('?').next().unwrap();
        match (request.method.as_str(), path.strip_prefix("/jobs/")) {
            ("GET", None) if path == "/whoami" => {
                support::json(200, if known && self.mood != Mood::Anonymous { KNOWN } else { ANON })
            }
            _ if self.mood == Mood::Anonymous => support::json(403, DENIED),
            ("GET", None) if path == "/ban/se" => support::json(
                200,
                r#"[{"se":"davs://a.example","status":"CANCEL","vo":"vo","message":"\u001b[2Jno"}]"#,
            ),
            ("POST", None) if path == "/ban/se" => support::json(200, &format!("[\"{GONE}\"]")),
            ("DELETE", None) => support::json(204, ""),
            ("GET", None) => support::json(200, &format!("[{}]", self.job(GONE, "SUBMITTED"))),
            ("POST", None) => self.submit(&request.body),
            ("DELETE", Some(ids)) if ids.contains("/files/") => support::json(200, r#""CANCELED""#),
            ("DELETE" | "POST", Some(id)) => self.change(id),
            (_, Some(ids)) => self.status(ids),
            _ => support::json(404, "{}"),
        }
    }

    fn submit(&self, body: &[u8]) -> Reaction {
        let job: Value = serde_json::from_slice(body).unwrap();
        let vo =
            Identity { base_id: "01874efb-4735-4595-bc9c-591aef8240c9".parse().unwrap(), vo: "vo".into() };
        let id = vo.job_id(job["params"]["sid"].as_str().unwrap()).to_string();
        *self.last.lock().unwrap() = job;
        self.posts.fetch_add(1, Ordering::Relaxed);
        let busy = b"<p>The server is temporarily unable to service your request due to maintenance downtime or capacity problems.</p>";
        match self.mood {
            Mood::LosesCall => return Reaction::Cut,
            Mood::Busy => return Reaction::Answer(support::answer(503, "text/html", busy)),
            Mood::Refuses => {
                return support::json(400, r#"{"message":"SciTag value out of range 65 to 65535"}"#);
            }
            _ => (),
        }
        if self.jobs.lock().unwrap().insert(id.clone(), 0).is_some() {
            return support::json(409, r#"{"message":"The sid provided by the user is duplicated"}"#);
        }
        match self.mood {
            Mood::LosesAnswer => Reaction::Cut,
            _ => support::json(200, &json!({ "job_id": id }).to_string()),
        }
    }

    fn status(&self, ids: &str) -> Reaction {
        let mut jobs = self.jobs.lock().unwrap();
        let mut entry = |id: &str| match jobs.get_mut(id) {
            None => json!({"job_id": id, "http_status": "404 Not Found", "http_message": "no"}).to_string(),
            Some(looks) => {
                *looks += 1;
                self.job(id, if *looks > 2 { self.end } else { "ACTIVE" })
            }
        };
        let entries: Vec<_> = ids.split(',').map(&mut entry).collect();
        match &entries[..] {
            [one] if one.contains("404 Not") => support::json(404, one),
            [one] => support::json(200, one),
            many => support::json(207, &format!("[{}]", many.join(","))),
        }
    }

    fn change(&self, id: &str) -> Reaction {
        match self.jobs.lock().unwrap().contains_key(id) {
            true => support::json(200, &self.job(id, "CANCELED").replace("200 Ok", "304 Not Modified")),
            false => support::json(
                404,
                &json!({"job_id": id, "http_status": "404 Not Found", "http_message": "no"}).to_string(),
            ),
        }
    }

    fn job(&self, id: &str, state: &str) -> String {
        json!({"job_id": id, "job_state": state, "http_status": "200 Ok", "submit_time": "2026-11-23T18:20:26",
            "files": [{"file_id": 7, "file_state": state, "source_surl": FILES[0], "dest_surl": FILES[1], "filesize": 5,
                "reason": if state == "FAILED" { "TRANSFER [13] \u{1b}[2JPermission denied" } else { "" }}]})
        .to_string()
    }
}

async fn run(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fts-client"))
        .args(arguments)
        .env_clear()
        .env("FTS_URL", server.url.as_str())
        .env("BEARER_TOKEN", CANARY)
        .env("X509_CERT_DIR", server.ca_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    child.wait_with_output().await.unwrap()
}

/// Standard output and standard error of a command that must exit so, and must show neither the token nor escapes.
async fn said(server: &Server, arguments: &[&str], input: &str, code: i32) -> (String, String) {
    let output = run(server, arguments, input).await;
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    assert!(!format!("{out}{err}").contains(CANARY) && !format!("{out}{err}").contains('\x1b'), "{out}{err}");
    (out, err)
}

fn with<'a>(first: &[&'a str], then: &[&'a str]) -> Vec<&'a str> {
    [first, then].concat()
}

#[tokio::test]
async fn a_job_is_submitted_and_its_id_printed() {
    let (server, small) = Small::start(Mood::Well, "FINISHED").await;
    let (out, _) =
        said(&server, &with(&["submit", "-o", "-K", "--retry", "2", "--sid", "one"], &FILES), "", 0).await;
    let job = small.last.lock().unwrap().clone();
    assert_eq!(
        (&job["params"]["overwrite"], &job["params"]["verify_checksum"], &job["params"]["retry"]),
        (&json!(true), &json!("both"), &json!(2))
    );
    assert_eq!(job["files"][0]["sources"], json!([FILES[0]]));
    let (again, note) = said(&server, &with(&["submit", "--sid", "one"], &FILES), "", 0).await;
    assert!(again == out && note.contains("already"), "{note}");
    assert_eq!(small.jobs.lock().unwrap().len(), 1);

    let file = json!({"files": [{"sources": [FILES[0]], "destinations": [FILES[1]]}], "params": {"priority": 2, "overwite": true}});
    let (out, note) = said(&server, &["submit", "-f", "-", "--json", "-p", "4"], &file.to_string(), 0).await;
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert!(small.jobs.lock().unwrap().contains_key(printed["job_id"].as_str().unwrap()));
    assert_eq!(small.last.lock().unwrap()["params"]["priority"], 4);
    assert!(note.contains("params.overwite"), "{note}");
}

#[tokio::test]
async fn a_lost_answer_is_looked_for() {
    let (server, small) = Small::start(Mood::LosesAnswer, "FINISHED").await;
    let (out, note) = said(&server, &with(&["submit"], &FILES), "", 0).await;
    assert!(small.jobs.lock().unwrap().contains_key(out.trim()));
    assert_eq!(small.posts.load(Ordering::Relaxed), 1, "{note}");

    let (server, small) = Small::start(Mood::LosesCall, "FINISHED").await;
    let (_, line) = said(&server, &with(&["submit", "--sid", "mine"], &FILES), "", 5).await;
    assert!(line.contains("fts-client status ") && line.contains("--sid mine"), "{line}");
    assert_eq!(small.posts.load(Ordering::Relaxed), 3, "sent again under the same id");
}

#[tokio::test]
async fn exit_codes_say_what_to_do() {
    for (mood, code, word) in [
        (Mood::Busy, 1, "try later"),
        (Mood::Refuses, 3, "files[].scitag"),
        (Mood::Anonymous, 2, "anonymous"),
    ] {
        let (server, small) = Small::start(mood, "FINISHED").await;
        let (_, line) = said(&server, &with(&["submit"], &FILES), "", code).await;
        assert!(
            line.starts_with("fts-client: ") && line.contains(word) && line.lines().count() == 1,
            "{line}"
        );
        assert!(small.posts.load(Ordering::Relaxed) <= 1);
    }
    let (server, _) = Small::start(Mood::Well, "FINISHED").await;
    let canary = json!({"files": [{"sources": ["davs://a/x"], "destinations": ["davs://b/x"], "source_tokens": CANARY}]});
    for (arguments, input, word) in [
        (vec!["submit", "file:///etc/passwd", FILES[1]], String::new(), "files[0].sources[0]"),
        (vec!["submit", "-f", "-"], canary.to_string(), "expected a sequence"),
        (vec!["submit", "-f", "-"], format!("{{\"files\": {CANARY}"), "line 1"),
        (vec!["submit", "-f", "/no/such"], String::new(), "/no/such"),
        (vec!["-s", "http://127.0.0.1", "whoami"], String::new(), "https"),
        (vec!["--token-file", "/no/such", "whoami"], String::new(), "/no/such"),
        (vec!["--cert", "/no/such", "whoami"], String::new(), "/no/such"),
        (vec!["--insecure", "whoami"], String::new(), "--insecure"),
        (vec!["status", "not-a-job"], String::new(), "job id"),
    ] {
        let (out, line) = said(&server, &arguments, &input, 2).await;
        assert!(out.is_empty() && line.contains(word), "{arguments:?}: {line}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, line) = said(&server, &["-s", &format!("https://{nobody}"), "whoami"], "", 1).await;
    assert!(line.contains("no connection"), "{line}");
}

#[tokio::test]
async fn a_job_is_watched_to_its_end() {
    for (end, code) in [("FINISHED", 0), ("FAILED", 4)] {
        let (server, _) = Small::start(Mood::Well, end).await;
        let (out, lines) = said(&server, &with(&["submit", "-b", "-i", "1"], &FILES), "", code).await;
        assert!(out.contains(end) && out.contains(FILES[1]), "{out}");
        assert_eq!(out.contains("TRANSFER [13]"), end == "FAILED", "{out}");
        let moved: Vec<_> = lines.lines().filter(|line| line.contains("files, ")).collect();
        assert_eq!(moved.len(), 2, "one line a change: {lines}");
        assert!(moved[0].contains("0/1 files") && moved[1].contains("1/1 files"), "{lines}");
    }
    let (server, small) = Small::start(Mood::Well, "FINISHED").await;
    let (id, _) = said(&server, &with(&["submit"], &FILES), "", 0).await;
    let (out, line) = said(&server, &["status", "--json", id.trim(), GONE], "", 3).await;
    let jobs: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&jobs[0]["job_id"], &jobs[0]["files"][0]["file_id"]), (&json!(id.trim()), &json!(7)));
    assert!(line.contains(GONE), "{line}");
    assert_eq!(small.jobs.lock().unwrap()[id.trim()], 1);
}

#[tokio::test]
async fn jobs_are_cancelled_listed_and_reordered() {
    let (server, _) = Small::start(Mood::Well, "FINISHED").await;
    let (id, _) = said(&server, &with(&["submit"], &FILES), "", 0).await;
    let id = id.trim();
    assert_eq!(said(&server, &["cancel", id], "", 0).await.0, format!("{id}  CANCELED before\n"));
    assert_eq!(said(&server, &["cancel", GONE], "", 3).await.0, format!("{GONE}  no such job\n"));
    let file = format!("{id}:7");
    assert_eq!(said(&server, &["cancel", &file], "", 0).await.0, format!("{file}  CANCELED\n"));
    assert!(said(&server, &["priority", "5", id], "", 0).await.0.starts_with(id));
    assert!(said(&server, &["list"], "", 0).await.0.contains("SUBMITTED"));
    let (who, _) = said(&server, &["whoami"], "", 0).await;
    assert!(who.contains("VO            vo\n") && who.contains("01874efb"), "{who}");
    assert!(said(&server, &["ban", "list"], "", 0).await.0.contains("davs://a.example"));
    assert!(said(&server, &["ban", "add", "davs://a.example"], "", 0).await.0.contains(GONE));
    said(&server, &["ban", "remove", "davs://a.example"], "", 0).await;
    said(&server, &["ban", "remove"], "", 2).await;
}
