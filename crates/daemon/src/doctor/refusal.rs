//! What it means that no token came.

use token_core::{OAuthCode, TokenError};

use super::finding::Finding;

const CHECK: &str = "token";

/// Why no token came, and what to do. `client` is its id and where its secret or key is from, in words.
pub fn of_refusal(of: &str, error: &TokenError, client: (&str, &str)) -> Finding {
    let (id, proof) = client;
    let bad = |todo: String| Finding::bad(of, CHECK, error.to_string(), todo);
    match error {
        TokenError::Refused { code, .. } => match code {
            OAuthCode::InvalidClient => bad(format!(
                "the issuer does not know client `{id}`, or its secret is wrong or has ended: compare {proof} with the issuer"
            )),
            OAuthCode::InvalidScope => {
                bad(format!("register the scopes for client `{id}` at the issuer, or ask for less"))
            }
            OAuthCode::UnauthorizedClient | OAuthCode::UnsupportedGrantType => {
                bad(format!("let the issuer's operators enable this grant for client `{id}`"))
            }
            OAuthCode::AccessDenied => bad(format!(
                "a policy of the issuer forbids this to client `{id}`: at INDIGO IAM, see the exchange policies and scope policies"
            )),
            OAuthCode::InvalidTarget => {
                bad("let the issuer serve this audience, or ask for it as it is registered there".into())
            }
            OAuthCode::InvalidGrant | OAuthCode::InvalidToken => {
                bad("the subject token has ended, was revoked, or is another issuer's: take a fresh one"
                    .into())
            }
            _ => bad(format!("see the issuer's log, and whether client `{id}` may use this grant")),
        },
        TokenError::BeyondSubject { missing, .. } => bad(format!(
            "let the submitter ask for `{missing}` too (conveyor: `[fts] scope`). Whether the issuer would widen a token \
             (upscoping) is not tried: INDIGO IAM shuts that off"
        )),
        TokenError::Unsigned { .. } => bad(format!("see the key of client `{id}`: {proof}")),
        TokenError::Mismatch { .. } | TokenError::NoEndpoint { .. } => {
            bad("the lines about the issuer say more".into())
        }
        _ => Finding::passing(of, CHECK, error.to_string(), "is the issuer up? Look again"),
    }
}

#[cfg(test)]
mod tests {
    use token_core::ScopeSet;

    use super::*;

    #[test]
    fn a_refusal_is_to_be_mended_and_an_issuer_that_is_away_may_come_back() {
        let refused = |code| {
            let error = TokenError::Refused {
                issuer: "i".into(),
                call: "token exchange",
                code,
                status: 400,
                description: String::new(),
            };
            of_refusal("i", &error, ("c", "/f"))
        };
        let wrong = refused(OAuthCode::InvalidClient);
        assert!(!wrong.may_pass && wrong.todo.unwrap().contains("compare /f"));
        assert!(refused(OAuthCode::UnauthorizedClient).todo.unwrap().contains("enable this grant"));
        assert!(refused(OAuthCode::AccessDenied).todo.unwrap().contains("policy"));
        let missing = ScopeSet::parse("storage.read:/").unwrap();
        let beyond = of_refusal("i", &TokenError::BeyondSubject { issuer: "i".into(), missing }, ("c", "/f"));
        assert!(beyond.todo.unwrap().contains("upscoping"));
        let away =
            TokenError::Unreachable { issuer: "i".into(), call: "discovery", reason: "no answer in time" };
        assert!(of_refusal("i", &away, ("c", "/f")).may_pass);
    }
}
