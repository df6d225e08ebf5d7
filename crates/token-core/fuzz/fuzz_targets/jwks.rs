//! An issuer's keys: a token passes by none but the key it was signed with.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use token_core::{KeySet, Profile, verify};
use token_core_fuzz::signed;

/// The numbers by which a key is known: an RSA key's modulus, the first coordinate of a point.
fn numbers(jwks: &Value) -> Vec<Vec<u8>> {
    let keys = jwks["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = keys.iter().flat_map(|key| [&key["n"], &key["x"]]).filter_map(Value::as_str);
    let bytes = texts.filter_map(|text| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect()).collect()
}

fuzz_target!(|document: &[u8]| {
    let Ok(keys) = KeySet::parse(document) else { return };
    assert!(!format!("{keys:?}").is_empty());
    for (token, real) in signed::tokens().zip(numbers(signed::jwks())) {
        if verify(token, &keys, &signed::policy(Profile::V1_3), signed::NOW).is_ok() {
            // serde_json does not look closely at what nobody reads: a half of a surrogate pair there, or a number out of range.
            let Ok(document) = serde_json::from_slice(document) else { return };
            assert!(numbers(&document).contains(&real), "passed by a key it was not signed with");
        }
    }
});
