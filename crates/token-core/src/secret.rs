//! Secrets as types: no `Display`, no `Serialize`, `Debug` redacted, wiped on drop.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::hash::sha1_16;
use crate::private_file::Draft;

/// Longest token we take, in bytes. XRootD 5.5.3 drops connections at 40 kB; the profile asks for small ones.
const MAX_TOKEN: usize = 16 * 1024;

/// Why a text is not taken as a secret. Never holds the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Not the `b64token` of RFC 6750 section 2.1, so it can't be a bearer token.
    #[error(
        "the access token is not a bearer token (RFC 6750 section 2.1): empty or with characters outside it"
    )]
    NotABearer,
    /// Longer than the limit.
    #[error("the token is {0} bytes long, over the limit of {MAX_TOKEN}")]
    TooLong(usize),
    /// A refresh token or device code with characters that RFC 6749 appendix A does not allow, or none.
    #[error("the refresh token or device code is empty or not printable ASCII (RFC 6749 appendix A.17)")]
    NotPrintable,
    /// The file with the secret can't be read, or not be written.
    #[error("the secret file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may read the file with the refresh token.
    #[error("the secret file {0}: others may read it; set its mode to 0600")]
    Open(String),
    /// The file with the secret holds nothing.
    #[error("the secret file {0} is empty")]
    Empty(String),
}

/// An access token.
///
/// ```
/// use token_core::AccessToken;
///
/// let token = AccessToken::new("header.claims.signature")?;
/// assert_eq!(format!("{token:?}"), format!("AccessToken({})", token.fingerprint()));
/// assert!(AccessToken::new("two words").is_err());
/// # Ok::<(), token_core::SecretError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// Takes a token as an issuer, a file or a database gave it.
    ///
    /// # Errors
    /// When it can't be sent as a bearer token, or is too long.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        if text.len() > MAX_TOKEN {
            return Err(SecretError::TooLong(text.len()));
        }
        let body = text.trim_end_matches('=');
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
        if body.is_empty() || !body.bytes().all(legal) {
            return Err(SecretError::NotABearer);
        }
        Ok(Self(text))
    }

    /// The token itself, for a header or FTS's database. Nothing else may be done with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The name by which logs speak of this token.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(sha1_16(&self.0))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({})", self.fingerprint())
    }
}

/// First 16 hex digits of a token's SHA-1. FTS uses the same as `t_token.token_id`, so a log line of ours and a row of
/// FTS's database can be joined.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client's secret at its issuer.
#[derive(Clone)]
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// Takes a secret, for example from FTS's `t_token_provider`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Reads a secret from a file; white space around it does not count.
    ///
    /// # Errors
    /// When the file can't be read or is empty.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SecretError::Unreadable { path: path.display().to_string(), source })?;
        let text = Zeroizing::new(text);
        match text.trim() {
            "" => Err(SecretError::Empty(path.display().to_string())),
            secret => Ok(Self::new(secret)),
        }
    }

    /// The secret itself, for the token request only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret([redacted])")
    }
}

/// A refresh token. Who holds one can make access tokens until the issuer ends it: it is good for longer and for more
/// than any of them.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// Takes a token as an issuer or a database gave it.
    ///
    /// # Errors
    /// When it is empty, too long or has characters outside printable ASCII (RFC 6749 appendix A.17).
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        printable_ascii(text.into()).map(Self)
    }

    /// Reads a token from a file that nobody else may read; white space around it does not count.
    ///
    /// # Errors
    /// When the file can't be read, others may read it, or it holds no refresh token.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let shown = || path.display().to_string();
        let failed = |source| SecretError::Unreadable { path: shown(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(SecretError::Open(shown()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        Self::new(text.trim())
    }

    /// The token itself, for the token request and a sealed store. Nothing else may be done with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A file of mode 0600 that holds a refresh token and nothing else, made ready before the call whose answer may end the token in
/// it: a rotated token that can't be written down is lost.
///
/// ```no_run
/// # async fn example(client: token_core::OAuthClient, request: token_core::TokenRequest) -> Result<(), Box<dyn std::error::Error>> {
/// use token_core::{RefreshToken, RefreshTokenFile};
///
/// let path = std::path::Path::new("/home/user/.config/storage.refresh");
/// let token = RefreshToken::from_file(path)?;
/// let file = RefreshTokenFile::ready(path)?;
/// let answer = client.refresh(&token, &request).await?;
/// if let Some(rotated) = &answer.refresh {
///     file.keep(rotated)?; // before anything else
/// }
/// println!("it ends at {}", answer.grant?.expires_at.0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RefreshTokenFile(Draft, String);

impl RefreshTokenFile {
    /// Makes sure that the file can be written, and changes nothing yet.
    ///
    /// # Errors
    /// When its folder does not let us.
    pub fn ready(path: &Path) -> Result<Self, SecretError> {
        let shown = path.display().to_string();
        match Draft::beside(path) {
            Ok(draft) => Ok(Self(draft, shown)),
            Err(source) => Err(SecretError::Unreadable { path: shown, source }),
        }
    }

    /// Puts the token there, in place of the old one in one step.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn keep(self, token: &RefreshToken) -> Result<(), SecretError> {
        let Self(draft, path) = self;
        draft.finish(token.expose()).map_err(|source| SecretError::Unreadable { path, source })
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([redacted])")
    }
}

/// A device code (RFC 8628 section 3.2): whoever has it gets the token that the user approves.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DeviceCode(Zeroizing<String>);

impl DeviceCode {
    pub(crate) fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        printable_ascii(text.into()).map(Self)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceCode([redacted])")
    }
}

fn printable_ascii(text: String) -> Result<Zeroizing<String>, SecretError> {
    let text = Zeroizing::new(text);
    match text.len() {
        0 => Err(SecretError::NotPrintable),
        length if length > MAX_TOKEN => Err(SecretError::TooLong(length)),
        _ if text.bytes().all(|b| (b' '..=b'~').contains(&b)) => Ok(text),
        _ => Err(SecretError::NotPrintable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let token = AccessToken::new("canary.canary.canary").unwrap();
        let secret = ClientSecret::new("canary");
        let (refresh, device) = (RefreshToken::new("canary").unwrap(), DeviceCode::new("canary").unwrap());
        let shown = format!("{token:?} {secret:?} {refresh:?} {device:?} {:?}", token.fingerprint());
        assert!(!shown.contains("canary"));
    }

    #[test]
    fn a_refresh_token_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refresh");
        let file = RefreshTokenFile::ready(&path).unwrap();
        assert!(!path.exists());
        file.keep(&RefreshToken::new("one").unwrap()).unwrap();
        assert_eq!(RefreshToken::from_file(&path).unwrap().expose(), "one");
        drop(RefreshTokenFile::ready(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(RefreshToken::from_file(&path), Err(SecretError::Open(_))));
        assert!(RefreshTokenFile::ready(&folder.path().join("none/refresh")).is_err());
    }

    #[test]
    fn a_refresh_token_is_printable() {
        assert!(RefreshToken::new("a b~!").is_ok());
        for bad in ["", "a\nb", "é"] {
            assert!(RefreshToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(RefreshToken::new("a".repeat(MAX_TOKEN + 1)).is_err());
    }

    #[test]
    fn fingerprint_is_the_token_id_of_fts() {
        // sha1("abc") = a9993e364706816aba3e25717850c26c9cd0d89d
        assert_eq!(AccessToken::new("abc").unwrap().fingerprint().as_str(), "a9993e364706816a");
    }

    #[test]
    fn a_token_is_what_rfc_6750_allows() {
        for bad in ["", "==", "a b", "a\nb", "é", "a=b"] {
            assert!(AccessToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(AccessToken::new("a.b-c_d~e+f/g==").is_ok());
        assert!(AccessToken::new("a".repeat(MAX_TOKEN + 1)).is_err());
    }
}
