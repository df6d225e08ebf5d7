//! The grants of `token-core`, and what protects an issuer, against the grid's issuer over TLS.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use testbed::issuer::{Client, Fault, GrantType, Issuer};
use testbed::mint::SigningKey;
use testbed::pki::Pki;
use token_core::http::HttpSettings;
use token_core::retry::RetryPolicy;
use token_core::{
    AccessToken, Answer, AssertionKey, AudienceParameter, Claims, ClientAuthentication, ClientSecret, Guard,
    GuardSettings, OAuthClient, OAuthCode, OAuthSettings, RefreshToken, ScopeSet, SystemClock, TokenError,
    TokenRequest,
};
use tokio_util::sync::CancellationToken;

#[path = "grants/canary.rs"]
mod canary;
#[path = "grants/command.rs"]
mod command;
#[path = "grants/device.rs"]
mod device;
#[path = "grants/guard.rs"]
mod guard;

const STORAGE: &str = "https://storage.example";

struct Rig {
    issuer: Issuer,
    pki: Pki,
    keys: [SigningKey; 2],
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn rig() -> Rig {
    let folder = tempfile::Builder::new().prefix("grants").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pki = Pki::create(folder.path()).unwrap();
    let stop = CancellationToken::new();
    let keys = [SigningKey::rs256("r").unwrap(), SigningKey::es256("e").unwrap()];
    let of = |id: &str, key: Option<&SigningKey>, grants: &[GrantType]| Client {
        id: id.to_owned(),
        secret: ClientSecret::new(format!("{id}:&+ secret")),
        key: key.map(|key| key.jwk().unwrap()),
        scopes: ScopeSet::parse("fts storage.read:/ storage.modify:/data").unwrap(),
        grants: grants.to_vec(),
        token_life: Duration::from_secs(600),
    };
    let own = [GrantType::ClientCredentials, GrantType::TokenExchange];
    let clients = vec![
        of("submitter", None, &own),
        of("exchanger", None, &[GrantType::TokenExchange, GrantType::RefreshToken]),
        of("signer-rsa", Some(&keys[0]), &own),
        of("signer-ec", Some(&keys[1]), &own),
        of("device", None, &[GrantType::DeviceCode, GrantType::RefreshToken]),
        of("device-signer", Some(&keys[1]), &[GrantType::DeviceCode]),
    ];
    let issuer = Issuer::start(&pki, clients, Arc::new(SystemClock), stop.clone()).await.unwrap();
    Rig { issuer, pki, keys, stop, folder }
}

impl Rig {
    fn settings(&self, id: &str) -> OAuthSettings {
        let secret = ClientSecret::new(format!("{id}:&+ secret"));
        let name = token_core::Issuer::new(self.issuer.name()).unwrap();
        let http = HttpSettings { ca_file: Some(self.pki.ca_file().to_owned()), ..HttpSettings::default() };
        OAuthSettings { http, ..OAuthSettings::new(name, id, secret) }
    }

    fn client(&self, id: &str) -> OAuthClient {
        self.of(self.settings(id))
    }

    fn of(&self, settings: OAuthSettings) -> OAuthClient {
        OAuthClient::new(settings, Arc::new(SystemClock), self.stop.child_token()).unwrap()
    }

    /// A client that gives up soon.
    fn hasty(&self, id: &str) -> OAuthClient {
        self.of(OAuthSettings { retry: hasty(), ..self.settings(id) })
    }

    async fn subject(&self) -> AccessToken {
        let wish = request("fts", "fts storage.read:/data storage.modify:/data");
        self.client("submitter").client_credentials(&wish).await.unwrap().token
    }

    /// A refresh token for reading and changing `/data`.
    async fn refresh_token(&self) -> RefreshToken {
        let wish = request(STORAGE, "storage.read:/data storage.modify:/data");
        let given =
            self.client("exchanger").exchange_for_refresh(&self.subject().await, &wish).await.unwrap();
        let token = given.grant.unwrap().token;
        assert_eq!(scope(&token), "storage.read:/data storage.modify:/data offline_access");
        given.refresh.unwrap()
    }
}

fn hasty() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(10),
        max: Duration::from_millis(50),
        total: Duration::from_millis(300),
    }
}

fn request(audience: &str, scope: &str) -> TokenRequest {
    TokenRequest { audience: audience.to_owned(), scope: ScopeSet::parse(scope).unwrap() }
}

fn scope(token: &AccessToken) -> String {
    Claims::peek(token).unwrap().scope.unwrap()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, TokenError>) -> OAuthCode {
    match outcome.unwrap_err() {
        TokenError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_narrows_and_rotates_and_the_old_token_is_refused() {
    let rig = rig().await;
    let (client, first) = (rig.client("exchanger"), rig.refresh_token().await);
    assert_eq!(
        code(client.refresh(&first, &request(STORAGE, "storage.read:/")).await),
        OAuthCode::InvalidScope,
        "refused, so nothing was rotated"
    );
    let narrow = request("https://other.example", "storage.read:/data/x");
    let given = client.refresh(&first, &narrow).await.unwrap();
    let token = given.grant.unwrap().token;
    assert_eq!(scope(&token), "storage.read:/data/x");
    assert_eq!(Claims::peek(&token).unwrap().aud, ["https://other.example"]);
    let second = given.refresh.unwrap();
    assert_ne!(first, second);

    let used = client.refresh(&first, &narrow).await;
    assert!(used.as_ref().unwrap_err().is_definite());
    assert_eq!(code(used), OAuthCode::InvalidGrant);
    assert_eq!(code(rig.client("device").refresh(&second, &narrow).await), OAuthCode::InvalidGrant);
    let wide = request(STORAGE, "storage.read:/data storage.modify:/data");
    assert!(client.refresh(&second, &wide).await.unwrap().grant.is_ok());

    let (own, subject) = (rig.client("submitter"), rig.subject().await);
    assert_eq!(code(own.exchange_for_refresh(&subject, &wide).await), OAuthCode::AccessDenied);
    let beyond = request(STORAGE, "storage.read:/elsewhere");
    let calls = rig.issuer.token_calls().total();
    let refused = client.exchange_for_refresh(&subject, &beyond).await.unwrap_err();
    assert!(matches!(refused, TokenError::BeyondSubject { .. }));
    assert_eq!(rig.issuer.token_calls().total(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_refresh_token_is_kept_even_if_the_access_token_is_not_what_was_asked_for() {
    let rig = rig().await;
    let (client, mut refresh) = (rig.client("exchanger"), rig.refresh_token().await);
    let wish = request(STORAGE, "storage.read:/data/a storage.modify:/data/b");
    for fault in [Fault::NarrowScope, Fault::WidenScope, Fault::WrongAudience] {
        rig.issuer.set_fault(fault);
        let given = client.refresh(&refresh, &wish).await.unwrap();
        assert!(matches!(given.grant, Err(TokenError::Mismatch { .. })));
        refresh = given.refresh.unwrap();
    }
    rig.issuer.set_fault(Fault::None);
    assert!(client.refresh(&refresh, &wish).await.unwrap().grant.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_is_lost_is_not_repeated() {
    let rig = rig().await;
    let mut settings = rig.settings("exchanger");
    settings.http.timeout = Duration::from_millis(500);
    let (client, wish) = (rig.of(settings), request(STORAGE, "storage.read:/data"));
    // Metadata first, so that the time-out meets the call itself.
    let subject = rig.subject().await;
    client.exchange(&subject, &wish).await.unwrap();
    let refresh = rig.refresh_token().await;
    rig.issuer.reset_calls();

    rig.issuer.set_fault(Fault::Slow(Duration::from_secs(1)));
    let lost = client.refresh(&refresh, &wish).await.unwrap_err();
    assert!(matches!(lost, TokenError::OutcomeUnknown { .. }), "{lost}");
    assert!(!lost.is_definite() && lost.to_string().contains(rig.issuer.name()));
    let exchange = client.exchange_for_refresh(&subject, &wish).await.unwrap_err();
    assert!(matches!(exchange, TokenError::OutcomeUnknown { .. }), "{exchange}");
    let answered = async {
        while rig.issuer.token_calls().total() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = rig.issuer.token_calls();
    assert_eq!((calls.refresh, calls.exchange, calls.total()), (1, 1, 2));
    rig.issuer.set_fault(Fault::None);
    assert_eq!(
        code(rig.client("exchanger").refresh(&refresh, &wish).await),
        OAuthCode::InvalidGrant,
        "it had been rotated: to repeat it would have been of no use"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refresh_only_what_surely_did_nothing_is_tried_again() {
    let rig = rig().await;
    let (refresh, wish) = (rig.refresh_token().await, request(STORAGE, "storage.read:/data"));
    let subject = rig.subject().await;
    let retry = RetryPolicy { total: Duration::from_secs(3), ..hasty() };
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(404), Fault::Html] {
        rig.issuer.set_fault(fault.clone());
        let client = rig.of(OAuthSettings { retry, ..rig.settings("exchanger") });
        rig.issuer.reset_calls();
        let lost = client.refresh(&refresh, &wish).await.unwrap_err();
        assert!(matches!(lost, TokenError::OutcomeUnknown { .. }), "{fault:?}: {lost}");
        assert_eq!(rig.issuer.token_calls().total(), 1, "{fault:?}");
        assert!(client.exchange(&subject, &wish).await.is_err());
        assert!(rig.issuer.token_calls().total() > 2, "a plain exchange is tried again: {fault:?}");
    }
    rig.issuer.set_fault(Fault::TooManyRequests { retry_after_s: 0 });
    let client = rig.of(OAuthSettings { retry, ..rig.settings("exchanger") });
    rig.issuer.reset_calls();
    assert!(matches!(
        client.refresh(&refresh, &wish).await.unwrap_err(),
        TokenError::Busy { status: 429, .. } | TokenError::Open { .. }
    ));
    assert!(rig.issuer.token_calls().total() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_found_no_connection_is_tried_again() {
    let rig = rig().await;
    let (refresh, wish) = (rig.refresh_token().await, request(STORAGE, "storage.read:/data"));
    let client = rig.client("exchanger");
    client.exchange(&rig.subject().await, &wish).await.unwrap();
    rig.issuer.set_fault(Fault::Down);
    let issuer: url::Url = rig.issuer.name().parse().unwrap();
    let at = (issuer.host_str().unwrap(), issuer.port().unwrap());
    let shut = async { while tokio::net::TcpStream::connect(at).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), shut).await.unwrap();
    let before = client.calls();
    let back = async {
        let tried = async {
            while client.calls() <= before + 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), tried).await.unwrap();
        rig.issuer.set_fault(Fault::None);
    };
    let (given, ()) = tokio::join!(client.refresh(&refresh, &wish), back);
    assert!(given.unwrap().grant.is_ok());
    assert!(client.calls() > before + 1, "it was tried while there was no issuer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_proves_who_it_is_in_three_ways() {
    let rig = rig().await;
    let wish = request("fts", "fts");
    let with = |id: &str, authentication| rig.of(OAuthSettings { authentication, ..rig.settings(id) });
    let secret = ClientSecret::new("submitter:&+ secret");
    assert!(rig.client("submitter").client_credentials(&wish).await.is_ok());
    let post = with("submitter", ClientAuthentication::Post(secret));
    assert!(post.client_credentials(&wish).await.is_ok());
    let wrong = with("submitter", ClientAuthentication::Post(ClientSecret::new("wrong")));
    assert_eq!(code(wrong.client_credentials(&wish).await), OAuthCode::InvalidClient);

    let key = |key: &SigningKey, kid: Option<&str>| {
        let path = rig.folder.path().join("client.key");
        std::fs::write(&path, key.pem()).unwrap();
        ClientAuthentication::PrivateKeyJwt(AssertionKey::from_file(&path, kid.map(str::to_owned)).unwrap())
    };
    let [rsa, ec] = &rig.keys;
    for (id, own, kid, other) in [("signer-rsa", rsa, "r", ec), ("signer-ec", ec, "e", rsa)] {
        for kid in [None, Some(kid)] {
            let client = with(id, key(own, kid));
            for _ in 0..2 {
                assert!(client.client_credentials(&wish).await.is_ok(), "a new assertion each time");
            }
        }
        for wrong in [key(other, None), key(own, Some("x"))] {
            let refused = with(id, wrong).client_credentials(&wish).await.unwrap_err();
            assert!(refused.is_our_configuration(), "{refused}");
        }
        assert_eq!(code(rig.client(id).client_credentials(&wish).await), OAuthCode::InvalidClient);
    }
    // And with the other grants.
    let exchange = with("signer-ec", key(ec, None));
    let wish = request(STORAGE, "storage.read:/data");
    assert!(exchange.exchange(&rig.subject().await, &wish).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_asked_for_as_the_issuer_wants_it() {
    let rig = rig().await;
    let with = |audience| rig.of(OAuthSettings { audience, ..rig.settings("submitter") });
    let two = request("https://a.example https://b.example", "storage.read:/data");
    for parameter in [AudienceParameter::Audience, AudienceParameter::Resource, AudienceParameter::Both] {
        let token = with(parameter).client_credentials(&two).await.unwrap().token;
        assert_eq!(Claims::peek(&token).unwrap().aud, ["https://a.example", "https://b.example"]);
    }
    let word = request("fts", "fts");
    assert_eq!(
        code(with(AudienceParameter::Resource).client_credentials(&word).await),
        OAuthCode::InvalidTarget
    );
    let none = with(AudienceParameter::None);
    let any = none.client_credentials(&request("", "fts")).await.unwrap().token;
    assert_eq!(Claims::peek(&any).unwrap().aud, [token_core::ANY_AUDIENCE]);
    let measured = none.client_credentials(&word).await.unwrap_err();
    assert!(matches!(measured, TokenError::Mismatch { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_is_measured_by_the_answer_alone() {
    let rig = rig().await;
    let client = rig.of(OAuthSettings { answer: Answer::Opaque, ..rig.settings("submitter") });
    let wish = request("fts", "storage.read:/data/a storage.read:/data/b");
    assert!(client.client_credentials(&wish).await.is_ok());
    rig.issuer.set_fault(Fault::WrongAudience);
    assert!(client.client_credentials(&wish).await.is_ok(), "nobody looks into it");
    rig.issuer.set_fault(Fault::NarrowScope);
    let narrowed = client.client_credentials(&wish).await.unwrap_err();
    assert!(matches!(narrowed, TokenError::Mismatch { .. }));
}
