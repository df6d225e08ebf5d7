//! Refresh tokens: oidc-provider's own rotation and reuse detection.

use super::*;

impl Provider {
    /// A refresh token of the client `exchanger`, for reading and changing `/data`.
    async fn refresh_token(&self) -> RefreshToken {
        let wish = request(SE_EC, "storage.read:/data storage.modify:/data");
        let given =
            self.client("exchanger").exchange_for_refresh(&self.subject().await, &wish).await.unwrap();
        let token = given.grant.unwrap().token;
        assert_eq!(self.verified(&token, SE_EC).await.scopes().unwrap(), wish.scope);
        given.refresh.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_rotates_and_may_narrow() {
    let Some(provider) = Provider::start().await else { return };
    let (client, mut refresh) = (provider.client("exchanger"), provider.refresh_token().await);
    for wanted in ["storage.read:/data", "storage.modify:/data storage.read:/data"] {
        let wish = request(SE_EC, wanted);
        let given = client.refresh(&refresh, &wish).await.unwrap();
        let token = given.grant.unwrap().token;
        let claims = provider.verified(&token, SE_EC).await;
        assert_eq!((claims.scopes().unwrap(), claims.sub.as_deref()), (wish.scope, Some("basic:1")));
        let next = given.refresh.unwrap();
        assert_ne!(refresh, next);
        refresh = next;
    }
    // It compares scopes as words, so a path below is beyond the refresh token; a refusal rotates nothing.
    for beyond in ["storage.create:/data", "storage.read:/data/a"] {
        let outcome = client.refresh(&refresh, &request(SE_EC, beyond)).await;
        assert!(outcome.as_ref().unwrap_err().is_definite());
        assert_eq!(refused(outcome), (OAuthCode::InvalidScope, 400));
    }
    let elsewhere = client.refresh(&refresh, &request(SE_RSA, "storage.read:/data")).await;
    assert_eq!(refused(elsewhere), (OAuthCode::InvalidTarget, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_was_used_ends_the_whole_chain() {
    let Some(provider) = Provider::start().await else { return };
    let (client, first) = (provider.client("exchanger"), provider.refresh_token().await);
    let wish = request(SE_EC, "storage.read:/data");
    let invalid = (OAuthCode::InvalidGrant, 400);
    assert_eq!(refused(provider.client("device").refresh(&first, &wish).await), invalid, "another's");
    let second = client.refresh(&first, &wish).await.unwrap().refresh.unwrap();
    let used = client.refresh(&first, &wish).await;
    assert!(used.as_ref().unwrap_err().is_definite());
    assert_eq!(refused(used), invalid);
    // RFC 9700 section 4.14.2: why no refresh is ever repeated blindly.
    assert_eq!(refused(client.refresh(&second, &wish).await), invalid);
    let unknown = RefreshToken::new("never-given".to_owned()).unwrap();
    assert_eq!(refused(client.refresh(&unknown, &wish).await), invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_grant_gets_no_refresh_token() {
    let Some(provider) = Provider::start().await else { return };
    let wish = request(SE_EC, "storage.read:/data");
    let own = provider.client("basic:1");
    let outcome = own.exchange_for_refresh(&provider.subject().await, &wish).await;
    assert_eq!(refused(outcome), (OAuthCode::AccessDenied, 400));
}
