//! Writing a submission down.

use std::collections::{HashMap, HashSet};

use sqlx::error::ErrorKind;
use token_core::UnixSeconds;

use super::answer::Refusal;
use super::caller::User;
use super::new_file::NewFile;
use super::schema::{Database, seconds, timestamp};
use super::sql::{Writing, statement};
use super::submission::Submission;
use super::tokens::NewToken;

/// Name of the host in `t_job.submit_host` and `t_file.transfer_host`.
pub(super) const HOST: &str = "fts-box.test";

/// An X.509 user has to have delegated a proxy that lives for another hour.
pub(super) async fn check_delegation(
    database: &Database,
    user: &User,
    now: UnixSeconds,
) -> Result<(), Refusal> {
    let row =
        statement("SELECT CAST(termination_time AS CHAR) FROM t_credential WHERE dlg_id = ? AND dn = ?")
            .bind(&user.delegation_id)
            .bind(&user.dn)
            .fetch_optional(&database.reader)
            .await?;
    let Some(end) = row.and_then(|row| seconds(row.get(0))) else {
        return Err(Refusal::delegation(format!("No delegation found for \"{}\"", user.dn)));
    };
    match end - now.0 {
        left if left <= 0 => {
            let words =
                format!("The delegated credentials expired {} seconds ago ({})", -left, user.delegation_id);
            Err(Refusal::delegation(words))
        }
        left if left < 3600 => {
            let words =
                format!("The delegated credentials has less than one hour left ({})", user.delegation_id);
            Err(Refusal::delegation(words))
        }
        _ => Ok(()),
    }
}

/// Storage elements that this VO may not use, and whether submissions are still taken.
pub(super) async fn banned(database: &Database, vo: &str) -> Result<HashMap<String, bool>, sqlx::Error> {
    let rows = statement("SELECT se, status FROM t_bad_ses WHERE vo IN (?, '*')")
        .bind(vo)
        .fetch_all(&database.reader)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get::<&str>(1) == "WAIT_AS")).collect())
}

/// How many files of this VO wait for each source towards `destination`.
pub(super) async fn queued(
    database: &Database,
    destination: &str,
    vo: &str,
) -> Result<HashMap<String, i64>, sqlx::Error> {
    let rows = statement("SELECT source_se, count(*) FROM t_file WHERE dest_se = ? AND vo_name = ? AND file_state = 'SUBMITTED' \
         GROUP BY source_se",
    )
    .bind(destination)
    .bind(vo)
    .fetch_all(&database.reader)
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Refuses issuers that `t_token_provider` does not have.
pub(super) async fn check_issuers(
    database: &Database,
    bearer: &str,
    tokens: &[NewToken],
) -> Result<(), Refusal> {
    let rows = statement("SELECT issuer FROM t_token_provider").fetch_all(&database.reader).await?;
    let known: HashSet<&str> = rows.iter().map(|row| row.get(0)).collect();
    let bearer = if bearer.ends_with('/') { bearer.to_owned() } else { format!("{bearer}/") };
    if !known.contains(bearer.as_str()) {
        return Err(Refusal::bad(format!("FTS access-token has unknown issuer: issuer={bearer}")));
    }
    match tokens.iter().find(|token| !known.contains(token.issuer.as_str())) {
        Some(token) => {
            Err(Refusal::bad(format!("Transfer access-token has unknown issuer: issuer={}", token.issuer)))
        }
        None => Ok(()),
    }
}

/// Writes the tokens, each for itself as FTS does (a job that is refused afterwards leaves them behind); of a token that is
/// there already, only `retired` is touched.
pub(super) async fn insert_tokens(
    database: &Database,
    tokens: &[NewToken],
    unmanaged: bool,
) -> Result<(), sqlx::Error> {
    for token in tokens {
        let half = token.not_before + (token.expiry - token.not_before).max(0) / 2;
        let id = token.token.fingerprint().to_string();
        let mut write = database.write().await?;
        let known = statement("UPDATE t_token SET retired = 0 WHERE token_id = ?")
            .bind(&id)
            .execute(&mut write)
            .await?;
        if known > 0 {
            write.commit().await?;
            continue;
        }
        statement(
            "INSERT INTO t_token (token_id, access_token, access_token_not_before, access_token_expiry, \
             access_token_refresh_after, issuer, scope, audience, unmanaged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id)
        .bind(token.token.expose())
        .bind(timestamp(UnixSeconds(token.not_before)))
        .bind(timestamp(UnixSeconds(token.expiry)))
        .bind(timestamp(UnixSeconds(half)))
        .bind(&token.issuer)
        .bind(&token.scope)
        .bind(&token.audience)
        .bind(i64::from(unmanaged))
        .execute(&mut write)
        .await?;
        write.commit().await?;
    }
    Ok(())
}

/// Writes the job and its files in one transaction. A file with a token that has no refresh token begins in TOKEN_PREP.
pub(super) async fn insert_job(
    database: &Database,
    submission: &Submission,
    user: &User,
    now: UnixSeconds,
) -> Result<(), Refusal> {
    let mut write = database.write().await?;
    let refreshable = refreshable(&mut write, submission).await?;
    if let Err(error) = job_row(&mut write, submission, user, now).await {
        return Err(match error.as_database_error() {
            Some(database) if database.is_unique_violation() => {
                conflict("The sid provided by the user is duplicated")
            }
            _ => error.into(),
        });
    }
    for file in &submission.files {
        let ready = |id: &Option<String>| {
            id.as_ref().is_some_and(|id| refreshable.contains(id) || submission.unmanaged.contains(id))
        };
        let waits = submission.prepared && !(ready(&file.source_token) && ready(&file.destination_token));
        let (state, initial) = if waits { ("TOKEN_PREP", file.state) } else { (file.state, "") };
        if let Err(error) = file_row(&mut write, submission, file, (state, initial), user).await {
            let words = match error.as_database_error().map(|error| error.kind()) {
                Some(ErrorKind::UniqueViolation) => twice(file),
                Some(ErrorKind::ForeignKeyViolation) => orphan(&mut write, file).await?,
                _ => return Err(error.into()),
            };
            return Err(conflict(&format!("The submission is duplicated {words}")));
        }
    }
    write.commit().await?;
    Ok(())
}

/// The statement that FTS shows with what its database says: part of the answer.
const INSERT: &str = "[SQL: INSERT INTO t_file (hashed_id, file_index, job_id, dest_surl_uuid, vo_name, source_se, dest_se, \
                      priority, file_state, source_surl, dest_surl, checksum, user_filesize, file_metadata, \
                      staging_metadata, archive_metadata, selection_strategy, activity, scitag, src_token_id, dst_token_id, \
                      file_state_initial) VALUES (...)]";

/// MariaDB's words for a destination that is being written already.
fn twice(file: &NewFile) -> String {
    let id = file.destination_id.as_deref().unwrap_or_default();
    let words = format!("Duplicate entry '{id}' for key 'dest_surl_uuid'");
    format!("(MySQLdb.IntegrityError) (1062, \"{words}\")\n{INSERT}")
}

/// MariaDB's words for a token that is not in the table.
async fn orphan(write: &mut Writing, file: &NewFile) -> Result<String, sqlx::Error> {
    let known = statement("SELECT 1 FROM t_token WHERE token_id = ?").bind(&file.source_token);
    let source_is_known = file.source_token.is_none() || known.fetch_optional(&mut *write).await?.is_some();
    let column = if source_is_known { "dst_token_id" } else { "src_token_id" };
    let words = format!(
        "Cannot add or update a child row: a foreign key constraint fails (`fts3`.`t_file`, CONSTRAINT `{column}` \
         FOREIGN KEY (`{column}`) REFERENCES `t_token` (`token_id`))"
    );
    Ok(format!("(MySQLdb.IntegrityError) (1452, '{words}')\n{INSERT}"))
}

fn conflict(message: &str) -> Refusal {
    Refusal::Json(axum::http::StatusCode::CONFLICT, message.to_owned())
}

/// Those of the submission's tokens that have a refresh token already.
async fn refreshable(write: &mut Writing, submission: &Submission) -> Result<HashSet<String>, sqlx::Error> {
    let ids: HashSet<&str> = submission
        .files
        .iter()
        .flat_map(|file| [&file.source_token, &file.destination_token])
        .filter_map(Option::as_deref)
        .collect();
    let rows = statement(
        "SELECT token_id FROM t_token WHERE refresh_token IS NOT NULL \
         AND token_id IN (??)",
    )
    .bind_all(ids)
    .fetch_all(&mut *write)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn job_row(
    write: &mut Writing,
    submission: &Submission,
    user: &User,
    now: UnixSeconds,
) -> Result<(), sqlx::Error> {
    let params = &submission.params;
    let (source, destination) = submission.ends();
    statement("INSERT INTO t_job (job_id, job_state, job_type, source_se, dest_se, user_dn, cred_id, vo_name, submit_time, \
         submit_host, priority, max_time_in_queue, internal_job_params, overwrite_flag, \
         copy_pin_lifetime, checksum_method, bring_online, retry, retry_delay, job_metadata, archive_timeout, \
         dst_file_report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&submission.job_id)
    .bind(submission.entry_state())
    .bind(submission.job_type)
    .bind(source)
    .bind(destination)
    .bind(&user.dn)
    .bind(&user.delegation_id)
    .bind(user.vos.first())
    .bind(timestamp(now))
    .bind(HOST)
    .bind(params.priority)
    .bind(params.max_time_in_queue)
    .bind(&params.internal)
    .bind(params.overwrite_flag)
    .bind(params.copy_pin_lifetime)
    .bind(&submission.checksum_method)
    .bind(params.bring_online)
    .bind(params.retry)
    .bind(params.retry_delay)
    .bind(&params.metadata)
    .bind(params.archive_timeout)
    .bind(if params.dst_file_report { "Y" } else { "" })
    .execute(&mut *write)
    .await
    .map(drop)
}

async fn file_row(
    write: &mut Writing,
    submission: &Submission,
    file: &NewFile,
    (state, initial): (&str, &str),
    user: &User,
) -> Result<(), sqlx::Error> {
    statement("INSERT INTO t_file (file_index, job_id, file_state, file_state_initial, source_surl, dest_surl, source_se, dest_se, \
         checksum, user_filesize, file_metadata, staging_metadata, archive_metadata, selection_strategy, hashed_id, vo_name, \
         activity, priority, scitag, src_token_id, dst_token_id, dest_surl_uuid) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(file.index)
    .bind(&submission.job_id)
    .bind(state)
    .bind(initial)
    .bind(&file.source.text)
    .bind(&file.destination.text)
    .bind(&file.source.storage)
    .bind(&file.destination.storage)
    .bind(file.checksum.as_deref().unwrap_or("ADLER32"))
    .bind(file.filesize)
    .bind(&file.metadata)
    .bind(&file.staging_metadata)
    .bind(&file.archive_metadata)
    .bind(&file.strategy)
    .bind(file.hashed_id)
    .bind(user.vos.first())
    .bind(&file.activity)
    .bind(submission.params.priority)
    .bind(file.scitag)
    .bind(&file.source_token)
    .bind(&file.destination_token)
    .bind(&file.destination_id)
    .execute(&mut *write)
    .await
    .map(drop)
}
