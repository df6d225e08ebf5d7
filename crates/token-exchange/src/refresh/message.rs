//! The two messages, as FTS 3.14.4 has them in `fts3.events` (proto2).

use std::fmt;

use token_core::{AccessToken, UnixSeconds};

/// `TokenRefreshRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    /// `t_token.token_id`.
    #[prost(string, required, tag = "1")]
    pub(super) token_id: String,
    #[prost(string, required, tag = "2")]
    pub(super) job_id: String,
    #[prost(uint64, required, tag = "3")]
    pub(super) file_id: u64,
    /// Of `fts_url_copy`.
    #[prost(string, required, tag = "4")]
    pub(super) hostname: String,
    #[prost(int32, required, tag = "5")]
    pub(super) process_id: i32,
}

/// `TokenRefreshResponse`. Not shown: it holds a token.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct Response {
    #[prost(string, required, tag = "1")]
    pub(super) token_id: String,
    #[prost(enumeration = "Kind", required, tag = "2")]
    pub(super) response_type: i32,
    #[prost(string, optional, tag = "3")]
    pub(super) access_token: Option<String>,
    /// Seconds since the epoch.
    #[prost(uint64, optional, tag = "4")]
    pub(super) expiry_timestamp: Option<u64>,
    #[prost(string, optional, tag = "5")]
    pub(super) refresh_message: Option<String>,
    /// Seconds since the epoch.
    #[prost(uint64, optional, tag = "6")]
    pub(super) refresh_timestamp: Option<u64>,
}

/// `TokenRefreshResponse.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    AccessToken = 0,
    RefreshFailure = 1,
}

impl Response {
    pub(super) fn token(id: &str, token: &AccessToken, expires_at: UnixSeconds) -> Self {
        Self {
            token_id: id.to_owned(),
            response_type: Kind::AccessToken.into(),
            access_token: Some(token.expose().to_owned()),
            expiry_timestamp: Some(positive(expires_at)),
            refresh_message: None,
            refresh_timestamp: None,
        }
    }

    pub(super) fn failure(id: &str, why: &str, now: UnixSeconds) -> Self {
        Self {
            token_id: id.to_owned(),
            response_type: Kind::RefreshFailure.into(),
            access_token: None,
            expiry_timestamp: None,
            refresh_message: Some(why.to_owned()),
            refresh_timestamp: Some(positive(now)),
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {:?})", self.token_id, self.refresh_message)
    }
}

fn positive(at: UnixSeconds) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_field_numbers_of_fts() {
        let request = Request {
            token_id: "ab".into(),
            job_id: "j".into(),
            file_id: 300,
            hostname: "h".into(),
            process_id: 5,
        };
        let bytes = b"\x0a\x02ab\x12\x01j\x18\xac\x02\x22\x01h\x28\x05";
        assert_eq!(request.encode_to_vec(), bytes);
        assert_eq!(Request::decode(bytes.as_slice()).unwrap(), request);
        let token = AccessToken::new("t").unwrap();
        let answer = Response::token("ab", &token, UnixSeconds(300));
        assert_eq!(answer.encode_to_vec(), b"\x0a\x02ab\x10\x00\x1a\x01t\x20\xac\x02");
        let answer = Response::failure("ab", "no", UnixSeconds(300));
        assert_eq!(answer.encode_to_vec(), b"\x0a\x02ab\x10\x01\x2a\x02no\x30\xac\x02");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = AccessToken::new("canary").unwrap();
        assert!(!format!("{:?}", Response::token("ab", &token, UnixSeconds(300))).contains("canary"));
    }
}
