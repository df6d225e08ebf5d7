use axum::http::Method;
use reqwest::Response;
use serde_json::{Value, json};
use token_core::ManualClock;

use super::*;
use crate::content::{adler32, content};
use crate::issuer::Issuer;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

struct Rig {
    issuer: Issuer,
    a: Storage,
    b: Storage,
    http: reqwest::Client,
    clock: Arc<ManualClock>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::create(folder.path()).unwrap();
    let (clock, stop) = (Arc::new(ManualClock::new(NOW)), CancellationToken::new());
    let dyn_clock = || Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>;
    let issuer = Issuer::start(&pki, Vec::new(), dyn_clock(), stop.clone()).await.unwrap();
    let config =
        StorageConfig { restricted_paths: vec!["/data".into()], ..StorageConfig::new(issuer.name()) };
    let a = Storage::start(&pki, config.clone(), dyn_clock(), stop.clone()).await.unwrap();
    let b = Storage::start(&pki, config, dyn_clock(), stop.clone()).await.unwrap();
    let http =
        client(&HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() }).unwrap();
    Rig { issuer, a, b, http, clock, stop, _folder: folder }
}

impl Rig {
    fn token(&self, aud: &str, scope: &str) -> String {
        self.mint(json!({"aud": aud, "scope": scope}))
    }

    fn mint(&self, claims: Value) -> String {
        format!("Bearer {}", self.issuer.mint(claims).unwrap().expose())
    }

    #[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
    async fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &'static str) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, url).body(body);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .send()
            .await
            .unwrap()
    }

    /// Status and body of a plain request to the first storage.
    async fn ask(&self, method: &str, path: &str, token: &str) -> (u16, String) {
        let url = format!("{}{path}", self.a.url());
        let response = self.send(method, &url, &[("Authorization", token)], "hello").await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Pulls `/vo/data/src` of the second storage to the first: status, reason phrase known or not, body.
    async fn pull(&self, to: &str, scope: &str, source_token: &str) -> (u16, String) {
        let (source, own) = (format!("{}/vo/data/src", self.b.url()), self.token(&self.a.url(), scope));
        let headers = [
            ("Source", source.as_str()),
            ("TransferHeaderAuthorization", source_token),
            ("Credential", "none"),
            ("Authorization", &own),
        ];
        let response = self.send("COPY", &format!("{}{to}", self.a.url()), &headers, "").await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn source_token(&self) -> String {
        self.token(&self.b.url(), "storage.read:/data/src")
    }
}

#[tokio::test]
async fn only_a_token_for_this_endpoint_with_the_right_reads() {
    let rig = rig().await;
    rig.a.add_file("/vo/data/f", Bytes::from_static(b"content"));
    let (own, read) = (rig.a.url(), "storage.read:/data");
    assert_eq!(rig.ask("GET", "/vo/data/f", &rig.token(&own, read)).await, (200, "content".into()));
    let bad = [
        ("another endpoint", json!({"aud": rig.b.url(), "scope": read})),
        ("FTS", json!({"aud": "https://fts.example:8446", "scope": "fts storage.read:/data"})),
        ("a slash too many", json!({"aud": format!("{own}/"), "scope": read})),
        ("any audience", json!({"aud": token_core::ANY_AUDIENCE, "scope": read})),
        ("expired", json!({"aud": own, "scope": read, "exp": NOW.0})),
        ("not yet", json!({"aud": own, "scope": read, "nbf": NOW.0 + 5})),
        ("no nbf", json!({"aud": own, "scope": read, "nbf": null})),
        ("version 1.3", json!({"aud": own, "scope": read, "wlcg.ver": "1.3"})),
        ("another issuer", json!({"aud": own, "scope": read, "iss": "https://other/"})),
        ("no path", json!({"aud": own, "scope": "storage.read"})),
        ("above the restricted paths", json!({"aud": own, "scope": "storage.read:/ storage.modify:/"})),
        ("another right", json!({"aud": own, "scope": "storage.modify:/data storage.stage:/data"})),
        ("a name's beginning", json!({"aud": own, "scope": "storage.read:/dat"})),
    ];
    let refused = (403, "Unable to open /vo/data/f; permission denied\n".to_owned());
    for (what, claims) in bad.clone() {
        assert_eq!(rig.ask("GET", "/vo/data/f", &rig.mint(claims)).await, refused, "{what}");
    }
    assert_eq!(rig.ask("GET", "/vo/data/f", "").await, refused);
    assert_eq!(rig.ask("GET", "/vox/data/f", &rig.token(&own, read)).await.0, 403, "outside the base path");
    assert_eq!((rig.a.accepted(), rig.a.refused()), (1, bad.len() as u64 + 2));
    let words = rig.a.last_refusals();
    assert!(words[0].contains("GET /vo/data/f: the audience does not name"), "{words:?}");
    assert!(
        words[11].ends_with("no storage.read on /data/f") && words[13].contains("no bearer"),
        "{words:?}"
    );
}

#[tokio::test]
async fn a_pull_brings_the_file_whole() {
    let rig = rig().await;
    let body = content("src", 300_000);
    rig.b.add_file("/vo/data/src", body.clone().into());
    let (status, words) = rig.pull("/vo/data/f", "storage.create:/data/f", &rig.source_token()).await;
    let port = rig.b.server().address().port();
    assert_eq!(
        (status, words),
        (
            201,
            format!(
                "Perf Marker\nTimestamp: {}\nStripe Index: 0\nStripe Bytes Transferred: 0\nTotal Stripe Count: 1\n\
         RemoteConnections: tcp:127.0.0.1:{port}\nEnd\nsuccess: Created",
                NOW.0
            )
        )
    );
    assert_eq!(rig.a.read_file("/vo/data/f").unwrap(), body);
    let token = rig.token(&rig.a.url(), "storage.read:/data/f");
    let headers = [("Authorization", token.as_str()), ("Want-Digest", "adler32")];
    let head = rig.send("HEAD", &format!("{}/vo/data/f", rig.a.url()), &headers, "").await;
    assert_eq!(head.headers()["digest"], format!("adler32={}", adler32(&body)).as_str());
    assert_eq!(head.headers()["content-length"], "300000");
}

#[tokio::test]
async fn a_pull_whose_source_refuses_leaves_an_empty_file_that_blocks_create() {
    let rig = rig().await;
    rig.b.add_file("/vo/data/src", Bytes::from_static(b"content"));
    let wrong = rig.token(&rig.a.url(), "storage.read:/data");
    let (status, words) = rig.pull("/vo/data/f", "storage.create:/data", &wrong).await;
    let end = "failure: Remote side failed with status code 403; error message: \
               \"Unable to open /vo/data/src; permission denied \"";
    assert!(status == 201 && words.ends_with(end), "{status} {words}");
    assert_eq!(rig.a.read_file("/vo/data/f").unwrap(), "");
    let again = rig.pull("/vo/data/f", "storage.create:/data", &rig.source_token()).await;
    assert_eq!(again, (401, "Unable to create /vo/data/f; permission denied".into()));
    assert_eq!(rig.pull("/vo/data/f", "storage.modify:/data", &rig.source_token()).await.0, 201);
    assert_eq!(rig.a.read_file("/vo/data/f").unwrap(), "content");

    let missing = rig.token(&rig.b.url(), "storage.read:/data");
    rig.b.0.tree.lock().unwrap().remove(&request::elements("/vo/data/src"));
    let (_, words) = rig.pull("/vo/data/g", "storage.create:/data", &missing).await;
    assert!(
        words.ends_with(
            "code 404; error message: \"Unable to open /vo/data/src; no such file or directory \""
        )
    );
}

#[tokio::test]
async fn a_copy_without_the_write_right_does_not_begin() {
    let rig = rig().await;
    rig.b.add_file("/vo/data/src", Bytes::from_static(b"content"));
    let refused = (401, "Unable to create /vo/data/f; permission denied".to_owned());
    for scope in ["storage.read:/data", "storage.modify:/", "storage.create:/data/other"] {
        assert_eq!(rig.pull("/vo/data/f", scope, &rig.source_token()).await, refused, "{scope}");
    }
    assert!(rig.a.paths().is_empty());
    assert_eq!(rig.b.accepted() + rig.b.refused(), 0, "the source was not asked");
    let into_nothing = rig.pull("/vo/data/new/f", "storage.modify:/data", &rig.source_token()).await;
    assert_eq!(into_nothing.0, 400);
}

#[tokio::test]
async fn a_push_reads_here_and_writes_there() {
    let rig = rig().await;
    rig.a.add_file("/vo/data/f", Bytes::from_static(b"content"));
    let push = async |scope: &str, there: &str| {
        let (own, there) = (rig.token(&rig.a.url(), scope), rig.token(&rig.b.url(), there));
        let to = format!("{}/vo/data/g", rig.b.url()).replace("https", "davs");
        let headers =
            [("Destination", to.as_str()), ("TransferHeaderAuthorization", &there), ("Authorization", &own)];
        let response = rig.send("COPY", &format!("{}/vo/data/f", rig.a.url()), &headers, "").await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(push("storage.modify:/data", "storage.create:/data").await.0, 401);
    let (status, words) = push("storage.read:/data", "storage.read:/data").await;
    assert!(
        status == 201 && words.ends_with("End\nfailure: Remote side failed with status code 403"),
        "{words}"
    );
    assert_eq!(rig.b.read_file("/vo/data/g"), None);
    let (_, words) = push("storage.read:/data", "storage.create:/data").await;
    assert!(words.ends_with("Total Stripe Count: 1\nEnd\nsuccess: Created"), "{words}");
    assert_eq!(rig.b.read_file("/vo/data/g").unwrap(), "content");
}

#[tokio::test]
async fn a_source_that_breaks_off_leaves_a_part() {
    let rig = rig().await;
    rig.b.add_file("/vo/data/src", content("src", 100_000).into());
    rig.b.set_copy_fault(CopyFault::BreakAfter(60_000));
    let (status, words) = rig.pull("/vo/data/f", "storage.create:/data", &rig.source_token()).await;
    assert!(
        status == 201 && words.ends_with("failure: HTTP library failure: Transferred a partial file"),
        "{words}"
    );
    assert_eq!(rig.a.read_file("/vo/data/f").unwrap().len(), 60_000);
    rig.b.set_copy_fault(CopyFault::None);
    rig.b.server().set_up(false);
    let (_, words) = rig.pull("/vo/data/f", "storage.modify:/data", &rig.source_token()).await;
    assert!(words.contains("\nfailure: HTTP library failure: "), "{words}");
}

#[tokio::test]
async fn writing_needs_what_5_5_3_asks_for() {
    let rig = rig().await;
    let with = |scope: &str| rig.token(&rig.a.url(), scope);
    let (create, modify, read) =
        (with("storage.create:/data"), with("storage.modify:/data"), with("storage.read:/data"));
    let both = with("storage.read:/data storage.modify:/data");
    let smile = ":-)".to_owned();
    let no = |act: &str, path: &str| (403, format!("Unable to {act} {path}; permission denied\n"));

    assert_eq!(rig.ask("PUT", "/vo/data/f", &read).await, no("create", "/vo/data/f"));
    assert_eq!(rig.ask("PUT", "/vo/data/f", &create).await, (200, smile.clone()));
    assert_eq!(rig.ask("PUT", "/vo/data/f", &create).await, no("create", "/vo/data/f"));
    assert_eq!(rig.ask("PUT", "/vo/data/f", &modify).await, (200, smile.clone()));
    assert_eq!(rig.a.read_file("/vo/data/f").unwrap(), "hello");
    assert_eq!(rig.ask("PUT", "/vo/data/made/f", &modify).await.0, 200, "its directory is made");

    let deeper = with("storage.create:/data/new/dir storage.read:/data/new");
    assert_eq!(rig.ask("PROPFIND", "/vo/data/new", &deeper).await.0, 404);
    assert_eq!(rig.ask("MKCOL", "/vo/data/new", &deeper).await.0, 403);
    assert_eq!(rig.ask("MKCOL", "/vo/data/new/dir", &deeper).await.0, 201);
    let (status, xml) = rig.ask("PROPFIND", "/vo/data/new", &deeper).await;
    assert!(status == 207 && xml.contains("<D:collection/>"), "{xml}");
    let (status, xml) = rig.ask("PROPFIND", "/vo/data/f", &read).await;
    assert!(
        status == 207 && xml.contains("<lp1:getcontentlength>5<") && !xml.contains("<D:collection/>"),
        "{xml}"
    );
    assert_eq!(rig.ask("PROPFIND", "/vo/data/new", &with("storage.read:/data/new/f")).await.0, 403);

    assert_eq!(rig.ask("DELETE", "/vo/data/f", &modify).await, no("locate", "/vo/data/f"));
    assert_eq!(rig.ask("DELETE", "/vo/data/f", &read).await.0, 403);
    assert_eq!(rig.ask("DELETE", "/vo/data/f", &both).await, (200, smile));
    let to = format!("{}/vo/data/made/g", rig.a.url());
    let rename = async |from: &str, token: &str| {
        let headers = [("Authorization", token), ("Destination", to.as_str())];
        let response = rig.send("MOVE", &format!("{}{from}", rig.a.url()), &headers, "").await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(rename("/vo/data/made/f", &create).await, no("renaming", "/vo/data/made/f"));
    assert_eq!(rename("/vo/data/made/f", &with("storage.modify:/data/made/f")).await.0, 403);
    assert_eq!(rename("/vo/data/made/f", &modify).await.0, 201);
    assert_eq!(rig.a.paths(), ["/vo/data/made/g"]);
    let gone = "Unable to open /vo/data/f; no such file or directory\n".to_owned();
    assert_eq!(rig.ask("GET", "/vo/data/f", &read).await, (404, gone));
    assert_eq!(rig.ask("POST", "/vo/data/f", &both).await.0, 501);
}

#[tokio::test]
async fn keys_outlive_the_issuer_and_a_token_that_can_not_be_checked_is_refused() {
    let rig = rig().await;
    rig.a.add_file("/vo/data/f", Bytes::from_static(b"content"));
    let token = rig.token(&rig.a.url(), "storage.read:/data");
    rig.issuer.server().set_up(false);
    assert_eq!(rig.ask("GET", "/vo/data/f", &token).await.0, 403);
    assert!(
        rig.a.last_refusals()[0].contains("no keys to check the token with"),
        "{:?}",
        rig.a.last_refusals()
    );
    rig.issuer.server().set_up(true);
    let back = async {
        // A dead issuer is not asked for every request, but every five seconds.
        while rig.ask("GET", "/vo/data/f", &token).await.0 != 200 {
            rig.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back)
        .await
        .expect("the keys are fetched when the issuer is back");
    rig.issuer.server().set_up(false);
    rig.clock.advance(Duration::from_secs(7 * 3600));
    let later = rig.token(&rig.a.url(), "storage.read:/data");
    assert_eq!(rig.ask("GET", "/vo/data/f", &later).await.0, 200);
    rig.clock.advance(Duration::from_secs(4 * 24 * 3600));
    assert_eq!(rig.ask("GET", "/vo/data/f", &rig.token(&rig.a.url(), "storage.read:/data")).await.0, 403);
}

#[tokio::test]
async fn the_flaws_of_5_5_3_are_off_until_asked_for() {
    let rig = rig().await;
    rig.a.add_file("/vo/data/ops1", Bytes::from_static(b"content"));
    let boundary = rig.token(&rig.a.url(), "storage.read:/data/op");
    let climbing = rig.token(&rig.a.url(), "storage.read:/home/../data");
    let short = rig.mint(json!({"aud": rig.a.url(), "scope": "storage.read:/data", "exp": NOW.0 + 2}));
    for token in [&boundary, &climbing] {
        assert_eq!(rig.ask("GET", "/vo/data/ops1", token).await.0, 403);
    }
    rig.a.set_flaws(true);
    for token in [&boundary, &climbing, &short] {
        assert_eq!(rig.ask("GET", "/vo/data/ops1", token).await.0, 200);
    }
    rig.clock.advance(Duration::from_secs(59));
    assert_eq!(rig.ask("GET", "/vo/data/ops1", &short).await.0, 200, "kept for 60 s");
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.ask("GET", "/vo/data/ops1", &short).await.0, 403);
}

#[tokio::test]
async fn a_path_that_climbs_is_told_so_and_a_refused_copy_has_no_reason_phrase() {
    use hyper::service::Service as _;
    let rig = rig().await;
    // Not over HTTP: a client's URL type would resolve the path.
    let service = hyper_util::service::TowerToHyperService::new(webdav::router(rig.a.clone()));
    let ask = async |method: &str, path: &str| {
        let request =
            axum::extract::Request::builder().method(method).uri(path).header("Source", "https://b/f");
        let response = service.call(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1024).await.unwrap();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    };
    let (parts, body) = ask("GET", "/vo/home/../data/f").await;
    assert_eq!(parts.status.as_u16(), 403);
    assert_eq!(body, "Opening relative path &apos;/vo/home/../data/f&apos; is disallowed.\n");
    let (parts, body) = ask("COPY", "/vo/data/f").await;
    assert_eq!(
        (parts.status.as_u16(), body.as_str()),
        (401, "Unable to create /vo/data/f; permission denied")
    );
    assert_eq!(parts.extensions.get::<hyper::ext::ReasonPhrase>().unwrap().as_bytes(), b"Unknown");
}
