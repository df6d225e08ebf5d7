//! The questions: a token, a right, a path, and what the profile answers. Sections are those of the profile, 1.1 and later.

use serde_json::{Value, json};
use testbed::issuer::Issuer;
use testbed::mint::SigningKey;
use token_core::{Clock as _, SystemClock};

use crate::answer::Answer;
use crate::answer::Answer::{Accepts, Refuses};
use crate::forge::{EC, Forge, RSA, SE, signing_input};

pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) section: &'static str,
    /// The issuer that the resource trusts.
    pub(crate) issuer: String,
    pub(crate) token: String,
    /// The right that is asked for, by the name of its scope.
    pub(crate) authz: &'static str,
    pub(crate) path: &'static str,
    pub(crate) right: Answer,
}

/// All cases; no two have the same id.
pub(crate) fn cases(forge: &Forge, grid: &Issuer) -> Vec<Case> {
    let mut all: Vec<Case> = believed(forge, grid)
        .into_iter()
        .chain(headers(forge))
        .map(|(id, section, right, token)| {
            let issuer = if id.starts_with("grid-") { grid.name() } else { &forge.name };
            let (issuer, authz, path) = (issuer.to_owned(), "storage.read", "/data/file");
            Case { id, section, issuer, token, authz, path, right }
        })
        .collect();
    all.extend(SCOPES.iter().map(|&(id, section, scope, authz, path, right)| {
        let token = forge.token(&json!({"scope": scope}));
        Case { id, section, issuer: forge.name.clone(), token, authz, path, right }
    }));
    all
}

type Token = (&'static str, &'static str, Answer, String);

/// Claims. Each is asked whether it gives reading of `/data/file`.
fn believed(forge: &Forge, grid: &Issuer) -> Vec<Token> {
    let now = SystemClock.now().0;
    let read = json!({"aud": SE, "scope": "storage.read:/data", "iat": now - 60, "nbf": now - 60});
    let granted = || grid.mint(read.clone()).unwrap().expose().to_owned();
    let of = |id, section, right, changes: Value| (id, section, right, forge.token(&changes));
    let without_slash = forge.name.trim_end_matches('/');
    vec![
        // The grid's issuer signs with one key and the other in turn.
        ("grid-first", "4.2.1", Accepts, granted()),
        ("grid-second", "4.2.1", Accepts, granted()),
        of("rs256", "4.2.1", Accepts, json!({})),
        ("es256", "4.2.1", Accepts, forge.token_es256(&json!({}))),
        of("other-issuer", "2.1.1", Refuses, json!({"iss": grid.name()})),
        ("other-issuer-own-key", "2.1.1", Refuses, granted()),
        of("issuer-without-slash", "2.1.1", Refuses, json!({"iss": without_slash})),
        of("aud-list", "2.1.1", Accepts, json!({"aud": ["https://other.example", SE]})),
        of("aud-any", "2.1.1", Accepts, json!({"aud": token_core::ANY_AUDIENCE})),
        of("aud-any-in-list", "2.1.1", Accepts, json!({"aud": ["x", token_core::ANY_AUDIENCE]})),
        of("aud-any-of-scitokens", "2.1.1", Refuses, json!({"aud": "ANY"})),
        of("aud-wrong", "2.1.1", Refuses, json!({"aud": "https://other.example"})),
        of("aud-slash", "2.1.1", Refuses, json!({"aud": format!("{SE}/")})),
        of("aud-port", "2.1.1", Refuses, json!({"aud": format!("{SE}:443")})),
        of("aud-missing", "2.1.1", Refuses, json!({"aud": null})),
        of("aud-empty", "2.1.1", Refuses, json!({"aud": []})),
        of("expired", "2.1.1", Refuses, json!({"iat": now - 7200, "nbf": now - 7200, "exp": now - 120})),
        of("exp-missing", "2.1.1", Refuses, json!({"exp": null})),
        of("exp-text", "2.1.1", Refuses, json!({"exp": (now + 3600).to_string()})),
        of("nbf-future", "2.1.1", Refuses, json!({"nbf": now + 600})),
        of("nbf-missing", "2.1.1", Accepts, json!({"nbf": null})),
        of("scope-missing", "2.2", Refuses, json!({"scope": null})),
        of("scope-array", "2.2.1", Refuses, json!({"scope": ["storage.read:/data"]})),
        of("ver-1.1", "2.1.1", Accepts, json!({"wlcg.ver": "1.1"})),
        of("ver-1.2", "2.1.1", Accepts, json!({"wlcg.ver": "1.2"})),
        of("ver-1.3", "2.1.1", Accepts, json!({"wlcg.ver": "1.3"})),
        of("ver-1.99", "2.1.1", Accepts, json!({"wlcg.ver": "1.99"})),
        of("ver-2.0", "2.1.1", Refuses, json!({"wlcg.ver": "2.0"})),
        of("ver-malformed", "2.1.1", Refuses, json!({"wlcg.ver": "1"})),
        of("ver-number", "2.1.1", Refuses, json!({"wlcg.ver": 1.0})),
        of("ver-missing", "2.1.1", Refuses, json!({"wlcg.ver": null})),
        of("groups", "3.1", Accepts, json!({"wlcg.groups": ["/dteam"]})),
    ]
}

/// Headers and signatures. Each is asked as above.
fn headers(forge: &Forge) -> Vec<Token> {
    let of = |id, section, right, header: Value| (id, section, right, forge.under(&header));
    let good = forge.token(&json!({}));
    let signature = good.rsplit_once('.').unwrap().1;
    let more = signing_input(&json!({"alg": "RS256", "kid": RSA}), &forge.claims(&json!({"sub": "root"})));
    let none = signing_input(&json!({"alg": "none", "kid": RSA}), &forge.claims(&json!({})));
    let stranger = SigningKey::rs256(RSA).unwrap().sign(&forge.claims(&json!({}))).unwrap();
    let unknown = SigningKey::rs256("unknown").unwrap().sign(&forge.claims(&json!({}))).unwrap();
    let pem = forge.public_pem();
    vec![
        of("typ-none", "4.2.1", Accepts, json!({"alg": "RS256", "kid": RSA})),
        of("typ-at-jwt", "4.2.1", Accepts, json!({"alg": "RS256", "kid": RSA, "typ": "at+jwt"})),
        of("kid-missing", "4.2.1", Refuses, json!({"alg": "RS256"})),
        of("kid-of-other-key", "4.2.1", Refuses, json!({"alg": "RS256", "kid": EC})),
        of("alg-of-other-key", "4.2.1", Refuses, json!({"alg": "ES256", "kid": EC})),
        of("crit", "RFC 7515 4.1.11", Refuses, json!({"alg": "RS256", "kid": RSA, "crit": ["x"], "x": 1})),
        ("kid-unknown", "4.2.1", Refuses, unknown),
        ("signed-by-stranger", "4.2.1", Refuses, stranger),
        ("claims-changed", "4.2.1", Refuses, format!("{more}.{signature}")),
        ("alg-none", "4.2.1", Refuses, format!("{none}.")),
        ("alg-none-signed", "4.2.1", Refuses, format!("{none}.{signature}")),
        ("hmac-of-pem", "4.2.1", Refuses, forge.confused(pem.as_bytes())),
        ("hmac-of-pem-trimmed", "4.2.1", Refuses, forge.confused(pem.trim_end().as_bytes())),
    ]
}

type Scope = (&'static str, &'static str, &'static str, &'static str, &'static str, Answer);

/// Scopes: id, section, scope, right, path, answer.
const SCOPES: &[Scope] = &[
    ("read-exact", "2.2.1", "storage.read:/data/file", "storage.read", "/data/file", Accepts),
    ("read-deep", "2.2.1", "storage.read:/data", "storage.read", "/data/a/b/c", Accepts),
    ("read-root", "2.2.1", "storage.read:/", "storage.read", "/data/file", Accepts),
    ("read-above", "2.2.1", "storage.read:/data/file", "storage.read", "/data", Refuses),
    ("read-sibling", "2.2.1", "storage.read:/data", "storage.read", "/other/file", Refuses),
    ("boundary", "2.2.1", "storage.read:/data", "storage.read", "/database", Refuses),
    ("boundary-below", "2.2.1", "storage.read:/data", "storage.read", "/database/file", Refuses),
    ("case-of-path", "2.2.1", "storage.read:/data", "storage.read", "/Data/file", Refuses),
    ("case-of-scope", "2.2.1", "Storage.Read:/data", "storage.read", "/data/file", Refuses),
    (
        "second-of-three",
        "2.2.1",
        "storage.read:/a storage.read:/data openid",
        "storage.read",
        "/data/x",
        Accepts,
    ),
    ("unknown-beside", "2.2.1", "openid x.y:/z storage.read:/data", "storage.read", "/data/x", Accepts),
    ("only-unknown", "2.2.1", "openid fts", "storage.read", "/data/x", Refuses),
    ("slash-below", "2.2.1", "storage.read:/data/", "storage.read", "/data/file", Accepts),
    ("slash-file", "2.2.1", "storage.read:/data/", "storage.read", "/data", Refuses),
    ("path-missing", "2.2.1", "storage.read", "storage.read", "/data/file", Refuses),
    ("path-empty", "2.2.1", "storage.read:", "storage.read", "/data/file", Refuses),
    (
        "path-missing-of-other",
        "2.2.1",
        "storage.modify storage.read:/data",
        "storage.read",
        "/data/x",
        Refuses,
    ),
    ("dots-in-request", "2.2.1", "storage.read:/data", "storage.read", "/data/../other", Refuses),
    ("dots-in-scope", "2.2.1", "storage.read:/data/../other", "storage.read", "/data/file", Refuses),
    ("dots-over-root", "2.2.1", "storage.read:/..", "storage.read", "/data/file", Refuses),
    ("dots-far-over-root", "2.2.1", "storage.read:/data/../../other", "storage.read", "/data/x", Refuses),
    ("dots-encoded", "2.2.1", "storage.read:/data/%2e%2e/other", "storage.read", "/data/file", Refuses),
    ("escape", "2.2.1", "storage.read:/a%20b", "storage.read", "/a b/file", Accepts),
    ("escaped-slash", "2.2.1", "storage.read:/data%2Fa", "storage.read", "/data/a/file", Refuses),
    ("create", "2.2.1", "storage.create:/data", "storage.create", "/data/file", Accepts),
    ("create-is-no-modify", "2.2.1", "storage.create:/data", "storage.modify", "/data/file", Refuses),
    ("create-is-no-read", "2.2.1", "storage.create:/data", "storage.read", "/data/file", Refuses),
    ("create-boundary", "2.2.1", "storage.create:/data", "storage.create", "/database", Refuses),
    ("modify", "2.2.1", "storage.modify:/data", "storage.modify", "/data/file", Accepts),
    ("modify-is-create", "2.2.1", "storage.modify:/data", "storage.create", "/data/file", Accepts),
    ("modify-is-no-read", "2.2.1", "storage.modify:/data", "storage.read", "/data/file", Refuses),
    ("read-is-no-create", "2.2.1", "storage.read:/data", "storage.create", "/data/file", Refuses),
    ("stage", "2.2.1", "storage.stage:/data", "storage.stage", "/data/file", Accepts),
    ("stage-is-no-read", "2.2.1", "storage.stage:/data", "storage.read", "/data/file", Refuses),
];
