//! The grants of `token-core` against an OAuth2 server that nobody here wrote: npm's `oidc-provider`.
//!
//! Needs `OIDC_PROVIDER`, a folder with `node_modules` made from tests/interop/oidc-provider/package-lock.json, and Node.js 20;
//! `./tests/run` makes one. What of the server is the library's own and what is set up here stands in
//! tests/interop/oidc-provider/server.mjs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use testbed::mint::SigningKey;
use token_core::retry::RetryPolicy;
use token_core::{
    AccessToken, Answer, AssertionKey, AudienceParameter, Claims, ClientAuthentication, ClientSecret,
    KeysError, ManualClock, OAuthCode, OAuthSettings, Policy, RefreshToken, ScopeSet, SystemClock,
    TokenError, TokenRequest, UnixSeconds, VerifyError,
};

#[path = "interop/browser.rs"]
mod browser;
#[path = "interop/device.rs"]
mod device;
#[path = "interop/needed.rs"]
mod needed;
#[path = "interop/provider.rs"]
mod provider;
#[path = "interop/refresh.rs"]
mod refresh;
#[path = "interop/tls.rs"]
mod tls;

use provider::Provider;

const FTS: &str = "https://fts.example:8446";
/// Its tokens are signed with RS256.
const SE_RSA: &str = "https://se-rsa.example";
/// Its tokens are signed with ES256.
const SE_EC: &str = "https://se-ec.example";

fn request(audience: &str, scope: &str) -> TokenRequest {
    TokenRequest { audience: audience.to_owned(), scope: ScopeSet::parse(scope).unwrap() }
}

/// One try.
fn hasty() -> RetryPolicy {
    RetryPolicy { total: Duration::from_millis(1), ..RetryPolicy::default() }
}

fn scope(token: &AccessToken) -> String {
    Claims::peek(token).unwrap().scope.unwrap()
}

/// The algorithm in its header.
fn algorithm(token: &AccessToken) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.expose().split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["alg"].as_str().unwrap().to_owned()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, TokenError>) -> (OAuthCode, u16) {
    match outcome.unwrap_err() {
        TokenError::Refused { code, status, .. } => (code, status),
        other => panic!("{other}"),
    }
}

impl Provider {
    /// The claims of a token that must be good for `audience`.
    async fn verified(&self, token: &AccessToken, audience: &str) -> Claims {
        let policy = Policy::new(&self.issuer, vec![audience.to_owned()]);
        self.issuer_keys().verify(token.expose(), &policy).await.unwrap()
    }

    async fn subject(&self) -> AccessToken {
        let wish = request(FTS, "fts storage.read:/data storage.modify:/data");
        self.client("basic:1").client_credentials(&wish).await.unwrap().token
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_tokens_are_what_was_asked_for_and_pass_verification() {
    let Some(provider) = Provider::start().await else { return };
    for (audience, signed) in [(SE_RSA, "RS256"), (SE_EC, "ES256")] {
        for parameter in [AudienceParameter::Resource, AudienceParameter::Both] {
            let settings = OAuthSettings { audience: parameter, ..provider.settings("basic:1") };
            let wish = request(audience, "storage.read:/data/a storage.create:/data");
            let client = provider.of(settings, Arc::new(SystemClock));
            let token = client.client_credentials(&wish).await.unwrap().token;
            assert_eq!(algorithm(&token), signed);
            let claims = provider.verified(&token, audience).await;
            assert_eq!(claims.aud, [audience]);
            assert_eq!((claims.sub.as_deref(), claims.version.as_deref()), (Some("basic:1"), Some("1.0")));
            assert_eq!(claims.scopes().unwrap(), wish.scope);

            let elsewhere = Policy::new(&provider.issuer, vec![FTS.to_owned()]);
            let verdict = provider.issuer_keys().verify(token.expose(), &elsewhere).await.unwrap_err();
            assert!(matches!(verdict, KeysError::Token(VerifyError::Audience)), "{verdict}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_authority_is_trusted() {
    let Some(provider) = Provider::start().await else { return };
    let other = provider.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let mut settings = provider.settings("basic:1");
    settings.http.ca_file = Some(tls::certify(&other).ca_file);
    settings.retry = hasty();
    let (distrusting, wish) = (provider.of(settings, Arc::new(SystemClock)), request(FTS, "fts"));
    let outcome = distrusting.client_credentials(&wish).await.unwrap_err();
    assert!(matches!(outcome, TokenError::Unreachable { reason, .. } if reason.contains("certificate")));
    assert!(provider.client("basic:1").client_credentials(&wish).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_resource_it_gives_opaque_tokens() {
    let Some(provider) = Provider::start().await else { return };
    let of = |answer| {
        let settings =
            OAuthSettings { audience: AudienceParameter::None, answer, ..provider.settings("basic:1") };
        provider.of(OAuthSettings { retry: hasty(), ..settings }, Arc::new(SystemClock))
    };
    let wish = request("", "fts storage.read:/data");
    let given = of(Answer::Opaque).client_credentials(&wish).await.unwrap();
    assert!(Claims::peek(&given.token).is_err());
    let unread = of(Answer::WlcgJwt).client_credentials(&wish).await.unwrap_err();
    assert!(matches!(unread, TokenError::BadAnswer { .. }), "{unread}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_proves_who_it_is_in_three_ways() {
    let Some(provider) = Provider::start().await else { return };
    let wish = request(FTS, "fts");
    let with = |id: &str, authentication| {
        provider.of(OAuthSettings { authentication, ..provider.settings(id) }, Arc::new(SystemClock))
    };
    let invalid = (OAuthCode::InvalidClient, 401);
    let wrong = || ClientSecret::new("wrong");

    assert!(provider.client("basic:1").client_credentials(&wish).await.is_ok());
    let refusal = with("basic:1", wrong().into()).client_credentials(&wish).await;
    assert!(refusal.as_ref().unwrap_err().is_our_configuration());
    assert!(!refusal.as_ref().unwrap_err().is_definite(), "transfers wait for a new secret");
    assert_eq!(refused(refusal), invalid);
    assert_eq!(refused(provider.client("nobody").client_credentials(&wish).await), invalid);

    let post = ClientAuthentication::Post(provider::secret("post"));
    assert!(with("post", post).client_credentials(&wish).await.is_ok());
    assert_eq!(
        refused(with("post", ClientAuthentication::Post(wrong())).client_credentials(&wish).await),
        invalid
    );

    let sign = |key: &SigningKey, kid: Option<&str>| {
        let key = AssertionKey::from_pem(&key.pem(), kid.map(str::to_owned)).unwrap();
        ClientAuthentication::PrivateKeyJwt(key)
    };
    let [rsa, ec] = &provider.keys;
    for (id, own, kid, other) in [("signer-rsa", rsa, "r", ec), ("signer-ec", ec, "e", rsa)] {
        for kid in [None, Some(kid)] {
            let client = with(id, sign(own, kid));
            for _ in 0..2 {
                assert!(client.client_credentials(&wish).await.is_ok(), "it takes an assertion only once");
            }
        }
        assert_eq!(refused(with(id, sign(other, None)).client_credentials(&wish).await), invalid);
        assert_eq!(refused(with(id, sign(own, Some("x"))).client_credentials(&wish).await), invalid);
        let stranger = if id == "signer-ec" { SigningKey::es256("e") } else { SigningKey::rs256("r") };
        let stranger = sign(&stranger.unwrap(), Some(kid));
        assert_eq!(refused(with(id, stranger).client_credentials(&wish).await), invalid);
        // It has no secret.
        assert_eq!(refused(provider.client(id).client_credentials(&wish).await), invalid);
    }
    let exchange = with("signer-ec", sign(ec, None));
    let narrow = request(SE_EC, "storage.read:/data");
    assert!(exchange.exchange(&provider.subject().await, &narrow).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_refuses_and_what_it_drops_without_a_word() {
    let Some(provider) = Provider::start().await else { return };
    let client = provider.client("basic:1");
    let ask = async |audience: &str, scope: &str| {
        client.client_credentials(&request(audience, scope)).await.map(|given| given.token)
    };
    // A scope of the server that this client may not have; one that the server does not have is dropped in silence.
    let outcome = ask(SE_RSA, "storage.read:/data storage.stage:/data").await;
    assert!(outcome.as_ref().unwrap_err().is_definite());
    assert_eq!(refused(outcome), (OAuthCode::InvalidScope, 400));
    let dropped = ask(SE_RSA, "storage.read:/data storage.read:/elsewhere").await.unwrap_err();
    assert!(matches!(&dropped, TokenError::Mismatch { reason, .. } if reason.contains("/elsewhere")));

    for audience in ["https://unknown.example", "fts", "https://se-rsa.example https://se-ec.example"] {
        let outcome = ask(audience, "fts").await;
        assert!(outcome.as_ref().unwrap_err().is_definite());
        assert_eq!(refused(outcome), (OAuthCode::InvalidTarget, 400), "{audience}");
    }
    // RFC 6749 section 5.2 has `unauthorized_client` for this.
    let not_its_grant = provider.client("device").client_credentials(&request(FTS, "fts")).await;
    assert_eq!(refused(not_its_grant), (OAuthCode::InvalidRequest, 400));
    let no_devices = client.device_authorization(&request(FTS, "fts")).await;
    assert_eq!(refused(no_devices), (OAuthCode::InvalidRequest, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_for_one_per_endpoint() {
    let Some(provider) = Provider::start().await else { return };
    let (subject, client) = (provider.subject().await, provider.client("exchanger"));
    for (audience, signed) in [(SE_RSA, "RS256"), (SE_EC, "ES256")] {
        for parameter in [AudienceParameter::Resource, AudienceParameter::Both] {
            let settings = OAuthSettings { audience: parameter, ..provider.settings("exchanger") };
            let wish = request(audience, "storage.read:/data/a");
            let given = provider.of(settings, Arc::new(SystemClock)).exchange(&subject, &wish).await.unwrap();
            assert_eq!(
                (algorithm(&given.token), scope(&given.token)),
                (signed.into(), wish.scope.to_string())
            );
            let claims = provider.verified(&given.token, audience).await;
            assert_eq!(claims.sub.as_deref(), Some("basic:1"), "the subject is kept");
        }
    }

    let calls = client.calls();
    let beyond = client.exchange(&subject, &request(SE_RSA, "storage.create:/elsewhere")).await.unwrap_err();
    assert!(matches!(beyond, TokenError::BeyondSubject { .. }));
    assert_eq!(client.calls(), calls, "nothing was sent");

    let wish = request(SE_RSA, "storage.read:/data");
    let forged = SigningKey::es256("ec").unwrap();
    let claims = subject.expose().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let forged = AccessToken::new(forged.sign(&claims).unwrap()).unwrap();
    assert_eq!(refused(client.exchange(&forged, &wish).await), (OAuthCode::InvalidGrant, 400));
    let nowhere = client.exchange(&subject, &request("https://unknown.example", "storage.read:/data")).await;
    assert_eq!(refused(nowhere), (OAuthCode::InvalidTarget, 400));
    let more = request(FTS, "fts storage.stage:/data");
    let more = provider.client("post").client_credentials(&more).await.unwrap().token;
    let not_its_scope = client.exchange(&more, &request(SE_RSA, "storage.stage:/data")).await;
    assert_eq!(refused(not_its_scope), (OAuthCode::InvalidScope, 400));
}
