//! Jobs that wait at the rig, as FTS writes them down, and what became of them.

use std::ops::Deref;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use token_core::AccessToken;

use super::{database, needed, rig};

/// `t_job.job_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Replicas,
    Hops,
}

/// The rig of the load tests, with jobs of every kind.
pub(crate) struct Rig(rig::Rig);

impl Deref for Rig {
    type Target = rig::Rig;

    fn deref(&self) -> &rig::Rig {
        &self.0
    }
}

/// One with so many issuers; none without a server.
pub(crate) async fn start(issuers: usize) -> Option<Rig> {
    let server = needed::needed(database::SERVER, "MariaDB")?;
    let rig = rig::Rig::start(server.to_str().unwrap(), issuers).await.unwrap();
    rig.configure(0, "retry_total_s = 0\ntimeout_s = 15", "").unwrap();
    Some(Rig(rig))
}

impl Rig {
    /// Another bearer, which FTS has stored.
    pub(crate) async fn bearer(&self, sub: &str, scope: &str) -> AccessToken {
        let issuer = &self.issuers[0];
        let bearer = issuer.mint(json!({"aud": "fts.example", "scope": scope, "sub": sub})).unwrap();
        self.run(&format!(
            "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience) \
             VALUES ('{}', '{}', '2037-01-01 00:00:00', '{}', '{scope}', 'fts.example')",
            bearer.fingerprint(),
            bearer.expose(),
            issuer.name()
        ))
        .await
        .unwrap();
        bearer
    }

    /// A job that was posted with a bearer only: of several sources or hops, the first row runs first.
    pub(crate) async fn job(&self, number: usize, kind: Kind, bearer: &AccessToken, files: &[[&str; 2]]) {
        let (job, id) = (format!("00000000-0000-0000-0000-{number:012}"), bearer.fingerprint());
        let letter = match kind {
            Kind::Plain => 'N',
            Kind::Replicas => 'R',
            Kind::Hops => 'H',
        };
        self.run(&format!(
            "INSERT INTO t_job (job_id, job_state, job_type) VALUES ('{job}', 'SUBMITTED', '{letter}')"
        ))
        .await
        .unwrap();
        for (at, [source, destination]) in files.iter().enumerate() {
            let planned = if at == 0 || kind == Kind::Plain { "SUBMITTED" } else { "NOT_USED" };
            self.run(&format!(
                "INSERT INTO t_file (job_id, file_state, file_state_initial, source_surl, dest_surl, src_token_id, dst_token_id) \
                 VALUES ('{job}', 'TOKEN_PREP', '{planned}', '{source}', '{destination}', '{id}', '{id}')"
            ))
            .await
            .unwrap();
        }
    }

    /// What a worker says that works until nothing is due; empty for nothing.
    pub(crate) async fn once(&self) -> String {
        self.once_at("endpoint").await
    }

    pub(crate) async fn once_at(&self, granularity: &str) -> String {
        let report: Value = self.0.once(granularity).await.unwrap();
        let done = ["released", "failed", "cancelled", "lost"].into_iter().filter(|what| report[what] != 0);
        done.map(|what| format!("{} {what}", report[what])).collect::<Vec<_>>().join(", ")
    }

    /// The states of all files, in the order of their ids.
    pub(crate) async fn states(&self) -> Vec<String> {
        let rows = self.database.rows(&["file_state"], "t_file ORDER BY file_id").await.unwrap();
        rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
    }

    /// Waits until there are so many rows of `what`.
    pub(crate) async fn until(&self, what: &str, rows: i64) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.count(what).await.unwrap() < rows {
            assert!(Instant::now() < end, "there never were {rows} of {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn end(self) {
        self.0.database.remove().await.unwrap();
    }
}
