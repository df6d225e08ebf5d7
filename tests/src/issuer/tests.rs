use axum::http::StatusCode;
use reqwest::Response;
use token_core::http::{HttpSettings, client};
use token_core::{
    ANY_AUDIENCE, Claims, ClientSecret, ManualClock, Policy, ScopeSet, UnixSeconds, discover, verify,
};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

struct Rig {
    issuer: Issuer,
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
    let of = |id: &str, scopes: &str, grants: &[GrantType]| Client {
        id: id.to_owned(),
        secret: ClientSecret::new(format!("{id}:&+ secret")),
        key: None,
        scopes: ScopeSet::parse(scopes).unwrap(),
        grants: grants.to_vec(),
        token_life: Duration::from_secs(600),
    };
    let storage = "storage.read:/ storage.modify:/data";
    let clients = vec![
        of("submitter", &format!("fts {storage}"), &[GrantType::ClientCredentials, GrantType::TokenExchange]),
        of("exchanger", storage, &[GrantType::TokenExchange, GrantType::RefreshToken]),
    ];
    let issuer = Issuer::start(&pki, clients, Arc::<ManualClock>::clone(&clock), stop.clone()).await.unwrap();
    let http =
        client(&HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() }).unwrap();
    Rig { issuer, http, clock, stop, _folder: folder }
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
    async fn send(&self, id: &str, form: &[(&str, &str)]) -> reqwest::Result<Response> {
        let basic = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let secret = basic(&format!("{id}:&+ secret"));
        let url = format!("{}token", self.issuer.name());
        self.http.post(url).basic_auth(basic(id), Some(secret)).form(form).send().await
    }

    /// The status, and the answer or the error code.
    async fn ask(&self, id: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let response = self.send(id, form).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn refusal(&self, id: &str, form: &[(&str, &str)]) -> (u16, String) {
        let (status, body) = self.ask(id, form).await;
        (status, body["error"].as_str().unwrap().to_owned())
    }

    async fn subject(&self, scope: &str) -> String {
        let (status, body) = self
            .ask("submitter", &[("grant_type", "client_credentials"), ("scope", scope), ("audience", "fts")])
            .await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn claims(&self, answer: &Value) -> Claims {
        let token = answer["access_token"].as_str().unwrap();
        let audiences = Claims::peek(&AccessToken::new(token).unwrap()).unwrap().aud;
        let policy = Policy { any_audience: true, ..Policy::new(self.issuer.name(), audiences) };
        verify(token, &self.issuer.0.key_set, &policy, self.clock.now()).unwrap()
    }
}

fn exchange<'a>(subject: &'a str, scope: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", EXCHANGE),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
        ("scope", scope),
        ("audience", "https://storage"),
    ]
}

#[tokio::test]
async fn client_credentials_stay_within_the_registered_scopes() {
    let rig = rig().await;
    let grant = ("grant_type", "client_credentials");
    let (status, body) =
        rig.ask("submitter", &[grant, ("scope", "fts storage.create:/data/x"), ("audience", "a b")]).await;
    assert_eq!(
        (status, body["token_type"].as_str(), body["expires_in"].as_i64()),
        (200, Some("Bearer"), Some(600))
    );
    assert!(body.get("refresh_token").is_none());
    let claims = rig.claims(&body);
    assert_eq!(
        (claims.aud, claims.exp, claims.nbf),
        (vec!["a".to_owned(), "b".into()], UnixSeconds(NOW.0 + 600), Some(NOW))
    );
    assert_eq!(claims.scope.as_deref(), body["scope"].as_str());

    let (_, all) = rig.ask("submitter", &[grant]).await;
    assert_eq!(all["scope"], "storage.read:/ storage.modify:/data fts");
    assert_eq!(rig.claims(&all).aud, [ANY_AUDIENCE]);

    for scope in ["storage.modify:/database", "storage.stage:/", "storage.read", "other"] {
        assert_eq!(
            rig.refusal("submitter", &[grant, ("scope", scope)]).await,
            (400, "invalid_scope".into()),
            "{scope}"
        );
    }
    assert_eq!(rig.refusal("exchanger", &[grant]).await, (400, "unauthorized_client".into()));
    assert_eq!(
        rig.refusal("submitter", &[("grant_type", "password")]).await,
        (400, "unsupported_grant_type".into())
    );
    let calls = rig.issuer.token_calls();
    assert_eq!((calls.client_credentials, calls.refused, calls.total()), (2, 6, 8));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
async fn a_wrong_secret_is_refused_and_not_told() {
    let rig = rig().await;
    let url = format!("{}token", rig.issuer.name());
    let form =
        [("grant_type", "client_credentials"), ("client_id", "submitter"), ("client_secret", "canary")];
    let refused = rig.http.post(&url).form(&form).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let text = refused.text().await.unwrap();
    assert!(text.contains("invalid_client") && !text.contains("canary"), "{text}");
    assert_eq!(rig.refusal("nobody", &form[..1]).await, (401, "invalid_client".into()));

    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "submitter"),
        ("client_secret", "submitter:&+ secret"),
    ];
    assert_eq!(rig.http.post(&url).form(&form).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(rig.refusal("submitter", &form).await, (400, "invalid_request".into()), "two ways at once");
}

#[tokio::test]
async fn an_exchange_narrows_and_never_widens() {
    let rig = rig().await;
    let subject = rig.subject("fts storage.read:/data storage.modify:/data").await;
    let (status, body) =
        rig.ask("exchanger", &exchange(&subject, "storage.create:/data/d storage.read:/data/d")).await;
    assert_eq!((status, body["issued_token_type"].as_str()), (200, Some(ACCESS_TOKEN)));
    assert!(body.get("refresh_token").is_none());
    let claims = rig.claims(&body);
    assert_eq!((claims.sub.as_deref(), claims.aud), (Some("submitter"), vec!["https://storage".to_owned()]));
    let payload =
        body["access_token"].as_str().unwrap().split('.').nth(1).and_then(encoding::decode).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&payload["client_id"], &payload["act"]), (&json!("exchanger"), &json!({"sub": "exchanger"})));

    for scope in [
        "storage.read:/",
        "storage.modify:/database",
        "storage.stage:/data",
        "storage.read:/data other",
        "fts",
    ] {
        let refused = rig.refusal("exchanger", &exchange(&subject, scope)).await;
        assert_eq!(refused, (400, "invalid_scope".into()), "{scope}");
    }
    for scope in ["", "offline_access"] {
        assert_eq!(
            rig.refusal("exchanger", &exchange(&subject, scope)).await,
            (400, "invalid_request".into())
        );
    }
    let own = rig.refusal("submitter", &exchange(&subject, "storage.read:/data offline_access")).await;
    assert_eq!(own, (403, "access_denied".into()));
    assert_eq!(rig.ask("submitter", &exchange(&subject, "storage.read:/data")).await.0, 200);
}

#[tokio::test]
async fn a_subject_token_is_ours_and_alive() {
    let rig = rig().await;
    let forged = SigningKey::es256("es256-1").unwrap();
    let claims = json!({"iss": rig.issuer.name(), "sub": "s", "aud": "a", "exp": NOW.0 + 60, "wlcg.ver": "1.0",
        "scope": "storage.read:/"});
    let foreign = rig.issuer.mint(json!({"iss": "https://other/", "aud": "a"})).unwrap();
    let expired = rig.issuer.mint(json!({"exp": NOW.0, "aud": "a"})).unwrap();
    let without = rig.issuer.mint(json!({"wlcg.ver": null, "aud": "a"})).unwrap();
    let forged = AccessToken::new(forged.sign(&claims).unwrap()).unwrap();
    for bad in [&foreign, &expired, &without, &forged] {
        let refused = rig.refusal("exchanger", &exchange(bad.expose(), "storage.read:/a")).await;
        assert_eq!(refused, (400, "invalid_grant".into()));
    }
    let good = rig.issuer.mint(json!({"aud": "a"})).unwrap();
    assert_eq!(rig.ask("exchanger", &exchange(good.expose(), "storage.read:/a")).await.0, 200);
    rig.clock.advance(Duration::from_secs(3600));
    assert_eq!(rig.ask("exchanger", &exchange(good.expose(), "storage.read:/a")).await.0, 400);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_only_narrows() {
    let rig = rig().await;
    let subject = rig.subject("storage.read:/data").await;
    let (_, first) = rig.ask("exchanger", &exchange(&subject, "storage.read:/data offline_access")).await;
    let token = first["refresh_token"].as_str().unwrap();
    let with = |token: &str, scope: &str| {
        [
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.to_owned()),
            ("scope", scope.to_owned()),
        ]
    };
    let form = |list: &[(&'static str, String); 3]| list.clone();
    let ask = async |list: [(&'static str, String); 3]| {
        let list = form(&list);
        let list: Vec<_> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
        rig.ask("exchanger", &list).await
    };
    let (status, wide) = ask(with(token, "storage.read:/")).await;
    assert_eq!((status, wide["error"].as_str()), (400, Some("invalid_scope")));
    let (status, second) = ask(with(token, "storage.read:/data/x")).await;
    assert_eq!((status, second["scope"].as_str()), (200, Some("storage.read:/data/x")));
    assert_eq!(rig.claims(&second).aud, ["https://storage"]);
    let (status, used) = ask(with(token, "storage.read:/data")).await;
    assert_eq!((status, used["error"].as_str()), (400, Some("invalid_grant")));
    let (status, third) = ask(with(second["refresh_token"].as_str().unwrap(), "")).await;
    assert_eq!((status, third["scope"].as_str()), (200, Some("storage.read:/data offline_access")));
    assert_eq!(rig.issuer.token_calls().refresh, 2);
}

#[tokio::test]
async fn a_planned_outage_begins_after_its_calls_and_ends_by_itself() {
    let rig = rig().await;
    let grant = [("grant_type", "client_credentials")];
    rig.issuer.plan_fault(2, Fault::Down, Duration::from_secs(3));
    for _ in 0..2 {
        assert_eq!(rig.ask("submitter", &grant).await.0, 200);
    }
    assert!(rig.send("submitter", &grant).await.is_err(), "no answer in between");
    let refused = async {
        while !rig.send("submitter", &grant).await.is_err_and(|error| error.is_connect()) {}
        while rig.send("submitter", &grant).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("refused connections, then answers");
    assert_eq!(rig.ask("submitter", &grant).await.0, 200);
}

#[tokio::test]
async fn falsified_answers_differ_from_what_was_asked() {
    let rig = rig().await;
    let grant = [
        ("grant_type", "client_credentials"),
        ("scope", "fts storage.read:/a storage.read:/b"),
        ("audience", "x"),
    ];
    let ask = async |fault| {
        rig.issuer.set_fault(fault);
        rig.ask("submitter", &grant).await.1
    };
    assert_eq!(ask(Fault::NarrowScope).await["scope"], "storage.read:/a fts");
    assert_eq!(ask(Fault::WidenScope).await["scope"], "storage.read:/ storage.read:/a storage.read:/b fts");
    assert_eq!(rig.claims(&ask(Fault::WrongAudience).await).aud, ["https://elsewhere.invalid"]);
    assert_eq!(ask(Fault::Refuse("invalid_target")).await["error"], "invalid_target");
    rig.issuer.set_fault(Fault::TooManyRequests { retry_after_s: 7 });
    let busy = rig.send("submitter", &grant).await.unwrap();
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    rig.issuer.set_fault(Fault::None);
    assert_eq!(rig.ask("submitter", &grant).await.0, 200);
    let calls = rig.issuer.token_calls();
    assert_eq!((calls.faulted, calls.client_credentials), (5, 1));
}

#[tokio::test]
async fn metadata_and_keys_are_those_of_the_tokens() {
    let rig = rig().await;
    let issuer = token_core::Issuer::new(rig.issuer.name()).unwrap();
    let metadata = discover(&rig.http, &issuer).await.unwrap();
    assert!(metadata.issuer.ends_with('/'));
    #[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
    let keys = rig.http.get(metadata.jwks_uri).send().await.unwrap().bytes().await.unwrap();
    let keys = KeySet::parse(&keys).unwrap();
    let policy = Policy { lenient: true, ..Policy::new(rig.issuer.name(), vec!["a".into()]) };
    let mut algorithms = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let token = rig.issuer.mint(json!({"aud": "a", "jti": null})).unwrap();
        assert!(verify(token.expose(), &keys, &policy, NOW).unwrap().jti.is_none());
        algorithms.insert(token.expose().split('.').next().map(str::to_owned));
    }
    assert_eq!(algorithms.len(), 2, "signed by both keys in turn");
}
