//! How `fts_url_copy` gets another token: it asks over ZeroMQ, with a REQ socket and one protobuf message each way (FTS 3.14.4).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message as _;
use token_core::{AccessToken, UnixSeconds};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// The socket's name in `MessagingDirectory`.
pub const SOCKET: &str = "url_copy-token-refresh.ipc";

/// How `fts_url_copy` asks; [`RefreshSettings::new`] has what FTS has.
#[derive(Clone, Debug)]
pub struct RefreshSettings {
    /// `MessagingDirectory`.
    pub messaging_directory: PathBuf,
    /// `TokenRefreshMarginPeriod`: a managed token that lives less than this is asked for.
    pub margin: Duration,
    /// How long an answer is waited for.
    pub answer: Duration,
    /// How often it asks again.
    pub every: Duration,
    /// For how long it does so.
    pub in_all: Duration,
}

impl RefreshSettings {
    /// 300 s of margin, a try a minute for 300 s.
    pub fn new(messaging_directory: impl Into<PathBuf>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            messaging_directory: messaging_directory.into(),
            margin: seconds(300),
            answer: seconds(60),
            every: seconds(60),
            in_all: seconds(300),
        }
    }
}

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Question {
    /// `t_token.token_id`.
    #[prost(string, required, tag = "1")]
    pub token_id: String,
    /// The job.
    #[prost(string, required, tag = "2")]
    pub job_id: String,
    /// The file.
    #[prost(uint64, required, tag = "3")]
    pub file_id: u64,
    /// Where `fts_url_copy` runs.
    #[prost(string, required, tag = "4")]
    pub hostname: String,
    /// Its process.
    #[prost(int32, required, tag = "5")]
    pub process_id: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Answered {
    #[prost(string, required, tag = "1")]
    token_id: String,
    #[prost(int32, required, tag = "2")]
    response_type: i32,
    #[prost(string, optional, tag = "3")]
    access_token: Option<String>,
    #[prost(uint64, optional, tag = "4")]
    expiry_timestamp: Option<u64>,
    #[prost(string, optional, tag = "5")]
    refresh_message: Option<String>,
    #[prost(uint64, optional, tag = "6")]
    refresh_timestamp: Option<u64>,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answered({})", self.token_id)
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `TYPE_ACCESS_TOKEN`: the token, and when it ends.
    Token(AccessToken, UnixSeconds),
    /// `TYPE_REFRESH_FAILURE`: why, and when it was tried.
    Failure(String, UnixSeconds),
}

/// Asks once, within `within`.
///
/// # Errors
/// When nobody is there, nobody answers, or with something else.
pub async fn ask(messaging_directory: &Path, question: &Question, within: Duration) -> io::Result<Reply> {
    let socket = messaging_directory.join(SOCKET);
    tokio::time::timeout(within, asked(&socket, question))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn asked(socket: &Path, question: &Question) -> io::Result<Reply> {
    let bad = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut stream = UnixStream::connect(socket).await?;
    // ZMTP 3.0: greeting, READY, and a message behind an empty frame.
    let mut greeting = [0_u8; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    stream.read_exact(&mut greeting).await?;
    stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ").await?;
    let (ready, _) = frame(&mut stream).await?;
    if ready & 4 == 0 {
        return Err(bad("it is not ready"));
    }
    let body = question.encode_to_vec();
    let length = u8::try_from(body.len()).map_err(|_| bad("the question is too long"))?;
    stream.write_all(&[[1, 0, 0, length].as_slice(), &body].concat()).await?;
    let (delimiter, empty) = frame(&mut stream).await?;
    let (last, body) = frame(&mut stream).await?;
    if delimiter & 1 == 0 || !empty.is_empty() || last & 1 != 0 {
        return Err(bad("its frames are others than REQ takes"));
    }
    let answered = Answered::decode(body.as_slice()).map_err(|_| bad("it is no TokenRefreshResponse"))?;
    if answered.token_id != question.token_id {
        return Err(bad("it is about another token"));
    }
    let at = |seconds: Option<u64>| seconds.and_then(|s| i64::try_from(s).ok()).map(UnixSeconds);
    match (answered.response_type, answered.access_token, at(answered.expiry_timestamp)) {
        (0, Some(token), Some(end)) => {
            Ok(Reply::Token(AccessToken::new(token).map_err(|_| bad("it holds no token"))?, end))
        }
        (1, None, None) => {
            let why = answered.refresh_message.ok_or_else(|| bad("a failure without words"))?;
            Ok(Reply::Failure(
                why,
                at(answered.refresh_timestamp).ok_or_else(|| bad("a failure without time"))?,
            ))
        }
        _ => Err(bad("its fields do not go together")),
    }
}

async fn frame(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let flags = stream.read_u8().await?;
    let length = if flags & 2 == 0 { u64::from(stream.read_u8().await?) } else { stream.read_u64().await? };
    let mut body = vec![0; usize::try_from(length.min(1 << 20)).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok((flags, body))
}

/// Asks as `fts_url_copy` does, again and again; none when no token came in all that time.
pub(super) async fn insist(settings: &RefreshSettings, question: &Question) -> Option<AccessToken> {
    let end = Instant::now() + settings.in_all;
    loop {
        let begun = Instant::now();
        match ask(&settings.messaging_directory, question, settings.answer).await {
            Ok(Reply::Token(token, _)) => return Some(token),
            Ok(Reply::Failure(why, _)) => tracing::info!(token = question.token_id, why, "refresh refused"),
            Err(error) => {
                tracing::info!(token = question.token_id, %error, "nobody answers a refresh request");
            }
        }
        let next = begun + settings.every;
        if next >= end {
            return None;
        }
        tokio::time::sleep_until(next).await;
    }
}
