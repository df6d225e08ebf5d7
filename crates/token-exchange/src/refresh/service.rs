//! The socket at which `fts_url_copy` asks.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use token_core::http::printable;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::answer;
use super::message::{Request, Response};
use super::zmtp::{self, Incoming};
use crate::fresh::renewer::Renewer;

/// The socket's name in FTS's messaging directory.
const NAME: &str = "url_copy-token-refresh.ipc";
/// A peer that has not greeted by then is none.
const GREETING: Duration = Duration::from_secs(10);
/// Most transfers that ask at a time; the others wait for their turn.
const MOST: usize = 1024;
/// How often it is seen to that the socket is still ours, or whether the process that has it is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Answers refresh requests. One process on a host does so; another that is started beside it takes over when it ends.
pub struct Service {
    renewer: Arc<Renewer>,
    path: PathBuf,
    within: Duration,
    room: Arc<Semaphore>,
}

/// A question on its way to whoever answers.
struct Ask {
    token_id: String,
    back: oneshot::Sender<Response>,
}

/// A bound socket, and which file it is.
struct Bound {
    listener: UnixListener,
    file: (u64, u64),
}

impl Service {
    /// At FTS's messaging directory, with at most `within` for an answer.
    pub fn new(renewer: Arc<Renewer>, messaging_directory: &Path, within: Duration) -> Self {
        let room = Arc::new(Semaphore::new(MOST));
        Self { renewer, path: messaging_directory.join(NAME), within, room }
    }

    /// Answers until `stop` fires; what was asked by then is answered still.
    pub async fn run(&self, stop: &CancellationToken) {
        let (asks, asked) = mpsc::channel(MOST);
        tokio::join!(self.listen(asks, stop), self.answer(asked));
    }

    /// One answer for all who ask for the same token meanwhile, in time; what was begun for it is worked out to its end, whoever goes
    /// away.
    async fn answer(&self, mut asked: mpsc::Receiver<Ask>) {
        let mut waiting: HashMap<String, Vec<oneshot::Sender<Response>>> = HashMap::new();
        let (mut under_way, mut going_on) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                Some(Ask { token_id, back }) = asked.recv() => {
                    let others = waiting.entry(token_id.clone()).or_default();
                    others.push(back);
                    if others.len() == 1 {
                        under_way.push(async move {
                            let (response, rest) = answer(&self.renewer, token_id.clone(), self.within).await;
                            (token_id, response, rest)
                        });
                    }
                }
                Some((token_id, response, rest)) = under_way.next() => {
                    going_on.extend(rest);
                    let waiting = waiting.remove(&token_id).unwrap_or_default();
                    self.renewer.seen.refresh_requests(waiting.len(), response.refresh_message.is_none());
                    for back in waiting {
                        let _ = back.send(response.clone());
                    }
                }
                Some(()) = going_on.next() => (),
                else => return,
            }
        }
    }

    async fn listen(&self, asks: mpsc::Sender<Ask>, stop: &CancellationToken) {
        let mut said = false;
        while !stop.is_cancelled() {
            match self.bind().await {
                Ok(Some(bound)) => {
                    info!(socket = %self.path.display(), "answering refresh requests of fts_url_copy");
                    said = false;
                    self.serve(&bound, &asks, stop).await;
                    continue;
                }
                Ok(None) if !said => info!(
                    socket = %self.path.display(),
                    "another process answers refresh requests here; we do when it ends"
                ),
                Err(error) if !said => warn!(
                    socket = %self.path.display(), %error,
                    "refresh requests can't be answered: managed transfers on this host will fail; tried again (may this user write there? see fts3.conf)"
                ),
                _ => (),
            }
            said = true;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => (),
                () = stop.cancelled() => (),
            }
        }
    }

    /// Binds the socket; none when somebody listens there already. It stands under its name only when it is whole.
    async fn bind(&self) -> io::Result<Option<Bound>> {
        if UnixStream::connect(&self.path).await.is_ok() {
            return Ok(None);
        }
        let mut draft = self.path.clone().into_os_string();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft)?;
        let placed = (|| {
            // Who may connect gets tokens: our user and group, no others.
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o660))?;
            let file = identity(&draft)?;
            fs::rename(&draft, &self.path)?;
            Ok(file)
        })();
        if placed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        placed.map(|file| Some(Bound { listener, file }))
    }

    async fn serve(&self, bound: &Bound, asks: &mpsc::Sender<Ask>, stop: &CancellationToken) {
        let ours = || identity(&self.path).is_ok_and(|file| file == bound.file);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let stream = tokio::select! {
                accepted = bound.listener.accept() => accepted,
                _ = looks.tick() => match ours() {
                    true => continue,
                    false => {
                        warn!(socket = %self.path.display(), "the socket was taken away; made again");
                        return;
                    }
                },
                () = stop.cancelled() => break,
            };
            match (stream, Arc::clone(&self.room).acquire_owned().await) {
                (Ok((stream, _)), Ok(place)) => {
                    let (asks, stop) = (asks.clone(), stop.clone());
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &asks, &stop).await {
                            debug!(%error, "a peer that asks for tokens went away");
                        }
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    warn!(%error, "a refresh request could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => break,
            }
        }
        if ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One connection, to its end; or until `stop` fires and what it asked is answered.
async fn converse(stream: UnixStream, asks: &mpsc::Sender<Ask>, stop: &CancellationToken) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let greeted = tokio::time::timeout(GREETING, zmtp::greet(&mut reader, &mut writer)).await;
    greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (answers, mut due) = mpsc::channel::<Vec<u8>>(8);
    let reading = async move {
        loop {
            let incoming = tokio::select! {
                incoming = zmtp::receive(&mut reader) => incoming,
                () = stop.cancelled() => return Ok(()),
            };
            match incoming {
                Ok(Incoming::Ping(pong)) => drop(answers.send(pong).await),
                Ok(Incoming::Message(frames)) => {
                    let (asks, answers) = (asks.clone(), answers.clone());
                    tokio::spawn(async move {
                        if let Some(bytes) = message(frames, &asks).await {
                            let _ = answers.send(bytes).await;
                        }
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    let writing = async {
        while let Some(bytes) = due.recv().await {
            writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// The answer to one message: what stands before its last frame is the way back.
async fn message(mut frames: Vec<Vec<u8>>, asks: &mpsc::Sender<Ask>) -> Option<Vec<u8>> {
    let body = frames.pop()?;
    let request = match Request::decode(body.as_slice()) {
        Ok(request) if plain(&request.token_id) => request,
        _ => {
            warn!("a message at the socket for refresh requests is none; not answered");
            return None;
        }
    };
    let (back, answered) = oneshot::channel();
    asks.send(Ask { token_id: request.token_id.clone(), back }).await.ok()?;
    let response = answered.await.ok()?;
    let (job, file) = (printable(&request.job_id), request.file_id);
    let by = format!("{}@{}", request.process_id, printable(&request.hostname));
    match &response.refresh_message {
        None => {
            let expires_at = response.expiry_timestamp;
            info!(token = request.token_id, expires_at, job, file, by, "refresh request answered");
        }
        Some(why) => warn!(token = request.token_id, why, job, file, by, "refresh request refused"),
    }
    frames.push(response.encode_to_vec());
    Some(zmtp::message(&frames))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// A `token_id` is 16 hex digits; other ids that FTS may make have no other signs either.
fn plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
