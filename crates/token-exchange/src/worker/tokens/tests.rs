use token_core::retry::RetryPolicy;
use token_core::{ClientAuthentication, ClientSecret, Issuer, OAuthSettings, SystemClock};

use super::*;
use crate::plan::file::tests::unsigned;

pub(crate) fn client(issuer: &str) -> OAuthClient {
    let proof = ClientAuthentication::Basic(ClientSecret::new("s"));
    let once = RetryPolicy { total: Duration::ZERO, ..RetryPolicy::default() };
    let settings =
        OAuthSettings { retry: once, ..OAuthSettings::new(Issuer::new(issuer).unwrap(), "c", proof) };
    OAuthClient::new(settings, Arc::new(SystemClock), tokio_util::sync::CancellationToken::new()).unwrap()
}

fn token(iss: &str) -> AccessToken {
    unsigned(&format!(r#"{{"iss":"{iss}","sub":"s","exp":9,"aud":"a","scope":"storage.read:/"}}"#))
}

#[tokio::test]
async fn an_issuer_goes_by_the_name_that_its_own_token_has() {
    let known = IssuerClient::new(Mode::Exchange, client("https://i/"), Some(client("https://i")), 1);
    let keeper = TokenKeeper::new(None, Arc::new(SystemClock));
    let tokens = Tokens::new(vec![known], Lanes::new(1, &[1]), Arc::new(keeper), Duration::ZERO);
    // As FTS's table writes the issuer, with a slash.
    let name = async |token: &AccessToken| {
        let place = tokens.place("https://i/", token, Haste::Waits).await;
        place.unwrap().map(|place| place.client.issuer().to_string()).unwrap()
    };
    assert_eq!(name(&token("https://i")).await, "https://i", "right after a start");
    assert_eq!(name(&token("https://i/")).await, "https://i/");
    let opaque = AccessToken::new("opaque").unwrap();
    assert_eq!(name(&opaque).await, "https://i/", "as the last one");
    assert!(tokens.place("https://j/", &opaque, Haste::Waits).await.is_none());
}

#[test]
fn what_was_refused_to_a_token_that_has_ended_meanwhile_is_looked_at_again() {
    let ended = |token| Fetched::Ended { token, asked: true }.looked_at_again();
    let refused = ended(Token::Refused("invalid_grant".into()));
    assert!(
        matches!(refused, Fetched::Ended { token: Token::Wait(why), asked: true } if why == "invalid_grant")
    );
    assert!(matches!(Fetched::Closed.looked_at_again(), Fetched::Closed));
}
