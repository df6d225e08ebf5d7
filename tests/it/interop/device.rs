//! Device codes, approved, denied and left alone on oidc-provider's own pages. It names no interval, so a poll comes every 5 s
//! (RFC 8628 section 3.2).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_a_device_code() {
    let Some(provider) = Provider::start().await else { return };
    let client = provider.client("device");
    let wish = request(SE_EC, "storage.read:/data storage.modify:/data/a offline_access");
    let device = client.device_authorization(&wish).await.unwrap();
    assert_eq!(device.interval, Duration::from_secs(5));
    let address = device.verification_uri_complete.clone().unwrap();
    assert!(address.as_str().starts_with(device.verification_uri.as_str()));
    let person = async {
        // The authorization was one call; the next is a poll, and it finds nothing yet.
        let polled = async {
            while client.calls() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), polled).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let page = provider.browser().approve(&address, "alice").await;
        assert!(page.status.is_success() && page.text.contains("Sign-in Success"), "{}", page.text);
    };
    let (given, ()) = tokio::join!(client.device_token(&device), person);
    let given = given.unwrap();
    assert!((3..=5).contains(&client.calls()), "one poll before, and one after: {}", client.calls());
    let token = given.grant.unwrap().token;
    let claims = provider.verified(&token, SE_EC).await;
    assert_eq!(claims.sub.as_deref(), Some("alice"));
    assert_eq!(scope(&token), "storage.read:/data storage.modify:/data/a");

    let narrow = request(SE_EC, "storage.read:/data");
    let again = client.refresh(&given.refresh.unwrap(), &narrow).await.unwrap();
    assert_eq!(scope(&again.grant.unwrap().token), "storage.read:/data");
    assert!(again.refresh.is_some());
    assert_eq!(refused(client.device_token(&device).await), (OAuthCode::InvalidGrant, 400), "good once");
}

/// A public client (RFC 6749 section 2.1) has no secret; its refresh tokens rotate.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_secret_is_approved_too() {
    let Some(provider) = Provider::start().await else { return };
    let public = OAuthSettings { authentication: ClientAuthentication::Public, ..provider.settings("phone") };
    let client = provider.of(public, Arc::new(SystemClock));
    let wish = request(SE_EC, "storage.read:/data offline_access");
    let device = client.device_authorization(&wish).await.unwrap();
    let page = provider.browser().approve(&device.verification_uri_complete.clone().unwrap(), "bob").await;
    assert!(page.status.is_success(), "{}", page.text);
    let given = client.device_token(&device).await.unwrap();
    assert_eq!(provider.verified(&given.grant.unwrap().token, SE_EC).await.sub.as_deref(), Some("bob"));
    let first = given.refresh.unwrap();
    let again = client.refresh(&first, &request(SE_EC, "storage.read:/data")).await.unwrap();
    assert!(again.grant.is_ok() && again.refresh.is_some_and(|second| second != first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_denies_a_device_code() {
    let Some(provider) = Provider::start().await else { return };
    let client = provider.client("device");
    let device = client.device_authorization(&request(SE_RSA, "storage.read:/data")).await.unwrap();
    let address = device.verification_uri_complete.clone().unwrap();
    let page = provider.browser().deny(&address).await;
    assert!(page.text.contains("The Sign-in request was interrupted"), "{}", page.text);
    let outcome = client.device_token(&device).await;
    assert!(outcome.as_ref().unwrap_err().is_definite());
    assert_eq!(refused(outcome), (OAuthCode::AccessDenied, 400));
}

/// Our clock stands still, so that it is the server which says that the code has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_ends_by_the_servers_clock() {
    let Some(provider) = Provider::start().await else { return };
    let clock = Arc::new(ManualClock::new(UnixSeconds(1_800_000_000)));
    let client = provider.of(provider.settings("hasty"), clock);
    let device = client.device_authorization(&request(SE_RSA, "storage.read:/data")).await.unwrap();
    assert_eq!(device.expires_at, UnixSeconds(1_800_000_002));
    let outcome = client.device_token(&device).await.unwrap_err();
    assert!(matches!(outcome, TokenError::DeviceExpired { .. }), "{outcome}");
    assert_eq!(client.calls(), 2, "the server was asked");
}
