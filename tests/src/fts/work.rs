//! One transfer, from READY to its end, in the database.

use std::sync::Arc;
use std::time::Duration;

use token_core::AccessToken;

use super::Inner;
use super::attempt::{Attempt, Ended, Refresh};
use super::change::TERMINAL;
use super::dav::Dav;
use super::failure::Failure;
use super::job_state;
use super::refresh::Question;
use super::schema::timestamp;
use super::sql::{Row, Writing, statement};
use super::store::HOST;

/// What the end of a file needs of its rows.
struct File {
    id: i64,
    index: i64,
    job_id: String,
    job_type: String,
    retry: i64,
    max_retry: i64,
    retry_delay: i64,
}

/// Runs one attempt of a file that is READY.
pub(super) async fn run(fts: &Inner, dav: &Dav, file_id: i64) -> Result<(), sqlx::Error> {
    let Some((file, attempt)) = start(fts, file_id).await? else { return Ok(()) };
    let ended = attempt.run(dav).await;
    // Another process writes too, and a server may undo a transaction that stood in its way.
    for pause in [10, 50, 200, 1000] {
        match finish(fts, &file, &ended).await {
            Err(error) => tracing::debug!(%error, file_id, "the end of a transfer is written once more"),
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    finish(fts, &file, &ended).await
}

/// READY to ACTIVE. The tokens are read here: what stands in `t_token` now is used to the end of the attempt, however old
/// it is.
async fn start(fts: &Inner, file_id: i64) -> Result<Option<(File, Attempt)>, sqlx::Error> {
    let mut write = fts.database.write().await?;
    let changed = statement(
        "UPDATE t_file SET file_state = 'ACTIVE', start_time = ? WHERE file_id = ? AND file_state = 'READY'",
    )
    .bind(timestamp(fts.clock.now()))
    .bind(file_id)
    .execute(&mut write)
    .await?;
    if changed == 0 {
        return Ok(None);
    }
    let row = statement("SELECT f.file_id, f.file_index, f.job_id, j.job_type, f.retry, j.retry, j.retry_delay, f.source_surl, \
         f.dest_surl, s.access_token, d.access_token, f.user_filesize, f.checksum, j.checksum_method, j.overwrite_flag, \
         j.internal_job_params, (SELECT max(file_index) FROM t_file WHERE job_id = f.job_id), \
         CASE WHEN s.unmanaged = 1 THEN NULL ELSE f.src_token_id END, \
         CASE WHEN d.unmanaged = 1 THEN NULL ELSE f.dst_token_id END \
         FROM t_file f JOIN t_job j ON j.job_id = f.job_id LEFT JOIN t_token s ON s.token_id = f.src_token_id \
         LEFT JOIN t_token d ON d.token_id = f.dst_token_id WHERE f.file_id = ?",
    )
    .bind(file_id)
    .fetch_one(&mut write)
    .await?;
    write.commit().await?;
    let file = File {
        id: row.get(0),
        index: row.get(1),
        job_id: row.get(2),
        job_type: row.get(3),
        retry: row.get(4),
        max_retry: row.get(5),
        retry_delay: row.get(6),
    };
    let attempt = attempt(fts, &row, &file);
    Ok(Some((file, attempt)))
}

fn attempt(fts: &Inner, row: &Row, file: &File) -> Attempt {
    let token = |index: usize| row.get::<Option<&str>>(index).and_then(|text| AccessToken::new(text).ok());
    let text = |index: usize| row.get::<Option<&str>>(index).unwrap_or_default();
    let overwrite = match text(14) {
        "Y" => true,
        "R" => file.retry > 0,
        "M" | "Q" => file.index < row.get::<i64>(16),
        _ => false,
    };
    Attempt {
        source: text(7).to_owned(),
        destination: text(8).to_owned(),
        source_token: token(9),
        destination_token: token(10),
        user_filesize: u64::try_from(row.get::<Option<i64>>(11).unwrap_or(0)).unwrap_or(0),
        checksum: text(12).to_owned(),
        verify_source: matches!(text(13), "s" | "b"),
        verify_target: matches!(text(13), "t" | "b"),
        overwrite,
        strict: text(15).split(',').any(|param| param == "strict"),
        refresh: fts.config.refresh.clone().map(|settings| Refresh {
            settings,
            clock: Arc::clone(&fts.clock),
            source: question(row.get(17), file),
            destination: question(row.get(18), file),
        }),
    }
}

/// What is asked for a managed token.
fn question(token_id: Option<String>, file: &File) -> Option<Question> {
    Some(Question {
        token_id: token_id?,
        job_id: file.job_id.clone(),
        file_id: u64::try_from(file.id).unwrap_or(0),
        hostname: HOST.to_owned(),
        process_id: i32::try_from(std::process::id()).unwrap_or(0),
    })
}

/// Writes the end of an attempt: the file, its retry or its followers, and the job.
async fn finish(fts: &Inner, file: &File, ended: &Ended) -> Result<(), sqlx::Error> {
    let now = fts.clock.now();
    let mut write = fts.database.write().await?;
    let state = statement("SELECT file_state FROM t_file WHERE file_id = ?")
        .bind(file.id)
        .fetch_one(&mut write)
        .await?;
    if state.get::<&str>(0) != "ACTIVE" {
        // Cancelled meanwhile: that stands.
        return Ok(());
    }
    match &ended.result {
        Err(failure) if failure.recoverable && file.retry < file.max_retry => {
            let wait = Duration::from_secs(u64::try_from(file.retry_delay).unwrap_or(0));
            let (now, due) = (timestamp(now), timestamp(now.plus(wait)));
            retry(&mut write, file, failure, &now, &due).await?;
        }
        result => {
            let now = timestamp(now);
            close(&mut write, file, ended, &now).await?;
            follow(&mut write, file, result.is_ok()).await?;
            close_job(&mut write, file, &now).await?;
        }
    }
    write.commit().await
}

async fn retry(
    write: &mut Writing,
    file: &File,
    failure: &Failure,
    now: &str,
    due: &str,
) -> Result<(), sqlx::Error> {
    statement(
        "REPLACE INTO t_file_retry_errors (file_id, attempt, datetime, reason, transfer_host) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(file.id)
    .bind(file.retry + 1)
    .bind(now)
    .bind(reason(failure))
    .bind(HOST)
    .execute(&mut *write)
    .await?;
    statement("UPDATE t_file SET file_state = 'SUBMITTED', reason = '', retry = retry + 1, retry_timestamp = ?, start_time = NULL, \
         transfer_host = NULL, pid = NULL, throughput = 0, current_failures = 1 WHERE file_id = ?",
    )
    .bind(due)
    .bind(file.id)
    .execute(&mut *write)
    .await
    .map(drop)
}

async fn close(write: &mut Writing, file: &File, ended: &Ended, now: &str) -> Result<(), sqlx::Error> {
    let size = i64::try_from(ended.size).unwrap_or(i64::MAX);
    let seconds = ended.copying.as_secs_f64();
    let (state, reason, recoverable) = match &ended.result {
        Ok(()) => ("FINISHED", String::new(), false),
        Err(failure) => ("FAILED", reason(failure), failure.recoverable),
    };
    let moved = if ended.result.is_ok() { size } else { 0 };
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let mebibytes = moved as f64 / 1_048_576.0;
    statement("UPDATE t_file SET file_state = ?, reason = ?, current_failures = ?, filesize = ?, transferred = ?, tx_duration = ?, \
         throughput = ?, finish_time = ?, dest_surl_uuid = NULL WHERE file_id = ?",
    )
    .bind(state)
    .bind(reason)
    .bind(i64::from(recoverable))
    .bind(size)
    .bind(moved)
    .bind((seconds * 1000.0).round() / 1000.0)
    .bind(if seconds > 0.0 { mebibytes / seconds } else { 0.0 })
    .bind(now)
    .bind(file.id)
    .execute(&mut *write)
    .await
    .map(drop)
}

/// Lets the next replica or hop begin. A row that is still in TOKEN_PREP is passed over for good (observed).
async fn follow(write: &mut Writing, file: &File, success: bool) -> Result<(), sqlx::Error> {
    let (sql, index) = match (file.job_type.as_str(), success) {
        ("R", false) => (
            "UPDATE t_file SET file_state = 'SUBMITTED' WHERE file_id = (SELECT file_id FROM t_file \
             WHERE job_id = ? AND file_index = ? AND file_state = 'NOT_USED' ORDER BY file_id LIMIT 1)",
            file.index,
        ),
        ("H", true) => (
            "UPDATE t_file SET file_state = 'SUBMITTED' WHERE job_id = ? AND file_index = ? AND file_state = 'NOT_USED'",
            file.index + 1,
        ),
        _ => return Ok(()),
    };
    statement(sql).bind(&file.job_id).bind(index).execute(&mut *write).await.map(drop)
}

/// Ends the job when its files say so, unless it is at its end already.
async fn close_job(write: &mut Writing, file: &File, now: &str) -> Result<(), sqlx::Error> {
    let job = statement("SELECT job_state FROM t_job WHERE job_id = ?")
        .bind(&file.job_id)
        .fetch_one(&mut *write)
        .await?;
    if TERMINAL.contains(&job.get::<&str>(0)) {
        return Ok(());
    }
    let rows = statement("SELECT file_state FROM t_file WHERE job_id = ?")
        .bind(&file.job_id)
        .fetch_all(&mut *write)
        .await?;
    let states: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let Some((state, reason)) = job_state::end(&file.job_type, &states) else { return Ok(()) };
    statement("UPDATE t_job SET job_state = ?, reason = ?, job_finished = ? WHERE job_id = ?")
        .bind(state)
        .bind(reason)
        .bind(now)
        .bind(&file.job_id)
        .execute(&mut *write)
        .await
        .map(drop)
}

/// As much as the column takes.
fn reason(failure: &Failure) -> String {
    failure.to_string().chars().take(2048).collect()
}
