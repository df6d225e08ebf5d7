//! Reads queued requests, oldest first, and those whose claim is still open.

use std::collections::HashMap;

use token_core::UnixSeconds;

use super::database::Row;
use super::stamp::Stamp;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::owner::alive;
use crate::request::{Attributes, Replica, Request, RequestId};
use crate::share::Part;
use crate::topology::RseId;

const WHAT: &str = "reading queued requests";

/// How old a preparer's choice of source may be, in seconds (Rucio: six hours).
const PREPARED_LIFE_S: i64 = 6 * 3600;

/// After this many seconds a claim is taken for left behind, whoever made it: no post and its look-ups take as long.
const OLD_S: i64 = 900;

/// Where a walk over the queue has come to. What cannot be submitted stays behind it and blocks nobody.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    created_at: Stamp,
    id: RequestId,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { created_at: Stamp::earliest(), id: RequestId("0".repeat(32)) }
    }
}

/// An open claim: a row in `G` with the id of the job it was claimed for.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The request, with the sources it was claimed with as its replicas.
    pub request: Request,
    /// `external_id`.
    pub job: String,
    /// `external_host`.
    pub fts: String,
    /// `dest_url`.
    pub destination_url: String,
    /// URL by source.
    pub urls: HashMap<RseId, String>,
}

macro_rules! request_columns {
    () => {
        "r.id, r.scope, r.name, r.rule_id, r.activity, r.bytes, r.md5, r.adler32, r.account, r.attributes, r.priority, \
         r.dest_rse_id, r.source_rse_id, r.previous_attempt_id, r.requested_at, r.created_at, d.datatype"
    };
}

/// A request in any state: `WHERE …` follows.
pub(super) const REQUEST: &str = concat!(
    "SELECT ",
    request_columns!(),
    " FROM requests r LEFT JOIN dids d ON d.scope = r.scope AND d.name = r.name"
);

/// Rucio's own conditions: transfers in `Q` that no rule's end, closed destination or earlier hop holds back.
const PICK: &str = concat!(
    "SELECT ",
    request_columns!(),
    " FROM requests r \
     JOIN rses dest ON dest.id = r.dest_rse_id \
     LEFT JOIN rules ON rules.id = r.rule_id \
     LEFT JOIN dids d ON d.scope = r.scope AND d.name = r.name \
     WHERE r.state = 'Q' AND r.request_type = 'T' \
     AND (r.transfertool IS NULL OR r.transfertool = 'fts3') \
     AND NOT dest.deleted AND dest.vo = $1 \
     AND (rules.id IS NULL OR rules.child_rule_id IS NOT NULL OR rules.expires_at IS NULL OR rules.expires_at > $2) \
     AND NOT EXISTS (SELECT 1 FROM transfer_hops h WHERE h.next_hop_request_id = r.id) \
     AND (r.created_at > $3 OR (r.created_at = $3 AND r.id > $4))"
);

const CLAIMED: &str = concat!(
    "SELECT ",
    request_columns!(),
    ", r.external_id, r.external_host, r.dest_url, r.last_processed_by, r.updated_at FROM requests r \
     JOIN rses dest ON dest.id = r.dest_rse_id AND dest.vo = $1 \
     LEFT JOIN dids d ON d.scope = r.scope AND d.name = r.name \
     WHERE r.state = 'G' AND r.request_type = 'T' AND r.external_id IS NOT NULL AND r.external_host IS NOT NULL \
     AND r.dest_url IS NOT NULL ORDER BY r.external_id, r.created_at, r.id"
);

impl Rucio {
    /// The next `limit` requests of this part of the queue after `cursor` with their replicas, and where to go on; `None` at the end of the queue.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn pick(
        &self,
        cursor: &Cursor,
        part: &Part,
        limit: u32,
        now: UnixSeconds,
    ) -> Result<Option<(Vec<Request>, Cursor)>, DatabaseError> {
        let mut pick = Statement::new(PICK)
            .with(self.vo.as_str())
            .with(&Stamp::from(now))
            .with(&cursor.created_at)
            .with(&cursor.id);
        self.narrow(&mut pick, part);
        pick.push(" ORDER BY r.created_at, r.id LIMIT ").bind(i64::from(limit));
        let rows = self.database.fetch(pick).await.during(WHAT)?;
        let Some(last) = rows.last() else { return Ok(None) };
        let next =
            Cursor { created_at: last.time(15).during(WHAT)?, id: RequestId(last.id(0).during(WHAT)?) };
        let mut requests =
            rows.iter().map(|row| request(row, now)).collect::<Result<Vec<_>, _>>().during(WHAT)?;
        let mut replicas = self.replicas(&requests).await?;
        for request in &mut requests {
            request.replicas = replicas.remove(&request.id).unwrap_or_default();
        }
        Ok(Some((requests, next)))
    }

    /// Available replicas at other RSEs, with the ranking that earlier tries gave them.
    pub(super) async fn replicas(
        &self,
        requests: &[Request],
    ) -> Result<HashMap<RequestId, Vec<Replica>>, DatabaseError> {
        let mut query = Statement::new(
            "SELECT r.id, rep.rse_id, rep.path, coalesce(s.ranking, 0) FROM requests r \
             JOIN replicas rep ON rep.scope = r.scope AND rep.name = r.name AND rep.state = 'A' \
             AND rep.rse_id <> r.dest_rse_id \
             JOIN rses ON rses.id = rep.rse_id AND NOT rses.deleted \
             LEFT JOIN sources s ON s.request_id = r.id AND s.rse_id = rep.rse_id WHERE r.id IN ",
        );
        query.list(requests.iter().map(|request| &request.id)).push(" ORDER BY rep.rse_id");
        let mut replicas: HashMap<RequestId, Vec<Replica>> = HashMap::new();
        for row in self.database.fetch(query).await.during("reading replicas")? {
            let replica = Replica {
                rse: RseId(row.id(1).during(WHAT)?),
                path: row.get(2).during(WHAT)?,
                ranking: row.integer(3).during(WHAT)?,
            };
            replicas.entry(RequestId(row.id(0).during(WHAT)?)).or_default().push(replica);
        }
        Ok(replicas)
    }

    /// The VO's open claims that nobody works on any more: of this process from an earlier pass, of a dead process of this host, or
    /// old ones. Rucio's own submitter leaves `external_id` empty in `G`, so its rows are not among them.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn open_claims(&self, now: UnixSeconds) -> Result<Vec<Claimed>, DatabaseError> {
        const WHAT: &str = "reading open claims";
        let mut claims = Vec::new();
        let ago = Stamp::from(UnixSeconds(now.0 - OLD_S));
        for row in self.database.fetch(Statement::new(CLAIMED).with(self.vo.as_str())).await.during(WHAT)? {
            let mark: Option<String> = row.get(20).during(WHAT)?;
            let claimed_at = row.time(21).during(WHAT)?;
            if !self.owner.may_resolve(mark.as_deref(), claimed_at < ago, alive) {
                continue;
            }
            let mut request = request(&row, now).during(WHAT)?;
            let sources = Statement::new(
                "SELECT rse_id, url, coalesce(ranking, 0) FROM sources \
                 WHERE request_id = $1 AND is_using AND url IS NOT NULL",
            );
            let mut urls = HashMap::new();
            for source in self.database.fetch(sources.with(&request.id)).await.during(WHAT)? {
                let rse = RseId(source.id(0).during(WHAT)?);
                urls.insert(rse.clone(), source.get(1).during(WHAT)?);
                let ranking = source.integer(2).during(WHAT)?;
                request.replicas.push(Replica { rse, path: None, ranking });
            }
            claims.push(Claimed {
                job: row.get(17).during(WHAT)?,
                fts: row.get(18).during(WHAT)?,
                destination_url: row.get(19).during(WHAT)?,
                request,
                urls,
            });
        }
        Ok(claims)
    }
}

pub(super) fn request(row: &Row, now: UnixSeconds) -> Result<Request, sqlx::Error> {
    let attributes: Option<String> = row.get(9)?;
    let retried = row.optional_id(13)?;
    let requested_at = row.optional_time(14)?;
    // Rucio keeps a failed attempt's source in the new request; only a first attempt's is a preparer's choice.
    let young = requested_at.is_none_or(|at| at > Stamp::from(UnixSeconds(now.0 - PREPARED_LIFE_S)));
    let prepared = row.optional_id(12)?;
    Ok(Request {
        id: RequestId(row.id(0)?),
        scope: row.get::<Option<_>>(1)?.unwrap_or_default(),
        name: row.get::<Option<_>>(2)?.unwrap_or_default(),
        rule_id: row.optional_id(3)?,
        activity: row.get(4)?,
        bytes: row.optional_integer(5)?,
        md5: row.get(6)?,
        adler32: row.get(7)?,
        account: row.get(8)?,
        attributes: Attributes::parse(attributes.as_deref()),
        priority: row.optional_integer(10)?,
        destination: RseId(row.id(11)?),
        prepared_source: prepared.map(RseId).filter(|_| young && retried.is_none()),
        datatype: row.get(16)?,
        replicas: Vec::new(),
    })
}
