//! Hashes, random bytes and hex, all from aws-lc-rs.

use aws_lc_rs::{digest, rand};

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `N` random bytes.
///
/// # Panics
/// If the operating system has no randomness to give; nothing safe can be done then.
#[expect(clippy::expect_used, reason = "without randomness no key or nonce may be made")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Hex of 16 random bytes: the owner of a lease, the id of a database row.
pub fn random_hex() -> String {
    hex(&random::<16>())
}

/// First 16 hex digits of the SHA-1 of `text`, which is how FTS names a token (`t_token.token_id`).
pub(crate) fn sha1_16(text: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hex(&digest.as_ref()[..8])
}
