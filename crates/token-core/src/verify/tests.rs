use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::scope::ScopeError;

const NOW: UnixSeconds = UnixSeconds(1_000_000);

fn key() -> EncodingKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
}

fn jwk(key: &EncodingKey, algorithm: Algorithm) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some("k".into());
    serde_json::to_value(jwk).unwrap()
}

fn keys(key: &EncodingKey) -> KeySet {
    KeySet::parse(json!({"keys": [jwk(key, Algorithm::ES256)]}).to_string().as_bytes()).unwrap()
}

fn policy() -> Policy {
    Policy { skew_s: 60, ..Policy::new("https://i", vec!["a".into()]) }
}

fn outcome(change: impl Fn(&mut Value, &mut Header)) -> Result<Claims, VerifyError> {
    let key = key();
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k".into());
    let mut claims = json!({"iss": "https://i", "aud": "a", "exp": NOW.0 + 10, "nbf": NOW.0 - 10, "iat": NOW.0,
        "wlcg.ver": "1.0", "sub": "s", "jti": "j", "scope": "storage.read:/"});
    change(&mut claims, &mut header);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    verify(&token, &keys(&key), &policy(), NOW)
}

#[test]
fn a_sound_token_passes_and_each_rule_is_named() {
    assert!(outcome(|_, _| ()).is_ok());
    let bad = |change: fn(&mut Value, &mut Header)| outcome(change).unwrap_err();
    assert_eq!(bad(|c, _| c["iss"] = json!("https://i/")), VerifyError::Issuer);
    assert_eq!(bad(|c, _| c["aud"] = json!(["b", ANY_AUDIENCE])), VerifyError::Audience);
    assert_eq!(
        bad(|c, _| {
            c.as_object_mut().unwrap().remove("aud");
        }),
        VerifyError::Claims(ClaimsError::Missing("aud"))
    );
    assert_eq!(bad(|c, _| c["exp"] = json!(NOW.0)), VerifyError::Expired);
    assert_eq!(bad(|c, _| c["nbf"] = json!(NOW.0 + 61)), VerifyError::NotYet);
    assert_eq!(bad(|c, _| c["wlcg.ver"] = json!("2.0")), VerifyError::Version);
    assert!(outcome(|c, _| c["wlcg.ver"] = json!("1.7")).is_ok());
    assert_eq!(
        bad(|c, _| c["scope"] = json!("storage.read")),
        VerifyError::Claims(ClaimsError::Scope(ScopeError::NoPath("storage.read")))
    );
    assert_eq!(bad(|_, h| h.kid = Some("other".into())), VerifyError::UnknownKey);
    assert_eq!(bad(|_, h| h.kid = None), VerifyError::NoKeyId);
    assert_eq!(bad(|_, h| h.typ = Some("JWE".into())), VerifyError::Type);
    assert_eq!(bad(|_, h| h.crit = Some(vec!["x".into()])), VerifyError::Critical);
}

#[test]
fn a_key_is_used_for_what_it_is_for_and_the_others_of_its_set_do_no_harm() {
    let (key, other) = (key(), key());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k".into());
    let claims = json!({"iss": "https://i", "aud": "a", "exp": NOW.0 + 10, "iat": NOW.0, "wlcg.ver": "1.0",
        "sub": "s", "jti": "j", "scope": "storage.read:/"});
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let with = |own: Value| {
        let strange = json!({"kty": "AKP", "alg": "ML-DSA-65", "kid": "k", "pub": "AA"});
        let curve = json!({"kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AA", "y": "AA"});
        let keys = json!({"keys": [strange, curve, 7, jwk(&other, Algorithm::ES256), own]});
        verify(&token, &KeySet::parse(keys.to_string().as_bytes()).unwrap(), &policy(), NOW)
    };
    let changed = |name: &str, value: Value| {
        let mut own = jwk(&key, Algorithm::ES256);
        own[name] = value;
        own
    };
    for own in [("alg", json!("ES256")), ("use", json!("sig")), ("key_ops", json!(["verify"]))] {
        assert!(with(changed(own.0, own.1)).is_ok(), "after one of the same id, and strange ones");
    }
    for own in [("alg", json!("ES384")), ("use", json!("enc")), ("key_ops", json!(["encrypt"]))] {
        assert_eq!(with(changed(own.0, own.1)).unwrap_err(), VerifyError::Signature);
    }
}

#[test]
fn eddsa_passes_by_choice_only() {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("k".into());
    let claims = json!({"iss": "https://i", "aud": "a", "exp": NOW.0 + 10, "iat": NOW.0, "wlcg.ver": "1.0",
        "sub": "s", "jti": "j", "scope": "storage.read:/"});
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]}).to_string();
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    let choice = |eddsa| verify(&token, &keys, &Policy { eddsa, ..policy() }, NOW);
    assert_eq!(choice(false).unwrap_err(), VerifyError::Algorithm);
    assert!(choice(true).is_ok());
    let forged = format!("{}A{}", &token[..token.len() - 8], &token[token.len() - 7..]);
    assert_eq!(
        verify(&forged, &keys, &Policy { eddsa: true, ..policy() }, NOW).unwrap_err(),
        VerifyError::Signature
    );
}

#[test]
fn another_key_of_the_same_id_does_not_pass() {
    let (signer, published) = (key(), key());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k".into());
    let token = jsonwebtoken::encode(&header, &json!({"iss": "https://i", "exp": 1}), &signer).unwrap();
    assert_eq!(verify(&token, &keys(&published), &policy(), NOW).unwrap_err(), VerifyError::Signature);
    header.alg = Algorithm::HS256;
    let mac = EncodingKey::from_secret(b"k");
    let token = jsonwebtoken::encode(&header, &json!({"iss": "https://i", "exp": 1}), &mac).unwrap();
    assert_eq!(verify(&token, &keys(&published), &policy(), NOW).unwrap_err(), VerifyError::Algorithm);
    assert_eq!(
        verify("x", &keys(&published), &policy(), NOW).unwrap_err(),
        VerifyError::Claims(ClaimsError::Unreadable)
    );
}
