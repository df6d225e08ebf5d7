//! Device codes (RFC 8628): a person approves elsewhere what was asked for here.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::call::Call;
use super::{OAuthClient, Refreshed, TokenRequest};
use crate::clock::UnixSeconds;
use crate::error::{OAuthCode, TokenError};
use crate::http;
use crate::retry::{Classify as _, Disposition};
use crate::secret::DeviceCode;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// When the issuer names no interval (RFC 8628 section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest interval that trouble on the way leads to.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest life of a device code that is believed.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A device code, and what to tell the person who shall approve it.
///
/// ```no_run
/// # async fn example(client: token_core::OAuthClient, request: token_core::TokenRequest) -> Result<(), token_core::TokenError> {
/// let device = client.device_authorization(&request).await?;
/// println!("open {} and enter {}", device.verification_uri, device.user_code);
/// let approved = client.device_token(&device).await?; // polls as the issuer wants
/// println!("token {}", approved.grant?.token.fingerprint());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// What the person types in there.
    pub user_code: String,
    /// Where the person goes.
    pub verification_uri: Url,
    /// The same with the code in it, for a link or a QR code.
    pub verification_uri_complete: Option<Url>,
    /// When the code ends.
    pub expires_at: UnixSeconds,
    /// The pause between two polls.
    pub interval: Duration,
    device_code: DeviceCode,
    request: TokenRequest,
}

/// The answer of the device authorization endpoint (RFC 8628 section 3.2).
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Body {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

impl OAuthClient {
    /// Asks for a device code. Show its user code and address to the person, then call [`Self::device_token`]. A refresh
    /// token comes with the token if the request's scope has `offline_access`.
    ///
    /// # Errors
    /// See [`TokenError`]; transient ones only after the retry budget is spent.
    pub async fn device_authorization(
        &self,
        request: &TokenRequest,
    ) -> Result<DeviceAuthorization, TokenError> {
        let call = Call::DeviceAuthorization;
        let scope = request.scope.to_string();
        let mut form = vec![("scope", scope.as_str())];
        form.extend(self.settings.audience.parameters(request));
        self.call(call, &form, request, |body| {
            let bad = |reason| call.bad(&self.settings.issuer, reason);
            let mut body: Body =
                serde_json::from_slice(body).map_err(|_| bad("it is no device authorization"))?;
            let device_code = DeviceCode::new(std::mem::take(&mut body.device_code))
                .map_err(|_| bad("its device_code is no device code"))?;
            let address = |text: &str| Url::parse(text).ok().filter(|url| self.settings.issuer.trusts(url));
            let user_code = http::printable(&body.user_code);
            if user_code.is_empty() || user_code != body.user_code {
                return Err(bad("its user_code can't be shown"));
            }
            Ok(DeviceAuthorization {
                user_code,
                verification_uri: address(&body.verification_uri)
                    .ok_or_else(|| bad("its verification_uri is no https address"))?,
                verification_uri_complete: body.verification_uri_complete.as_deref().and_then(address),
                expires_at: self.clock.now().plus(Duration::from_secs(body.expires_in).min(LIFE)),
                interval: body.interval.map_or(INTERVAL, |s| Duration::from_secs(s).clamp(SECOND, LIFE)),
                device_code,
                request: request.clone(),
            })
        })
        .await
    }

    /// Polls until the person has approved or denied, or the code ends; ends early when the client is cancelled.
    ///
    /// # Errors
    /// `Refused` with `AccessDenied` when the person said no, `DeviceExpired` when nobody did anything; trouble on the way
    /// only slows the polls down.
    pub async fn device_token(&self, device: &DeviceAuthorization) -> Result<Refreshed, TokenError> {
        let call = Call::DeviceToken;
        let mut form = vec![("grant_type", DEVICE_CODE), ("device_code", device.device_code.expose())];
        form.extend(self.settings.audience.parameters(&device.request));
        let ended = || TokenError::DeviceExpired { issuer: self.settings.issuer.to_string() };
        let mut interval = device.interval;
        loop {
            let left = self.clock.now().until(device.expires_at);
            tokio::select! {
                () = sleep(interval.min(left)) => (),
                () = self.cancel.cancelled() => {
                    return Err(call.unreachable(&self.settings.issuer, "shutting down"));
                }
            }
            if self.clock.now() >= device.expires_at {
                return Err(ended());
            }
            let deadline = Instant::now() + self.settings.retry.total;
            let read = |body: &[u8]| self.refreshed(call, &device.request, body);
            match self.once(call, &form, deadline, read).await {
                Ok(refreshed) => return Ok(refreshed),
                Err(TokenError::Refused { code: OAuthCode::ExpiredToken, .. }) => return Err(ended()),
                Err(error) => interval = next(interval, &error).ok_or(error)?,
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// The next interval after this error (RFC 8628 section 3.5); `None`: it is over.
fn next(interval: Duration, error: &TokenError) -> Option<Duration> {
    match error {
        TokenError::Refused { code: OAuthCode::AuthorizationPending, .. } => Some(interval),
        TokenError::Refused { code: OAuthCode::SlowDown, .. } => Some(interval + SLOWER),
        _ => match error.disposition() {
            // Exponential backoff, as recommended for time-outs.
            Disposition::Retry { after } => {
                Some((interval * 2).max(after.unwrap_or_default()).min(LONGEST.max(interval)))
            }
            Disposition::Fail => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_go_on_as_told() {
        let refused = |code| TokenError::Refused {
            issuer: "i".into(),
            call: "c",
            code,
            status: 400,
            description: String::new(),
        };
        let seconds = |s, error: &TokenError| next(Duration::from_secs(s), error).map(|wait| wait.as_secs());
        assert_eq!(seconds(5, &refused(OAuthCode::AuthorizationPending)), Some(5));
        assert_eq!(seconds(5, &refused(OAuthCode::SlowDown)), Some(10));
        for code in
            [OAuthCode::AccessDenied, OAuthCode::InvalidGrant, OAuthCode::InvalidClient, OAuthCode::Other]
        {
            assert_eq!(seconds(5, &refused(code)), None);
        }
        let broken = TokenError::Unreachable { issuer: "i".into(), call: "c", reason: "no answer in time" };
        assert_eq!([5, 40, 60, 90].map(|s| seconds(s, &broken)), [Some(10), Some(60), Some(60), Some(90)]);
        let open = TokenError::Open { issuer: "i".into(), until_s: 30, last: "it answered 503".into() };
        assert_eq!(seconds(5, &open), Some(30));
    }
}
