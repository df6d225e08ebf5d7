//! From a file's row in `TOKEN_PREP` to its release, while files keep coming; and what that costs the database.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::Row as _;
use tokio::runtime::Handle;

use super::rig::Files;
use super::{rig, verdict};

/// Files a second.
const RATE: usize = 200;
const SECONDS: usize = 20;
/// Files come in so many parts a second, each with two statements of ours.
const PARTS: usize = 20;

/// The times are those of two triggers, so that looking takes no statements.
const TRIGGERS: [&str; 3] = [
    "CREATE TABLE bench_times (file_id bigint PRIMARY KEY, came timestamp(6) NULL, went timestamp(6) NULL)",
    "CREATE TRIGGER bench_came AFTER INSERT ON t_file FOR EACH ROW INSERT INTO bench_times VALUES (NEW.file_id, sysdate(6), NULL)",
    "CREATE TRIGGER bench_went AFTER UPDATE ON t_file FOR EACH ROW UPDATE bench_times SET went = sysdate(6) \
     WHERE file_id = NEW.file_id AND OLD.file_state = 'TOKEN_PREP' AND NEW.file_state <> 'TOKEN_PREP'",
];

pub(crate) async fn arriving(server: &str, issuers: &Handle) -> Result<bool> {
    let rig = rig(server, issuers, 1).await?;
    rig.configure(0, "", "")?;
    for trigger in TRIGGERS {
        rig.run(trigger).await?;
    }
    let mut child = rig.worker(0, &[]).stderr(std::process::Stdio::null()).spawn()?;
    let some = |first, count| Files { first, count, in_a_job: 1, endpoints: 40, directories: 5, issuer: 0 };
    // The first files of each endpoint wait for their tokens.
    rig.submit(some(0, 400)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = rig.statements().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = rig.statements().await? - idle - 1;
    rig.run("DELETE FROM bench_times").await?;
    let (before, began) = (rig.statements().await?, Instant::now());
    let part = RATE / PARTS;
    for n in 0..SECONDS * PARTS {
        let due = began + Duration::from_secs(1) * u32::try_from(n)? / u32::try_from(PARTS)?;
        tokio::time::sleep_until(due.into()).await;
        rig.submit(some(1000 + n * part, part)).await?;
    }
    let waiting = "t_file WHERE file_state = 'TOKEN_PREP'";
    let mut own = i64::try_from(SECONDS * PARTS * 2)? + 1;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        own += 1;
        if rig.count(waiting).await? == 0 {
            break;
        }
        ensure!(Instant::now() < end, "files wait still");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let statements = rig.statements().await? - before - own;
    child.kill().await?;
    let sql = "SELECT CAST(timestampdiff(MICROSECOND, came, went) AS SIGNED) FROM bench_times ORDER BY 1";
    let rows = sqlx::query(sql).fetch_all(rig.pool()?).await?;
    let times: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    ensure!(times.len() == RATE * SECONDS, "{} files were timed", times.len());
    let at = |percent: usize| times[(times.len() - 1) * percent / 100] / 1000;
    #[expect(clippy::as_conversions, reason = "for people")]
    let a_file = statements as f64 / times.len() as f64;
    let well = at(99) < 1000 && a_file <= 0.1;
    println!(
        "{RATE} files/s arriving, one in a job, for {SECONDS} s: from TOKEN_PREP to SUBMITTED p50 {} ms, p90 {} ms, p99 {} ms, most {} ms \
         (fts_token: 20 to 30 s); {a_file:.3} statements a file; {:.1} statements/s when nothing waits  {}",
        at(50),
        at(90),
        at(99),
        at(100),
        idle as f64 / 5.0,
        verdict(well)
    );
    rig.database.remove().await?;
    Ok(well)
}
