//! Values sealed at rest: AES-256-GCM, a random nonce, and the name of the entry as associated data, so that a value can't
//! be moved to another entry.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::CacheError;
use crate::hash::random;

/// Goes into every seal; another format would carry another number.
pub(super) const FORMAT: &[u8] = b"token-conveyor cache 1\0";

/// One key: what it seals, and under which names.
pub(super) struct Seal {
    aead: LessSafeKey,
    names: hmac::Key,
}

impl Seal {
    /// From 64 hex digits.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut key = Zeroizing::new([0_u8; 32]);
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        // One key for sealing and one for naming, both from the key in the file.
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
        let aead = UnboundKey::new(&AES_256_GCM, hmac::sign(&root, b"seal").as_ref()).ok()?;
        let names = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"name").as_ref());
        Some(Self { aead: LessSafeKey::new(aead), names })
    }

    /// The name of an entry on disk; says nothing of what it is for.
    pub(super) fn name(&self, key: &[u8]) -> Vec<u8> {
        hmac::sign(&self.names, key).as_ref().to_vec()
    }

    pub(super) fn seal(&self, name: &[u8], value: &[u8]) -> Result<Vec<u8>, CacheError> {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = value.to_vec();
        self.aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(name), &mut sealed)
            .map_err(|_| CacheError::Seal)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// `None` when the value was not sealed with this key and under this name.
    pub(super) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self.aead.open_in_place(nonce, aad(name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

fn aad(name: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([FORMAT, name].concat())
}
