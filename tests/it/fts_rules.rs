//! What `fts-client` writes, FTS takes: random jobs against the rules of submission that were recorded, as the grid's FTS has
//! them, and against the schema that FTS publishes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use fts_client::{
    FileEntry, FtsClient, FtsError, FtsSettings, IdGenerator, Params, QueueTime, SelectionStrategy,
    Submission, Submitted, VerifyChecksum,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use testbed::fts::{Fts, FtsConfig, Provider};
use testbed::issuer::Issuer;
use testbed::pki::Pki;
use token_core::http::HttpSettings;
use token_core::{AccessToken, ClientSecret, Clock, SystemClock, random_hex};
use tokio_util::sync::CancellationToken;

/// Random jobs, most of them valid.
const CASES: u32 = 400;

fn url() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => (select(vec!["davs", "https", "root", "s3s", "wibble"]), "[a-c]{1,3}(\\.example)?", of(1_u16..), "[a-zA-Z0-9/%+ ._~-]{1,40}")
            .prop_map(|(scheme, host, port, path)| {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("{scheme}://{host}{port}/{path}")
            }),
        1 => select(vec!["file:///etc/passwd", "davs:///x", "davs://a.example", "davs://a.example/", "x", "", "davs://a/?x=1"])
            .prop_map(str::to_owned),
    ]
}

fn metadata() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(Value::Null),
        4 => "\\PC{0,20}".prop_map(|text| json!({"text": text, "n": 1})),
        2 => "\\PC{0,20}".prop_map(Value::from),
        1 => Just(json!([1])),
    ]
}

fn file(token: AccessToken) -> impl Strategy<Value = FileEntry> {
    let lists = (vec(url(), 0..2), vec(url(), 1..2), url(), select(vec![0, 0, 0, 0, 1, 2, 3]));
    let rest = (
        metadata(),
        of(0_i64..1 << 40),
        of(select(vec!["ADLER32:0a1b2c3d", "MD5:x"])),
        of(select(vec!["auto", "orderly", "queue", "random"])),
        of(select(vec![64_u16, 65, 1000, 65_535])),
    );
    (lists, rest).prop_map(move |((more, destinations, source, tokens), rest)| {
        let (metadata, filesize, checksum, strategy, scitag) = rest;
        let sources: Vec<String> = std::iter::once(source).chain(more).collect();
        let give = |wanted: bool, count: usize| if wanted { vec![token.clone(); count] } else { Vec::new() };
        FileEntry {
            source_tokens: give(tokens & 1 != 0, sources.len()),
            destination_tokens: give(tokens & 2 != 0, destinations.len()),
            sources,
            destinations,
            metadata,
            filesize,
            checksum: checksum.map(str::to_owned),
            selection_strategy: strategy.map(|word| SelectionStrategy::from(word.to_owned())),
            scitag,
            ..FileEntry::default()
        }
    })
}

fn params() -> impl Strategy<Value = Params> {
    let rare = || prop::bool::weighted(0.1);
    let verify = of(select(vec![
        VerifyChecksum::Both,
        VerifyChecksum::Source,
        VerifyChecksum::Target,
        VerifyChecksum::None,
    ]));
    let time = of(select(vec![
        QueueTime::Hours(2),
        QueueTime::Minutes(90),
        QueueTime::Days(7),
        QueueTime::Seconds(60),
    ]));
    let flags = (rare(), rare(), rare(), rare(), rare(), rare());
    let rest = (verify, time, of(-9_i64..9), of(0_i64..5), metadata(), rare(), prop::bool::weighted(0.9));
    (flags, rest).prop_map(
        |(flags, (verify_checksum, max_time_in_queue, priority, retry, job_metadata, own_id, sid))| {
            let (overwrite, overwrite_on_retry, overwrite_hop, overwrite_when_only_on_disk, multihop, reuse) =
                flags;
            Params {
                overwrite,
                overwrite_on_retry,
                overwrite_hop,
                overwrite_when_only_on_disk,
                multihop,
                reuse,
                verify_checksum,
                max_time_in_queue,
                priority,
                retry,
                job_metadata,
                id_generator: if own_id { IdGenerator::Deterministic } else { IdGenerator::Standard },
                sid: sid.then(random_hex),
                ..Params::default()
            }
        },
    )
}

fn job(token: AccessToken) -> impl Strategy<Value = Submission> {
    (prop_oneof![6 => vec(file(token.clone()), 1..2), 2 => vec(file(token), 0..4)], params())
        .prop_map(|(files, params)| Submission { files, params })
}

#[test]
fn what_check_lets_pass_is_taken_and_what_it_does_not_is_not() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder =
        tempfile::Builder::new().prefix("fts_rules").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let stop = CancellationToken::new();
    let (client, token) = runtime.block_on(fts(folder.path(), stop.clone()));
    let schema = schema();
    let mut seen = [0_u32; 2];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    let counted = std::cell::RefCell::new(&mut seen);
    let outcome = runner.run(&job(token), |job| {
        let read: Submission = serde_json::from_value(json!(job)).unwrap();
        prop_assert_eq!(&read, &job, "what is written reads the same");
        let answer = runtime.block_on(client.submit(&job));
        match job.check() {
            Ok(()) => {
                counted.borrow_mut()[0] += 1;
                prop_assert!(matches!(answer, Ok(Submitted::Accepted(_))), "{:?}", answer);
                let wrong = beside(&schema, &json!(job), "job");
                prop_assert!(wrong.is_empty(), "{:?}", wrong);
            }
            Err(fault) => {
                counted.borrow_mut()[1] += 1;
                // The one thing that FTS takes and we don't: files that would wait in TOKEN_PREP for ever.
                let stuck = fault.field.contains("_tokens") && job.files.len() > 1;
                let refused = matches!(&answer, Err(FtsError::Refused { .. }));
                prop_assert!(refused || (stuck && answer.is_ok()), "{fault}: {:?}", answer);
            }
        }
        Ok(())
    });
    stop.cancel();
    outcome.unwrap();
    assert!(seen.iter().all(|count| *count > CASES / 8), "both kinds were tried: {seen:?}");
}

async fn fts(folder: &Path, stop: CancellationToken) -> (FtsClient, AccessToken) {
    let clock = Arc::new(SystemClock) as Arc<dyn Clock>;
    let pki = Pki::create(folder).unwrap();
    let issuer = Issuer::start(&pki, Vec::new(), Arc::clone(&clock), stop.clone()).await.unwrap();
    let provider = Provider {
        name: "box".into(),
        issuer: issuer.name().to_owned(),
        client_id: "fts".into(),
        client_secret: ClientSecret::new("unused"),
        vo: "testvo".into(),
    };
    let config = FtsConfig::new(folder.join("fts.sqlite"), vec![provider]);
    let fts = Fts::start(&pki, config, clock, stop).await.unwrap();
    fts.set_scheduler(false);
    let mint = |aud: &str| {
        issuer.mint(json!({"aud": aud, "sub": "rules", "scope": "fts storage.modify:/"})).unwrap()
    };
    let http = HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() };
    let settings = FtsSettings { http, ..FtsSettings::new(fts.url().parse().unwrap()) };
    (FtsClient::new(&settings, Arc::new(mint(&fts.url()))).unwrap(), mint("https://storage.example"))
}

/// The schema that FTS publishes, as it was recorded.
fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/contract/fts/submit-schema.json");
    let recording: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    recording["response"]["body"].clone()
}

/// Where a value is not as the schema has it. FTS does not use its schema, and takes more than that in three places.
fn beside(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if ["job.params.verify_checksum", "job.params.job_metadata", "job.files.metadata"].contains(&at) {
        return Vec::new();
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        many => many.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let is = |kind: &&&str| match **kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    if !types.is_empty() && types.iter().find(is).is_none() {
        return vec![format!("{at} is none of {types:?}")];
    }
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut wrong: Vec<String> = missing
        .filter(|name| value.get(*name).is_none())
        .map(|name| format!("{at}.{name} is missing"))
        .collect();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            wrong.extend(beside(schema, value, &format!("{at}.{name}")));
        }
    }
    for value in value.as_array().into_iter().flatten() {
        wrong.extend(beside(&schema["items"], value, at));
    }
    wrong
}
