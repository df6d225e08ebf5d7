//! Several VOs in one Rucio database: each with its own issuer, side by side, as Rucio's own poller and finisher expect it.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs, and for one test `RUCIO_POSTGRES`, the URL of a server where databases may be made;
//! `./tests/run` sees to both.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::fts::RestSettings;
use testbed::issuer::Fault;
use token_core::random_hex;

#[path = "interop/needed.rs"]
mod needed;
#[path = "vos/rig.rs"]
mod rig;

use rig::{FILES, Rig, VOS, Wanted};

#[tokio::test(flavor = "multi_thread")]
async fn every_vo_is_submitted_with_its_own_token_and_rucio_closes_all() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    whole(&start(&programs, None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_postgresql() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let Some(url) = needed::needed("RUCIO_POSTGRES", "PostgreSQL") else { return };
    let url = url.to_str().unwrap();
    let name = format!("conveyor_test_{}", random_hex());
    administer(url, &format!("CREATE DATABASE {name}")).await;
    let own = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
    let done = tokio::spawn(async move { whole(&start(&programs, Some(own)).await).await }).await;
    administer(url, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    done.unwrap();
}

/// From the queue to rules that are OK.
async fn whole(rig: &Rig) {
    let (output, report) = rig.once().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["submitted"], 2 * FILES);
    for vo in VOS {
        assert_eq!(report["vos"][vo]["submitted"], FILES, "{report}");
        assert_eq!(rig.issuers[vo].token_calls().total(), 1, "one token a VO");
        // Rucio's own messages name the VO beside the plain scope.
        let sent = format!(
            "SELECT payload FROM messages WHERE event_type = 'transfer-submitted' AND payload LIKE '%\"{vo}.set.%'"
        );
        let messages = rig.lines(&sent).await;
        assert_eq!(messages.len(), FILES);
        for message in messages {
            let message: Value = serde_json::from_str(&message).unwrap();
            assert_eq!((&message["vo"], &message["scope"]), (&vo.into(), &"data".into()), "{message}");
        }
    }
    // Names go to FTS as everybody knows them, and jobs hold files of one VO only.
    let mut seen = BTreeSet::new();
    for job in rig.fts.recorded() {
        assert_eq!(job["params"]["account"], "prod");
        let files = job["files"].as_array().unwrap();
        assert!(files.iter().all(|file| file["metadata"]["scope"] == "data"));
        let of = |file: &Value| file["metadata"]["name"].as_str().unwrap()[..3].to_owned();
        let vos: BTreeSet<String> = files.iter().map(of).collect();
        assert_eq!(vos.len(), 1, "{vos:?}");
        seen.extend(vos);
    }
    assert_eq!(seen, VOS.map(str::to_owned).into());
    let known = rig.fts_rows::<(String, i64)>(
        "SELECT vo_name, count(*) FROM t_file JOIN t_token ON token_id = src_token_id GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(known.await, VOS.map(|vo| (vo.to_owned(), i64::try_from(FILES).unwrap())));

    rig.transfer(2 * FILES as u64).await;
    for arguments in [["rucio-conveyor-poller", "--older-than"], ["rucio-conveyor-finisher", "--sleep-time"]]
    {
        let [program, option] = arguments;
        close(rig, program, option).await;
    }
    assert_eq!(rig.lines("SELECT state, count(*) FROM rules GROUP BY state").await, ["O 2"]);
    assert_eq!(rig.lines("SELECT count(*) FROM requests").await, ["0"]);
    let wrong = "SELECT count(*) FROM replicas WHERE state <> 'A'";
    assert_eq!(rig.lines(wrong).await, ["0"]);
}

async fn close(rig: &Rig, program: &str, option: &str) {
    // The poller's token is of the one issuer that Rucio knows, and FTS lets any token see all jobs.
    rig.name_an_issuer("atl");
    rig.run(program, &["--run-once", "--db-bulk", "1000", option, "0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_holds_up_its_own_vo_only() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let rig = start(&programs, None).await;
    rig.issuers["cms"].set_fault(Fault::Down);
    let (output, report) = rig.once().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with("conveyor: VO `cms`: "), "{said}");
    assert_eq!((&report["vos"]["atl"]["submitted"], &report["submitted"]), (&FILES.into(), &FILES.into()));
    let states = "SELECT scope, state, count(*) FROM requests GROUP BY scope, state ORDER BY 1";
    assert_eq!(rig.lines(states).await, ["data@atl S 12", "data@cms Q 12"]);
    rig.issuers["cms"].set_fault(Fault::None);
    let (output, report) = rig.once().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["vos"]["cms"]["submitted"], &report["picked"]), (&FILES.into(), &FILES.into()));
    assert_eq!(rig.lines(states).await, ["data@atl S 12", "data@cms S 12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_tokens_are_those_of_the_vos_own_issuer() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let rest = RestSettings { unmanaged_tokens: Some(true), ..RestSettings::default() };
    let rig = Rig::start(Wanted { programs: &programs, rest, postgres: None }).await;
    // The storages of DISK-A take Rucio's audience, the host name.
    rig.configure(
        "[storage_tokens]\nsend = \"unmanaged\"\n[[rse]]\nname = \"DISK-B\"\naudience = \"{url}\"\n",
    );
    let (output, report) = rig.once().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["authorised"]["unmanaged storage tokens"], 2 * FILES);
    rig.transfer(2 * FILES as u64).await;
    for vo in VOS {
        let calls = rig.issuers[vo].token_calls();
        assert_eq!((calls.client_credentials, calls.exchange), (3, 0), "{vo}: for FTS and two storages");
        assert_eq!(rig.storages[&(vo, "DISK-A")].refused() + rig.storages[&(vo, "DISK-B")].refused(), 0);
    }
    let issuers = rig.fts_rows::<(String, i64)>("SELECT issuer, count(*) FROM t_token GROUP BY issuer").await;
    assert_eq!(issuers.len(), 2);
    assert!(issuers.iter().all(|(_, tokens)| *tokens == 2), "{issuers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_messages_are_those_of_rucios_own_submitter() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let rig = start(&programs, None).await;
    rig.fts.set_scheduler(false);
    let before = rig.folder.join("before.sqlite");
    std::fs::copy(rig.rucio.path(), &before).unwrap();
    let (output, _) = rig.once().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (ours, sent) = (posted(&rig, 0), rig.fts.recorded().len());
    let our_messages = messages(&rig).await;
    std::fs::copy(&before, rig.rucio.path()).unwrap();
    // Rucio knows one issuer for all VOs.
    rig.name_an_issuer("atl");
    rig.run("rucio-conveyor-submitter", &["--run-once", "--bulk", "1000", "--group-bulk", "100"]).await;
    let theirs = posted(&rig, sent);
    assert_eq!((theirs.len(), ours.len()), (2 * FILES, 2 * FILES));
    for (id, theirs) in &theirs {
        assert_eq!(ours.get(id), Some(theirs));
    }
    let their_messages = messages(&rig).await;
    assert_eq!(their_messages.len(), 2 * FILES);
    assert_eq!(our_messages, their_messages);
}

/// What was posted for each request after the first `skip` jobs: its entry and the parameters of its job. Without tokens, and without
/// our job ids, which are known beforehand.
fn posted(rig: &Rig, skip: usize) -> BTreeMap<String, (Value, Value)> {
    let mut posted = BTreeMap::new();
    for job in &rig.fts.recorded()[skip..] {
        let mut params = job["params"].clone();
        without(&mut params, &["id_generator", "sid"]);
        for file in job["files"].as_array().unwrap() {
            let mut file = file.clone();
            without(&mut file, &["source_tokens", "destination_tokens"]);
            let id = file["metadata"]["request_id"].as_str().unwrap().to_owned();
            assert!(posted.insert(id, (file, params.clone())).is_none(), "posted twice");
        }
    }
    posted
}

fn without(object: &mut Value, keys: &[&str]) {
    let object = object.as_object_mut().unwrap();
    keys.iter().for_each(|key| drop(object.remove(*key)));
}

/// The messages of submissions, by request, without what differs from one submission to another.
async fn messages(rig: &Rig) -> BTreeMap<String, Value> {
    let sent = "SELECT payload FROM messages WHERE event_type = 'transfer-submitted'";
    let message = |text: String| {
        let mut message: Value = serde_json::from_str(&text).unwrap();
        without(&mut message, &["external-id", "queued_at"]);
        (message["request-id"].as_str().unwrap().to_owned(), message)
    };
    rig.lines(sent).await.into_iter().map(message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vo_of_several_is_served_alone_and_a_slip_of_the_pen_is_named() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let rig = start(&programs, None).await;
    let run = async |vos: &str| {
        let file = rig.folder.join("conveyor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.lines().map(|line| if line.starts_with("vos = ") { vos } else { line });
        std::fs::write(&file, text.collect::<Vec<_>>().join("\n")).unwrap();
        let (output, report) = rig.once().await;
        let line = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        (output.status.code(), line, report)
    };
    let (code, line, _) = run("vos = [\"cms\", \"alt\"]").await;
    assert!(code == Some(2) && line.contains("`alt`") && line.contains("atl, cms"), "{line}");
    let (code, line, _) = run("vos = [\"cms\"]").await;
    assert!(code == Some(2) && line.contains("`atl` has settings of its own"), "{line}");
    rig.drop_vo_settings("atl");
    let (code, line, report) = run("vos = [\"cms\"]").await;
    assert_eq!((code, &report["submitted"]), (Some(0), &FILES.into()), "{line}");
    let states = "SELECT scope, state, count(*) FROM requests GROUP BY scope, state ORDER BY 1";
    assert_eq!(rig.lines(states).await, ["data@atl Q 12", "data@cms S 12"]);
}

async fn start(programs: &Path, postgres: Option<String>) -> Rig {
    Rig::start(Wanted { programs, rest: RestSettings::default(), postgres }).await
}

async fn administer(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
