//! One attempt of one file: what `fts_url_copy` does, request by request, for a third-party pull over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use token_core::{AccessToken, Claims, Clock};
use url::Url;

use super::dav::{Dav, End};
use super::failure::{Failure, Side, Trouble};
use super::refresh::{Question, RefreshSettings, insist};

/// What to transfer, and how.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) source_token: Option<AccessToken>,
    pub(super) destination_token: Option<AccessToken>,
    pub(super) user_filesize: u64,
    /// `ALG:value`, or only the algorithm.
    pub(super) checksum: String,
    pub(super) verify_source: bool,
    pub(super) verify_target: bool,
    pub(super) overwrite: bool,
    /// Nothing but the copy.
    pub(super) strict: bool,
    /// How tokens that are about to end are replaced.
    pub(super) refresh: Option<Refresh>,
}

/// How tokens that are about to end are replaced, and what is asked for each that is managed.
#[derive(Clone)]
pub(super) struct Refresh {
    pub(super) settings: RefreshSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Option<Question>,
    pub(super) destination: Option<Question>,
}

impl Refresh {
    /// What `fts_url_copy` does before each step: the token that it holds lives longer than the margin, or another is asked for.
    async fn before_step(&self, end: &mut End, side: Side) -> Result<(), Failure> {
        let (question, whose) = match side {
            Side::Source => (&self.source, "source"),
            _ => (&self.destination, "destination"),
        };
        let (Some(question), Some(token)) = (question, &end.token) else { return Ok(()) };
        let Ok(claims) = Claims::peek(token) else { return Ok(()) };
        if self.clock.now().plus(self.settings.margin) <= claims.exp {
            return Ok(());
        }
        let token = insist(&self.settings, question).await;
        let failed = || Failure::definite(side, 14, format!("Failed to obtain refresh token for {whose}"));
        end.token = Some(token.ok_or_else(failed)?);
        Ok(())
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// Size as far as it is known.
    pub(super) size: u64,
    /// How long the copy took.
    pub(super) copying: Duration,
    pub(super) result: Result<(), Failure>,
}

impl Attempt {
    /// Runs it.
    pub(super) async fn run(&self, dav: &Dav) -> Ended {
        let mut ended = Ended { size: 0, copying: Duration::ZERO, result: Ok(()) };
        ended.result = self.steps(dav, &mut ended.size, &mut ended.copying).await;
        ended
    }

    async fn steps(&self, dav: &Dav, size: &mut u64, copying: &mut Duration) -> Result<(), Failure> {
        let (mut source, mut destination) = (self.end(Side::Source)?, self.end(Side::Destination)?);
        if source.token.is_none() && destination.token.is_none() {
            // Without tokens gfal2 tries to get macaroons first, and goes on without.
            let _ = dav.plain("POST", &source).await;
            let _ = dav.plain("POST", &destination).await;
        }
        let mut source_checksum = None;
        if self.strict {
            *size = self.user_filesize;
        } else {
            self.fresh(&mut source, Side::Source).await?;
            *size = stat_or_head(dav, &source, &self.source)
                .await
                .map_err(|trouble| Failure::request(Side::Source, &trouble))?;
            if self.user_filesize != 0 && self.user_filesize != *size {
                let text = format!(
                    "User specified source file size is {} but stat returned {size}",
                    self.user_filesize
                );
                return Err(Failure::definite(Side::Source, 22, text));
            }
            if self.verify_source {
                self.fresh(&mut source, Side::Source).await?;
                source_checksum = Some(self.source_checksum(dav, &source).await?);
            }
            self.prepare(dav, &mut destination).await?;
        }
        self.fresh(&mut source, Side::Source).await?;
        self.fresh(&mut destination, Side::Destination).await?;

        let started = Instant::now();
        let copied = self.copy(dav, &source, &destination).await;
        *copying = started.elapsed();
        copied?;

        if self.strict { Ok(()) } else { self.verify(dav, &mut destination, *size, source_checksum).await }
    }

    async fn fresh(&self, end: &mut End, side: Side) -> Result<(), Failure> {
        match &self.refresh {
            Some(refresh) => refresh.before_step(end, side).await,
            None => Ok(()),
        }
    }

    /// Size and checksum of what arrived. A refusal leaves the file there; what does not match is removed (observed).
    async fn verify(
        &self,
        dav: &Dav,
        destination: &mut End,
        size: u64,
        source: Option<String>,
    ) -> Result<(), Failure> {
        self.fresh(destination, Side::Destination).await?;
        let arrived = dav.stat(destination).await;
        let arrived = arrived.map_err(|trouble| Failure::request(Side::Destination, &trouble))?;
        let mut mismatch = None;
        if arrived != size {
            let text = format!("Source and destination file size mismatch ({size} != {arrived})");
            mismatch = Some(Failure::definite(Side::Destination, 22, text));
        } else if self.verify_target {
            self.fresh(destination, Side::Destination).await?;
            mismatch = self.target_mismatch(dav, destination, source).await?;
        }
        match mismatch {
            None => Ok(()),
            Some(mismatch) => {
                clean_up(dav, destination).await;
                Err(mismatch)
            }
        }
    }

    fn end(&self, side: Side) -> Result<End, Failure> {
        let (text, token) = match side {
            Side::Source => (&self.source, &self.source_token),
            _ => (&self.destination, &self.destination_token),
        };
        let secure = text.strip_prefix("davs://").or_else(|| text.strip_prefix("https://"));
        let url = secure.and_then(|rest| Url::parse(&format!("https://{rest}")).ok());
        let unknown =
            || Failure::definite(side, 93, format!("Protocol not supported or path/url invalid: {text}"));
        Ok(End { url: url.ok_or_else(unknown)?, token: token.clone() })
    }

    /// Sees that the destination can be written: not there, or deleted; its directory there, or made.
    async fn prepare(&self, dav: &Dav, destination: &mut End) -> Result<(), Failure> {
        self.fresh(destination, Side::Destination).await?;
        let refused = |trouble: &Trouble| Failure::request(Side::Destination, trouble);
        match stat_or_head(dav, destination, &self.destination).await {
            Ok(_) if !self.overwrite => {
                let text = "Destination file exists and overwrite is not enabled";
                return Err(Failure::definite(Side::Destination, 17, text));
            }
            Ok(_) => {
                dav.stat(destination).await.map_err(|trouble| refused(&trouble))?;
                return dav.plain("DELETE", destination).await.map_err(|trouble| Failure::unlink(&trouble));
            }
            Err(Trouble::Status(404)) => (),
            Err(trouble) => return Err(refused(&trouble)),
        }
        self.fresh(destination, Side::Destination).await?;
        let parent = End { url: parent(&destination.url), token: destination.token.clone() };
        match dav.stat(&parent).await {
            Ok(_) => Ok(()),
            // One request, also when several levels are missing.
            Err(Trouble::Status(404)) => {
                dav.plain("MKCOL", &parent).await.map_err(|trouble| refused(&trouble))
            }
            Err(trouble) => Err(refused(&trouble)),
        }
    }

    async fn copy(&self, dav: &Dav, source: &End, destination: &End) -> Result<(), Failure> {
        let failure = match dav.pull(source, destination).await {
            Ok(line) if line.starts_with("success") => return Ok(()),
            Ok(line) => {
                let broken = "Connection terminated abruptly; Status of TPC request unknown";
                Failure::during_copy(line.strip_prefix("failure:").map_or(broken, str::trim_start))
            }
            Err(trouble) => Failure::copy(&trouble),
        };
        // Once by gfal2 2.21, once by fts_url_copy (observed).
        clean_up(dav, destination).await;
        clean_up(dav, destination).await;
        Err(failure)
    }

    /// Algorithm and value given by the user; an empty value is none.
    fn given(&self) -> (String, Option<String>) {
        let (algorithm, value) = self.checksum.split_once(':').unwrap_or((&self.checksum, ""));
        let algorithm = if algorithm.is_empty() { "adler32" } else { algorithm };
        (algorithm.to_ascii_lowercase(), (!value.is_empty()).then(|| value.to_ascii_lowercase()))
    }

    async fn source_checksum(&self, dav: &Dav, source: &End) -> Result<String, Failure> {
        let (algorithm, given) = self.given();
        let found = checksum(dav, source, Side::Source, &algorithm).await?;
        match given {
            Some(given) if !same(&given, &found) => {
                let text =
                    format!("Source and user-defined {algorithm} checksum do not match ({found} != {given})");
                Err(Failure::definite(Side::Source, 5, text))
            }
            _ => Ok(found),
        }
    }

    async fn target_mismatch(
        &self,
        dav: &Dav,
        destination: &End,
        source: Option<String>,
    ) -> Result<Option<Failure>, Failure> {
        let (algorithm, given) = self.given();
        let found = checksum(dav, destination, Side::Destination, &algorithm).await?;
        let compared = [(given, "User-defined"), (source, "Source")];
        let mut compared = compared.into_iter().filter_map(|(value, whose)| Some((value?, whose)));
        Ok(compared.find(|(expected, _)| !same(expected, &found)).map(|(expected, whose)| {
            let text =
                format!("{whose} and destination {algorithm} checksum do not match ({expected} != {found})");
            Failure::definite(Side::Destination, 5, text)
        }))
    }
}

/// With an `https://` URL, davix asks once more by HEAD when PROPFIND finds nothing.
async fn stat_or_head(dav: &Dav, end: &End, given: &str) -> Result<u64, Trouble> {
    match dav.stat(end).await {
        Err(Trouble::Status(404)) if given.starts_with("https://") => dav.head(end).await,
        other => other,
    }
}

async fn checksum(dav: &Dav, end: &End, side: Side, algorithm: &str) -> Result<String, Failure> {
    let found = dav.checksum(end, algorithm).await.map_err(|trouble| Failure::request(side, &trouble))?;
    found.ok_or_else(|| Failure::definite(side, 95, format!("The storage tells no {algorithm} checksum")))
}

/// Leading zeros do not count.
fn same(one: &str, other: &str) -> bool {
    one.trim_start_matches('0').eq_ignore_ascii_case(other.trim_start_matches('0'))
}

/// Removes what a failed copy left, if the token may. Nobody hears of it when it may not.
async fn clean_up(dav: &Dav, destination: &End) {
    if dav.stat(destination).await.is_ok() {
        let _ = dav.plain("DELETE", destination).await;
    }
}

/// The directory of a file, without a slash at its end.
fn parent(url: &Url) -> Url {
    let mut parent = url.clone();
    parent.set_query(None);
    let path = url.path().trim_end_matches('/');
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    parent.set_path(directory);
    parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_the_directory_of_the_file() {
        for (file, directory) in [
            ("https://h:1/vo/data/x/f", "https://h:1/vo/data/x"),
            ("https://h/f?a=b", "https://h/"),
            ("https://h/a%2Fb/c", "https://h/a%2Fb"),
        ] {
            assert_eq!(parent(&Url::parse(file).unwrap()).as_str(), directory);
        }
    }
}
