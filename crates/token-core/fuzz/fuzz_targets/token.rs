//! A token as it comes: nothing passes but what was signed, and what passes says what a look without checks says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_core::{AccessToken, Claims, Profile, verify};
use token_core_fuzz::signed;

fuzz_target!(|text: &str| {
    let peeked = AccessToken::new(text).ok().map(|token| Claims::peek(&token));
    for profile in Profile::ALL {
        let Ok(claims) = verify(text, signed::keys(), &signed::policy(profile), signed::NOW) else {
            continue;
        };
        let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert!(signed::tokens().any(|token| signed(token) == signed(text)), "not signed by the issuer");
        assert_eq!(peeked, Some(Ok(claims)));
    }
});
