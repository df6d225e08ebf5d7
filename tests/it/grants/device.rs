//! Device codes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_is_polled_until_it_is_approved() {
    let rig = rig().await;
    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(1)));
    let client = rig.client("device");
    let wish = request(STORAGE, "storage.read:/data offline_access");
    let device = client.device_authorization(&wish).await.unwrap();
    assert_eq!(device.interval, Duration::from_secs(1));
    assert!(device.verification_uri.as_str().starts_with(rig.issuer.name()));
    assert!(device.verification_uri_complete.as_ref().unwrap().as_str().contains(&device.user_code));
    assert!(!format!("{device:?}").contains("dc-"));
    let approve = async {
        let polled = async {
            while rig.issuer.token_calls().refused == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), polled).await.unwrap();
        assert!(rig.issuer.approve(&device.user_code, "alice"));
    };
    let (given, ()) = tokio::join!(client.device_token(&device), approve);
    let given = given.unwrap();
    let claims = Claims::peek(&given.grant.unwrap().token).unwrap();
    assert_eq!((claims.sub.as_deref(), claims.aud), (Some("alice"), vec![STORAGE.to_owned()]));
    let calls = rig.issuer.token_calls();
    assert_eq!((calls.refused, calls.device_code), (1, 1), "pending once, then approved");
    let again = client.refresh(&given.refresh.unwrap(), &request(STORAGE, "storage.read:/data/x")).await;
    assert!(again.unwrap().grant.is_ok());

    // A code is good once; without `offline_access` there is no refresh token; a key serves as well as a secret.
    assert_eq!(code(client.device_token(&device).await), OAuthCode::InvalidGrant);
    let key = AssertionKey::from_pem(&rig.keys[1].pem(), None).unwrap();
    let authentication = ClientAuthentication::PrivateKeyJwt(key);
    let client = rig.of(OAuthSettings { authentication, ..rig.settings("device-signer") });
    let device = client.device_authorization(&request(STORAGE, "storage.read:/data")).await.unwrap();
    assert!(rig.issuer.approve(&device.user_code, "bob"));
    let given = client.device_token(&device).await.unwrap();
    assert!(given.grant.is_ok() && given.refresh.is_none());
    assert_eq!(
        code(rig.client("submitter").device_authorization(&wish).await),
        OAuthCode::UnauthorizedClient
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_may_be_denied_end_or_be_given_up() {
    let rig = rig().await;
    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(1)));
    let wish = request(STORAGE, "storage.read:/data");
    let client = rig.client("device");
    let denied = client.device_authorization(&wish).await.unwrap();
    assert!(rig.issuer.deny(&denied.user_code));
    assert_eq!(code(client.device_token(&denied).await), OAuthCode::AccessDenied);

    rig.issuer.set_device_codes(Duration::from_secs(600), Some(Duration::from_secs(60)));
    let cancel = CancellationToken::new();
    let other = OAuthClient::new(rig.settings("device"), Arc::new(SystemClock), cancel.clone()).unwrap();
    let waiting = other.device_authorization(&wish).await.unwrap();
    let start = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (given_up, ()) = tokio::join!(other.device_token(&waiting), stop);
    assert!(matches!(given_up.unwrap_err(), TokenError::Unreachable { .. }));
    assert!(start.elapsed() < Duration::from_secs(30));

    rig.issuer.set_device_codes(Duration::from_secs(3), Some(Duration::from_secs(1)));
    let ends = client.device_authorization(&wish).await.unwrap();
    assert!(matches!(client.device_token(&ends).await.unwrap_err(), TokenError::DeviceExpired { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_client_that_is_told_to_slow_down_does() {
    let rig = rig().await;
    rig.issuer.set_device_codes(Duration::from_secs(60), Some(Duration::from_secs(4)));
    let client = rig.client("device");
    let device = client.device_authorization(&request(STORAGE, "storage.read:/data")).await.unwrap();
    let start = Instant::now();
    // Another process polls at 4 s, so that our poll at 6 s comes too early.
    let other = rig.client("device");
    let once = tokio::time::timeout(Duration::from_millis(6800), other.device_token(&device));
    let ours = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        client.device_token(&device).await
    };
    let approve = async {
        tokio::time::sleep(Duration::from_millis(7200)).await;
        assert!(rig.issuer.approve(&device.user_code, "alice"));
    };
    let (once, given, ()) = tokio::join!(once, ours, approve);
    assert!(once.is_err() && given.unwrap().grant.is_ok());
    let took = start.elapsed();
    assert!(took > Duration::from_millis(14_900) && took < Duration::from_secs(30), "{took:?}");
    assert_eq!((rig.issuer.token_calls().refused, rig.issuer.token_calls().device_code), (2, 1));
}
