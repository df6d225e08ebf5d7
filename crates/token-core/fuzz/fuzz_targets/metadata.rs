//! An issuer's metadata: nothing of another issuer, and no endpoint to which a secret would travel in the clear.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use token_core::{Issuer, IssuerMetadata};
use token_core_fuzz::signed::ISSUER;

static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| {
    [ISSUER, "http://127.0.0.1:8080/"].map(|name| Issuer::on_loopback(name).expect("an issuer"))
});

fuzz_target!(|document: &[u8]| {
    for issuer in ISSUERS.iter() {
        let Ok(metadata) = IssuerMetadata::parse(document, issuer) else { continue };
        assert_eq!(metadata.issuer, issuer.as_str());
        let device = metadata.device_authorization_endpoint.as_ref();
        for url in [Some(&metadata.token_endpoint), Some(&metadata.jwks_uri), device].into_iter().flatten() {
            let host = url.host_str().unwrap_or("");
            let plain = issuer.as_str().starts_with("http:");
            let loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
            assert!(url.scheme() == "https" || (plain && url.scheme() == "http" && loopback), "{url}");
        }
    }
});
