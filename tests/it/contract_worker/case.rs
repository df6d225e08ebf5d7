//! One recording on one database: load what was before, run the worker, look at what is there after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use token_core::{Clock as _, SystemClock};
use tokio::process::Command;

use super::database::Database;
use super::expected::{Expected, File, Token, cancelled};
use super::issuer::{Asked, Issuer};
use super::recording::{Recording, Row, label, text};
use super::refresh;
use super::script::Script;
use super::seen::Seen;

pub(crate) const SECRET: &str = "canary-client-secret";

/// Runs one recording.
///
/// # Errors
/// What is not as it should be.
pub(crate) async fn run(
    recording: Arc<Recording>,
    database: &Database,
    program: &Path,
    folder: &Path,
) -> Result<BTreeSet<&'static str>> {
    let script = Script::of(&recording);
    let expected = Expected::of(&recording, &script).map_err(anyhow::Error::msg)?;
    let now = SystemClock.now().0;
    let (issuer, tokens) = Issuer::start(Arc::clone(&recording), script, now).await?;
    let load = Load {
        recording: &recording,
        issuer: &issuer.name,
        tokens: &tokens,
        shift: now - recording.recorded_at,
    };
    load.all(database).await?;
    configure(folder, database, &issuer.name)?;
    if recording.is_refresh() {
        let made = worker(program, folder, &["init-db"]).await?;
        ensure!(made.status.success(), "init-db: {}", last_line(&made));
        return refresh::run(&recording, database, program, folder, &issuer, &tokens).await;
    }

    let made = worker(program, folder, &["init-db"]).await?;
    ensure!(made.status.success(), "init-db: {}", last_line(&made));
    let before = Seen::of(database).await?;
    let ran = worker(program, folder, &["--run-once", "--json"]).await?;
    ensure!(ran.status.success(), "it ended with {}: {}", ran.status, last_line(&ran));
    let after = Seen::of(database).await?;

    let asked = issuer.asked();
    let written = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let secrets = tokens.values().map(String::as_str).chain(asked.iter().filter_map(|a| a.given.as_deref()));
    ensure!(
        !secrets.chain([SECRET]).any(|secret| written.contains(secret)),
        "it wrote a secret into its log"
    );
    Check { recording: &recording, expected: &expected, before, after, asked, now }.all()?;
    Ok(expected.rules)
}

struct Load<'a> {
    recording: &'a Recording,
    issuer: &'a str,
    tokens: &'a BTreeMap<String, String>,
    shift: i64,
}

impl Load<'_> {
    async fn all(&self, database: &Database) -> Result<()> {
        let some = |text: &str| Some(text.to_owned());
        let provider = [
            ("name", some("rig")),
            ("issuer", some(self.issuer)),
            ("client_id", some("fts")),
            ("client_secret", some("x")),
        ];
        database.insert("t_token_provider", &provider).await?;
        let before = &self.recording.before;
        for (table, rows) in [("t_token", &before.tokens), ("t_job", &before.jobs), ("t_file", &before.files)]
        {
            for row in rows {
                let row: Vec<_> = row
                    .iter()
                    .map(|(column, value)| Ok((column.as_str(), self.value(column, value)?)))
                    .collect::<Result<_>>()?;
                database.insert(table, &row).await?;
            }
        }
        // What the user did while the files waited.
        for job in &self.recording.after.jobs {
            let id = text(job, "job_id").unwrap_or_default();
            if cancelled(self.recording, id) {
                for column in ["job_state", "cancel_job", "reason", "job_finished"] {
                    let value = job.get(column).map(|value| self.value(column, value)).transpose()?.flatten();
                    let sql = format!("UPDATE t_job SET {column} = ? WHERE job_id = ?");
                    database.run(&sql, &[value, some(id)]).await?;
                }
            }
        }
        Ok(())
    }

    /// As it would be today.
    fn value(&self, column: &str, value: &Value) -> Result<Option<String>> {
        Ok(match value {
            Value::Null => None,
            Value::String(placeholder) if column == "access_token" => {
                let label = label(placeholder).context("the label of a token")?;
                Some(self.tokens.get(label).with_context(|| format!("the claims of {label}"))?.clone())
            }
            Value::String(_) if column == "issuer" => Some(self.issuer.to_owned()),
            Value::String(text) => Some(shifted(text, self.shift).unwrap_or_else(|| text.clone())),
            other => Some(other.to_string()),
        })
    }
}

/// A time, `YYYY-MM-DDTHH:MM:SS`, moved by seconds.
fn shifted(text: &str, by: i64) -> Option<String> {
    let recorded = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let written = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let at = PrimitiveDateTime::parse(text, recorded).ok()?.assume_utc().unix_timestamp();
    OffsetDateTime::from_unix_timestamp(at + by).ok()?.format(written).ok()
}

pub(crate) fn config(folder: &Path) -> PathBuf {
    folder.join("token-exchange.toml")
}

fn configure(folder: &Path, database: &Database, issuer: &str) -> Result<()> {
    std::fs::write(folder.join("secret"), SECRET)?;
    let config = format!(
        "[fts]\ndatabase = \"{}\"\n[[issuer]]\nurl = \"{issuer}\"\nclient_id = \"fts\"\nclient_secret_file = \"{}\"\n\
         plain_http_on_loopback = true\nretry_total_s = 0\ntimeout_s = 30\n",
        database.url(),
        folder.join("secret").display()
    );
    Ok(std::fs::write(self::config(folder), config)?)
}

async fn worker(program: &Path, folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.arg("--config").arg(config(folder)).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    ended.context("it did not end within a minute")?.context("starting it")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

struct Check<'a> {
    recording: &'a Recording,
    expected: &'a Expected,
    before: Seen,
    after: Seen,
    asked: Vec<Asked>,
    now: i64,
}

impl Check<'_> {
    fn all(&self) -> Result<()> {
        for file in &self.expected.files {
            self.file(file).with_context(|| format!("file {}", file.id))?;
        }
        for (job, state) in &self.expected.jobs {
            self.job(job, state).with_context(|| format!("job {job}"))?;
        }
        for (id, token) in &self.before.tokens {
            ensure!(self.after.tokens.get(id) == Some(token), "the row of token {id} was changed");
        }
        let ours = self.after.tokens.keys().filter(|id| !self.before.tokens.contains_key(*id)).count();
        let given = self.asked.iter().filter(|asked| asked.given.is_some()).count();
        ensure!(ours <= given, "{ours} token rows were added, and {given} tokens given");
        // Who asks for the same thing for two rows asks once.
        let questions: BTreeSet<_> = self.asked.iter().map(|asked| (&asked.audience, &asked.scope)).collect();
        ensure!(
            questions.len() == self.asked.len(),
            "the issuer was asked twice for the same token: {:?}",
            self.questions()
        );
        Ok(())
    }

    fn questions(&self) -> Vec<String> {
        self.asked.iter().map(|a| format!("{}: {} for {}", a.subject, a.scope, a.audience)).collect()
    }

    fn file(&self, file: &File) -> Result<()> {
        let before = self.before.files.get(&file.id).context("it was not loaded")?;
        let after = self.after.files.get(&file.id).context("it is gone")?;
        if !file.waited {
            ensure!(before == after, "it was not in TOKEN_PREP and was changed");
            return Ok(());
        }
        let [state, reason, finished, source, destination] = after;
        let state = state.as_deref().unwrap_or_default();
        let why = reason.as_deref().unwrap_or_default();
        ensure!(state == file.state, "it is {state} and should be {} ({why})", file.state);
        let ends = matches!(state, "FAILED" | "CANCELED");
        ensure!(finished.is_some() == ends, "its finish_time is {finished:?}");
        let released =
            !ends && state != "TOKEN_PREP" && !file.tokens.contains(&Token::Refused) && !self.spare(file);
        if !released {
            ensure!(before[3..] == after[3..], "its token ids were changed");
        }
        match state {
            "FAILED" => {
                let side = if file.tokens[0] == Token::Refused { "SOURCE" } else { "DESTINATION" };
                ensure!(
                    why.starts_with(&format!("[token-exchange] {side} token: ")),
                    "its reason is `{why}`"
                );
            }
            "CANCELED" => ensure!(why == "Job canceled by the user", "its reason is `{why}`"),
            "TOKEN_PREP" => {
                let (retry_at, message) =
                    self.after.leases.get(&file.job).context("its job was not put off")?;
                ensure!(
                    *retry_at > self.now && !message.is_empty(),
                    "it is tried again at {retry_at}: `{message}`"
                );
            }
            _ => {
                for (token, id, had) in
                    [(&file.tokens[0], source, &before[3]), (&file.tokens[1], destination, &before[4])]
                {
                    if released {
                        self.token(token, id.as_deref(), had.as_deref())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A row that will not run, because another of its job has failed for good.
    fn spare(&self, file: &File) -> bool {
        let failed = |other: &File| other.job == file.job && other.state == "FAILED";
        let kind = self.recording.before.job(&file.job).and_then(|row: &Row| text(row, "job_type"));
        kind == Some("H") && self.expected.files.iter().any(failed)
    }

    fn token(&self, expected: &Token, id: Option<&str>, had: Option<&str>) -> Result<()> {
        let id = id.context("it has no token")?;
        let stored = self.after.tokens.get(id).with_context(|| format!("its token {id} is not there"))?;
        let wanted = match expected {
            Token::Given => {
                ensure!(had == Some(id), "its token should have stayed {had:?} and is {id}");
                return Ok(());
            }
            Token::Exchanged(wanted) => wanted,
            other => bail!("it was released although its token is {other:?}"),
        };
        ensure!(had != Some(id), "its token {id} is the one that it was submitted with");
        ensure!(
            self.asked.iter().any(|asked| asked.given.as_deref() == Some(&stored.token)),
            "the issuer did not give {id}"
        );
        let scope: BTreeSet<String> = stored.scope.split(' ').map(str::to_owned).collect();
        if let Some((audience, rights)) = wanted {
            ensure!(
                stored.audience == *audience && scope == *rights,
                "{id} is for `{}`, `{}`",
                stored.audience,
                stored.scope
            );
        } else {
            ensure!(
                stored.audience.starts_with("https://") && !scope.contains("fts"),
                "{id} is for `{}`",
                stored.audience
            );
        }
        let [refresh, unmanaged, retired, _] = &stored.others;
        ensure!(
            refresh.is_none() && unmanaged.as_deref() == Some("1") && retired.as_deref() == Some("0"),
            "{id}: {:?}",
            stored.others
        );
        ensure!(
            shifted(&stored.expiry.replace(' ', "T"), 0) > shifted("1970-01-01T00:00:00", self.now),
            "{id} has ended"
        );
        Ok(())
    }

    fn job(&self, job: &str, expected: &str) -> Result<()> {
        let after = self.after.jobs.get(job).context("it is gone")?;
        let [state, finished] = after;
        ensure!(state.as_deref() == Some(expected), "it is {state:?} and should be {expected}");
        let had = self.before.jobs.get(job).context("it was not loaded")?;
        if had[0] == *state {
            ensure!(had == after, "its end was changed to {finished:?}");
        } else {
            ensure!(finished.is_some(), "it has no job_finished");
        }
        let waits = self.expected.files.iter().any(|file| file.job == job && file.state == "TOKEN_PREP");
        ensure!(waits == self.after.leases.contains_key(job), "a lease row stays exactly while a file waits");
        Ok(())
    }
}
