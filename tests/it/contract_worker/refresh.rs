//! A recording in which `fts_url_copy` asks for a token: the worker runs, and is asked over the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use testbed::fts::refresh::{Question, Reply, SOCKET, ask};
use testbed::grid::terminate;
use tokio::process::Command;
use tokio::time::Instant;

use super::case::{SECRET, config};
use super::database::Database;
use super::expected::rule;
use super::issuer::Issuer;
use super::recording::{Recording, Row, text};
use super::script::{Meaning, Reply as Answer, Script};
use super::seen::Seen;

/// Longer than the worker may take here.
const WITHIN: Duration = Duration::from_secs(60);

/// Runs it; returns the rules that were needed.
///
/// # Errors
/// What is not as it should be.
pub(crate) async fn run(
    recording: &Recording,
    database: &Database,
    program: &Path,
    folder: &Path,
    issuer: &Issuer,
    tokens: &BTreeMap<String, String>,
) -> Result<BTreeSet<&'static str>> {
    let id = recording.refreshed().context("which token was asked for")?;
    let row = recording.before.token(id).context("the token's row")?;
    let before = Seen::of(database).await?;
    // The path of a socket is short.
    let messages = tempfile::Builder::new().prefix("fts").tempdir()?;
    let (log, mut command) = (folder.join("log"), Command::new(program));
    command.arg("--config").arg(config(folder)).stdin(Stdio::null()).kill_on_drop(true);
    command.env("TOKEN_EXCHANGE__REFRESH__MESSAGING_DIRECTORY", messages.path());
    command.env("TOKEN_EXCHANGE__REFRESH__ANSWER_WITHIN_S", "10");
    let worker = command.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let end = Instant::now() + WITHIN;
    while !messages.path().join(SOCKET).exists() {
        ensure!(Instant::now() < end, "no socket: {}", std::fs::read_to_string(&log)?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let question = Question {
        token_id: id.to_owned(),
        job_id: "j".into(),
        file_id: 1,
        hostname: "h".into(),
        process_id: 4242,
    };
    let ask_one = || ask(messages.path(), &question, WITHIN);
    let recorded = recording.replies();
    let one_by_one = recorded.contains(&None);
    let replies = if one_by_one {
        let mut replies = Vec::new();
        for _ in &recorded {
            replies.push(ask_one().await?);
            issuer.mend();
        }
        replies
    } else {
        join_all(recorded.iter().map(|_| ask_one())).await.into_iter().collect::<Result<_, _>>()?
    };
    terminate(worker).await?;

    let script = Script::of(recording);
    let used = text(row, "refresh_token").unwrap_or_default();
    let meaning = script.refreshes.get(used).unwrap_or(&Answer::Granted).meaning(recording, row);
    let rules = expect_replies(&recorded, &replies, meaning, recording.refreshes().next().is_some())?;
    let check = Check { recording, database, issuer, id, row, before: &before };
    check.rows(replies.last().context("an answer")?).await?;
    check.calls(replies.iter().any(|reply| matches!(reply, Reply::Failure(..))))?;
    let said = std::fs::read_to_string(&log)?;
    let refreshed = issuer.refreshed();
    let given = refreshed.iter().filter_map(|one| one.given.as_ref());
    let given = given.flat_map(|(access, next)| [Some(access), next.as_ref()]).flatten();
    let secrets = tokens.values().chain(given).map(String::as_str).chain([SECRET, used]);
    for secret in secrets.filter(|secret| !secret.is_empty()) {
        ensure!(!said.contains(secret), "it wrote a secret into its log");
    }
    Ok(rules)
}

fn expect_replies(
    recorded: &[Option<&str>],
    replies: &[Reply],
    meaning: Meaning,
    refreshed: bool,
) -> Result<BTreeSet<&'static str>> {
    let mut rules = BTreeSet::new();
    for (number, (recorded, reply)) in recorded.iter().zip(replies).enumerate() {
        // After the first in a row, the issuer is well again.
        let token = meaning == Meaning::Got || (number > 0 && recorded.is_none());
        match (token, reply) {
            (true, Reply::Token(..)) | (false, Reply::Failure(..)) => (),
            _ => bail!("answer {number} is {reply:?}"),
        }
        match recorded {
            Some("TYPE_ACCESS_TOKEN") if token && !refreshed => drop(rules.insert(rule::OLD_TOKEN)),
            Some("TYPE_ACCESS_TOKEN") if token => (),
            Some("TYPE_REFRESH_FAILURE") if !token => (),
            None if meaning == Meaning::Got => drop(rules.insert(rule::UNDELIVERED)),
            None => drop(rules.insert(rule::WEDGED)),
            Some(other) => bail!("answer {number} was {other}, and no rule says why it is {reply:?}"),
        }
    }
    Ok(rules)
}

struct Check<'a> {
    recording: &'a Recording,
    database: &'a Database,
    issuer: &'a Issuer,
    id: &'a str,
    row: &'a Row,
    before: &'a Seen,
}

impl Check<'_> {
    async fn rows(&self, last: &Reply) -> Result<()> {
        let after = Seen::of(self.database).await?;
        ensure!(
            after.files == self.before.files && after.jobs == self.before.jobs,
            "files or jobs were changed"
        );
        for (id, token) in &self.before.tokens {
            let now = after.tokens.get(id).with_context(|| format!("token {id} is gone"))?;
            ensure!(id == self.id || now == token, "the row of token {id} was changed");
        }
        let (old, new) = (&self.before.tokens[self.id], &after.tokens[self.id]);
        let columns = ["refresh_message", "refresh_timestamp", "marked_for_refresh"];
        let from = format!("t_token WHERE token_id = '{}'", self.id);
        let told = self.database.rows(&columns, &from).await?;
        let [message, at, marked] = told.first().context("the row")?.as_slice() else {
            bail!("three columns")
        };
        ensure!(
            at.is_some() && marked.as_deref() == Some("0"),
            "refresh_timestamp {at:?}, marked {marked:?}"
        );
        match last {
            Reply::Token(token, _) => {
                ensure!(new.token == token.expose() && new.token != old.token, "another token was answered");
                ensure!(new.expiry > old.expiry, "it ends at {}, {} before", new.expiry, old.expiry);
                ensure!(message.is_none(), "refresh_message is {message:?}");
                // Where fts_token stored one, the same.
                let stored = self.recording.after.token(self.id).and_then(|row| text(row, "refresh_token"));
                ensure!(
                    new.others[0].as_deref() == stored,
                    "refresh token {:?}, {stored:?} recorded",
                    new.others[0]
                );
            }
            Reply::Failure(why, _) => {
                ensure!(message.as_deref() == Some(why.as_str()), "answered `{why}`, written {message:?}");
                ensure!(new == old, "the token was changed");
            }
        }
        ensure!(new.others[1..] == old.others[1..], "{:?}, {:?} before", new.others, old.others);
        Ok(())
    }

    /// One refresh for all who ask, and no refresh token used that was replaced.
    fn calls(&self, failed: bool) -> Result<()> {
        let refreshed = self.issuer.refreshed();
        let got = refreshed.iter().filter(|one| one.given.is_some()).count();
        ensure!(got <= 1, "{got} refreshes succeeded");
        ensure!(failed || refreshed.len() == 1, "{} refreshes", refreshed.len());
        let mut current = text(self.row, "refresh_token").unwrap_or_default().to_owned();
        for one in refreshed {
            ensure!(one.used == current, "a refresh token was used that was replaced");
            if let Some((_, Some(next))) = one.given {
                current = next;
            }
        }
        Ok(())
    }
}
