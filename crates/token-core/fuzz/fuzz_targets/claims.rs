//! Claims as JSON, signed here: checking the whole token comes to the same as looking at the claims and then checking those, and
//! nothing passes that breaks a rule which can be said in one line.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use token_core::{ANY_AUDIENCE, AccessToken, Claims, KeySet, Policy, Profile, VerifyError, check, verify};
use token_core_fuzz::signed::{AUDIENCE, ISSUER, NOW, policy};

struct Signer {
    pair: EcdsaKeyPair,
    keys: KeySet,
}

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]});
    Signer { pair, keys: KeySet::parse(keys.to_string().as_bytes()).expect("a JWKS") }
});

fuzz_target!(|claims: &[u8]| {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", part(br#"{"alg":"ES256","kid":"k"}"#), part(claims));
    let peek = |signature: &[u8]| {
        let token = AccessToken::new(format!("{signed}.{}", part(signature))).ok()?;
        Some((Claims::peek(&token), token))
    };
    let Some((Ok(seen), _)) = peek(b"none") else { return };
    assert!(serde_json::from_slice::<Value>(claims).is_ok_and(|json| json.is_object()));

    let signature = SIGNER.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
    let Some((Ok(again), token)) = peek(signature.as_ref()) else {
        panic!("the signature makes a difference")
    };
    assert_eq!(seen, again);
    let profile = Profile::ALL[claims.len() % Profile::ALL.len()];
    let outcome = verify(token.expose(), &SIGNER.keys, &policy(profile), NOW);
    if outcome == Err(VerifyError::TooLong) {
        return;
    }
    assert_eq!(outcome, check(&seen, &policy(profile), NOW).map(|()| seen.clone()));

    for profile in Profile::ALL {
        let strict = check(&seen, &policy(profile), NOW);
        if strict.is_ok() {
            assert_eq!(seen.iss, ISSUER);
            assert!(seen.aud.iter().any(|aud| aud == AUDIENCE || aud == ANY_AUDIENCE));
            assert!(seen.exp > NOW || (profile == Profile::V1_0 && seen.exp.0 > NOW.0 - 60));
            assert!(seen.nbf.is_none_or(|nbf| nbf <= NOW));
            assert!(seen.sub.is_some() && seen.iat.is_some() && seen.jti.is_some());
            assert!(seen.version.as_deref().is_some_and(|version| version.starts_with("1.")));
            let capable = seen.scopes().expect("a scope that passed").has_capability();
            assert!(!capable || seen.effective_groups() == Ok(&[]));
            let lenient = Policy { lenient: true, ..policy(profile) };
            assert_eq!(check(&seen, &lenient, NOW), Ok(()));
        }
    }
});
