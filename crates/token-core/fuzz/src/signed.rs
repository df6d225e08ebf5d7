//! An issuer for fuzzing: keys of which only the public half is left, and tokens that were signed with the other half.

use std::sync::LazyLock;

use serde_json::Value;
use token_core::{KeySet, Policy, Profile, UnixSeconds, verify};

/// The time in all targets; that of the test vectors.
pub const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
/// The issuer that is trusted.
pub const ISSUER: &str = "https://issuer.example";
/// The audience that is ours.
pub const AUDIENCE: &str = "https://se.example";

static FILE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../signed.json")).expect("signed.json is JSON"));

/// The keys, as JSON.
pub fn jwks() -> &'static Value {
    &FILE["keys"]
}

/// The keys.
pub fn keys() -> &'static KeySet {
    static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
        let keys = KeySet::parse(jwks().to_string().as_bytes()).expect("signed.json holds a JWKS");
        // Were these refused, nothing behind the signature would be reached.
        for token in tokens() {
            verify(token, &keys, &policy(Profile::V1_0), NOW).expect("signed.json holds tokens that pass");
        }
        keys
    });
    &KEYS
}

/// One token for each key.
pub fn tokens() -> impl Iterator<Item = &'static str> {
    FILE["tokens"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What a token must be here.
pub fn policy(profile: Profile) -> Policy {
    Policy { profile, any_audience: true, ..Policy::new(ISSUER, vec![AUDIENCE.into()]) }
}
