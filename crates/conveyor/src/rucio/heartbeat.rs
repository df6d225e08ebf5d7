//! Rucio's heartbeats: how the processes that work on one queue know of each other, and which part of it is whose.
//!
//! The rules are those of Rucio 41.5.1's daemons: a row a worker, kept under the SHA-256 of a name that all workers of one kind
//! share; those not older than ten times the renewal count, in order of host, process and thread. On start, rows of this host whose
//! process is gone are removed, and rows of any kind that are older than a day.

use aws_lc_rs::digest::{SHA256, digest};
use token_core::{UnixSeconds, hex};

use super::stamp::Stamp;
use super::statement::{Statement, Value};
use super::{DatabaseError, During as _, Rucio};
use crate::owner::alive;

/// How old a row of anybody's may get, in seconds.
const OLDEST_S: i64 = 86_400;

/// A kind of worker, and this process among them.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The name in words, e.g. `conveyor-submitter`.
    pub readable: String,
    /// The host.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// A worker that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// Its thread, as Python numbers them; 0 is ours.
    pub thread: i64,
}

impl Worker {
    fn executable(&self) -> String {
        hex(digest(&SHA256, self.readable.as_bytes()).as_ref())
    }

    fn is(&self, living: &Living) -> bool {
        living.host == self.host && living.pid == i64::from(self.pid) && living.thread == 0
    }

    /// Which of the living it is, from 0, and how many they are. Without a row of its own it is the first, as in Rucio.
    pub fn among(&self, living: &[Living]) -> (usize, usize) {
        (living.iter().position(|one| self.is(one)).unwrap_or(0), living.len())
    }
}

/// The name that Rucio's submitter goes by: with its activities as Python writes a sorted list of them.
pub fn submitter(activities: &[String]) -> String {
    let mut name = "conveyor-submitter".to_owned();
    if !activities.is_empty() {
        let mut sorted = activities.to_vec();
        sorted.sort();
        let shown: Vec<_> = sorted.iter().map(|activity| quoted(activity)).collect();
        name += &format!("--activities [{}]", shown.join(", "));
    }
    name
}

/// A text as Python shows it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\");
    match (text.contains('\''), text.contains('"')) {
        (true, false) => format!("\"{escaped}\""),
        _ => format!("'{}'", escaped.replace('\'', "\\'")),
    }
}

impl Rucio {
    /// Removes the rows of processes of this host that are gone, and old ones.
    ///
    /// # Errors
    /// When a statement fails; then nothing is removed.
    pub async fn bury_the_dead(&self, worker: &Worker, now: UnixSeconds) -> Result<(), DatabaseError> {
        const WHAT: &str = "removing heartbeats of the dead";
        let mut transaction = self.database.begin().await.during(WHAT)?;
        let here =
            Statement::new("SELECT DISTINCT pid FROM heartbeats WHERE executable = $1 AND hostname = $2")
                .with(worker.executable().as_str())
                .with(worker.host.as_str());
        for row in transaction.fetch(here).await.during(WHAT)? {
            let pid = row.integer(0).during(WHAT)?;
            if u32::try_from(pid).is_ok_and(alive) {
                continue;
            }
            let gone =
                Statement::new("DELETE FROM heartbeats WHERE executable = $1 AND hostname = $2 AND pid = $3");
            let gone = gone.with(worker.executable().as_str()).with(worker.host.as_str()).with(pid);
            transaction.execute(gone).await.during(WHAT)?;
        }
        let old = Statement::new("DELETE FROM heartbeats WHERE updated_at < $1");
        transaction.execute(old.with(&Stamp::from(UnixSeconds(now.0 - OLDEST_S)))).await.during(WHAT)?;
        transaction.commit().await.during(WHAT)
    }

    /// Renews this worker's row, or makes it.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn beat(&self, worker: &Worker, now: UnixSeconds) -> Result<(), DatabaseError> {
        const WHAT: &str = "writing a heartbeat";
        let now = Stamp::from(now);
        let mut query = Statement::new(
            "INSERT INTO heartbeats (executable, readable, hostname, pid, thread_id, thread_name, created_at, updated_at) ",
        );
        query.push("VALUES ").list([
            Value::from(worker.executable().as_str()),
            worker.readable.as_str().into(),
            worker.host.as_str().into(),
            i64::from(worker.pid).into(),
            Value::Literal("0"),
            Value::Literal("'conveyor'"),
            (&now).into(),
            (&now).into(),
        ]);
        query.push(
            " ON CONFLICT (executable, hostname, pid, thread_id) DO UPDATE SET updated_at = excluded.updated_at",
        );
        let mut transaction = self.database.begin().await.during(WHAT)?;
        transaction.execute(query).await.during(WHAT)?;
        transaction.commit().await.during(WHAT)
    }

    /// The workers of this kind whose row is not older than `life_s` seconds, in the order that numbers them.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn living(
        &self,
        worker: &Worker,
        life_s: i64,
        now: UnixSeconds,
    ) -> Result<Vec<Living>, DatabaseError> {
        const WHAT: &str = "reading heartbeats";
        let living = Statement::new(
            "SELECT hostname, pid, thread_id FROM heartbeats WHERE executable = $1 AND updated_at >= $2 \
             ORDER BY hostname, pid, thread_id",
        );
        let since = Stamp::from(UnixSeconds(now.0 - life_s));
        let rows = self.database.fetch(living.with(worker.executable().as_str()).with(&since)).await;
        let living = |row: &super::database::Row| {
            Ok(Living { host: row.get(0)?, pid: row.integer(1)?, thread: row.integer(2)? })
        };
        rows.during(WHAT)?.iter().map(living).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// Removes this worker's row.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn leave(&self, worker: &Worker) -> Result<(), DatabaseError> {
        const WHAT: &str = "removing our heartbeat";
        let gone = Statement::new(
            "DELETE FROM heartbeats WHERE executable = $1 AND hostname = $2 AND pid = $3 AND thread_id = 0",
        );
        let gone =
            gone.with(worker.executable().as_str()).with(worker.host.as_str()).with(i64::from(worker.pid));
        let mut transaction = self.database.begin().await.during(WHAT)?;
        transaction.execute(gone).await.during(WHAT)?;
        transaction.commit().await.during(WHAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_hashes_are_rucios() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let worker = Worker { readable: submitter(&[]), host: "h".into(), pid: 1 };
        assert_eq!(
            worker.executable(),
            "fa81ab44a6275b35b14ca86f358cb58f5cfe4509faf1b8d5491f4855308d5c2e",
            "observed"
        );
        assert_eq!(
            submitter(&names(&["User", "Data \"x\"", "it's"])),
            r#"conveyor-submitter--activities ['Data "x"', 'User', "it's"]"#
        );
    }

    #[test]
    fn a_worker_finds_its_place() {
        let worker = Worker { readable: "x".into(), host: "h".into(), pid: 7 };
        let living = |host: &str, pid, thread| Living { host: host.into(), pid, thread };
        let rows = [living("a", 7, 0), living("h", 7, 0), living("h", 7, 139_000)];
        assert_eq!(worker.among(&rows), (1, 3));
        assert_eq!(worker.among(&rows[..1]), (0, 1));
    }
}
