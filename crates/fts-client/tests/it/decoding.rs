//! Answers are read, whatever they are: arbitrary bytes, and recorded answers with something changed.

use std::path::Path;
use std::sync::LazyLock;

use fts_client::{Answer, FileId, JobId, Lookup};
use proptest::prelude::*;
use serde_json::Value;

/// Ids of the recordings, so that mutated answers get as far as they can.
static IDS: LazyLock<Vec<JobId>> = LazyLock::new(|| {
    let mut ids: Vec<JobId> = BODIES.iter().flat_map(|body| ids_in(body)).collect();
    ids.sort();
    ids.dedup();
    ids
});

static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/contract/fts");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let bodies = files.filter_map(|bytes| {
        let recording: Value = serde_json::from_slice(&bytes).unwrap();
        match recording.get("response")?.get("body")? {
            Value::String(page) => Some(page.clone().into_bytes()),
            json => Some(json.to_string().into_bytes()),
        }
    });
    bodies.filter(|body| body.len() < 20_000).collect()
});

fn ids_in(body: &[u8]) -> Vec<JobId> {
    let text = String::from_utf8_lossy(body);
    text.split('"').filter_map(JobId::parse).collect()
}

/// Reads an answer in every way.
fn read(status: u16, body: &[u8]) {
    for changes in [false, true] {
        let answer = Answer::new("https://fts.example", "call", changes, status, body.to_vec());
        let _ = (answer.is_anonymous(), answer.whoami(), answer.server(), answer.submitted(), answer.files());
        let _ = (answer.attempts(), answer.job_list(), answer.banned_storages(), answer.banned_users());
        let _ = (answer.touched(), answer.done(), answer.json::<Value>());
        let _ = answer.cancelled_files(&[FileId(1), FileId(2)]);
        if let Ok(jobs) = answer.jobs(&IDS) {
            assert_eq!(jobs.len(), IDS.len(), "each id asked for has its answer");
        }
        let _ = answer.changes(&IDS);
        for id in IDS.iter().take(3).chain(&ids_in(body)) {
            // That a job is unknown is acted upon: FTS must have said it of this very job.
            if matches!(answer.job(id), Ok(Lookup::Unknown)) {
                let text = String::from_utf8_lossy(body).to_lowercase();
                assert!(text.contains(id.as_str()) && (status == 404 || text.contains("404")), "{text}");
            }
            let _ = answer.change(id);
        }
        // Every error can be shown.
        let shown = answer.submitted().map_or_else(|error| error.to_string(), |_| String::new());
        assert!(shown.is_ascii() && !shown.contains('\n'), "{shown}");
    }
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![
        proptest::sample::select(vec![200, 204, 207, 400, 401, 403, 404, 409, 414, 419, 429, 500, 502, 503]),
        any::<u16>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes_are_read(status in status(), body in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(status, &body);
    }

    #[test]
    fn changed_recordings_are_read(
        status in status(),
        which in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        swaps in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        words in proptest::collection::vec(proptest::sample::select(vec![
            ("\"", ""), ("null", "-1e999"), ("true", "[]"), ("200 Ok", "404 Not Found"), ("200", "\\u0000"), (":", ":["),
        ]), 0..2),
    ) {
        let body = &BODIES[which.index(BODIES.len())];
        let mut text = String::from_utf8_lossy(body).into_owned();
        for (from, to) in words {
            text = text.replacen(from, to, 2);
        }
        let mut bytes = text.into_bytes();
        for (at, byte) in swaps {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        read(status, &bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        read(status, &bytes);
    }
}
