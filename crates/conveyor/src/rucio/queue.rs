//! Reads queued requests, oldest first, and those whose claim is still open.

use std::collections::HashMap;

use token_core::UnixSeconds;

use super::database::Row;
use super::stamp::Stamp;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::owner::alive;
use crate::request::{Attributes, Replica, Request, RequestId, RequestKey};
use crate::share::Part;
use crate::topology::RseId;

const WHAT: &str = "reading queued requests";

/// How old a preparer's choice of source may be, in seconds (Rucio: six hours).
const PREPARED_LIFE_S: i64 = 6 * 3600;

/// After this many seconds a claim is taken for left behind, whoever made it: no post and its look-ups take as long.
const OLD_S: i64 = 900;
/// How long what a submitter of Rucio's own has looked at is its own, as among several of those.
pub(crate) const IN_HAND_S: i64 = 600;
/// A stamp further ahead is of a host whose local time is not UTC (Rucio writes local time), and tells nothing.
pub(crate) const AHEAD_S: i64 = 60;

/// The sources of so many claims are read at a time.
const SOURCES: usize = 2000;

/// How many requests of the queue a walk reads ahead, by id alone. There is no index on age, so each time the whole queue is sorted.
const WINDOW: i64 = 200_000;

/// Where a walk over the queue has come to, in order of age. What cannot be submitted stays behind it and blocks nobody.
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

/// The next requests in order of age.
#[derive(Clone, Debug)]
pub struct Window {
    /// Their ids.
    pub keys: Vec<RequestKey>,
    /// Where it goes on.
    pub next: Cursor,
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
    /// `updated_at`.
    pub claimed_at: Stamp,
}

macro_rules! request_columns {
    () => {
        "r.id, r.scope, r.name, r.rule_id, r.activity, r.bytes, r.md5, r.adler32, r.account, r.attributes, r.priority, \
         r.dest_rse_id, r.source_rse_id, r.previous_attempt_id, r.requested_at, r.created_at, d.datatype, r.retry_count"
    };
}

/// A request in any state: `WHERE …` follows.
pub(super) const REQUEST: &str = concat!(
    "SELECT ",
    request_columns!(),
    " FROM requests r LEFT JOIN dids d ON d.scope = r.scope AND d.name = r.name"
);

/// Rucio's own conditions, as far as they can be told without other large tables: transfers in `Q` whose destination is open. `$1` is the
/// VO.
macro_rules! queued {
    () => {
        " JOIN rses dest ON dest.id = r.dest_rse_id WHERE r.request_type = 'T' AND r.state = 'Q' \
         AND (r.transfertool IS NULL OR r.transfertool = 'fts3') \
         AND NOT dest.deleted AND dest.vo = $1"
    };
}

/// Ids only: the next in order of age.
const OLDEST: &str = concat!(
    "SELECT r.id, r.created_at FROM requests r",
    queued!(),
    " AND (r.created_at > $2 OR (r.created_at = $2 AND r.id > $3))"
);

const ACTIVITIES: &str =
    concat!("SELECT DISTINCT r.activity FROM requests r", queued!(), " ORDER BY r.activity");

/// Ids only: those that came to the queue lately. Whatever puts a request there sets `updated_at`, and that has an index.
const ARRIVED: &str = concat!("SELECT r.id FROM requests r", queued!(), " AND r.updated_at > $2");

/// The rest of Rucio's conditions: no rule's end and no earlier hop holds it back.
const READ: &str =
    concat!("SELECT ", request_columns!(), " FROM (SELECT r.* FROM requests r", queued!(), " AND r.id");
const READ_JOINS: &str = ") AS r \
     LEFT JOIN rules ON rules.id = r.rule_id \
     LEFT JOIN dids d ON d.scope = r.scope AND d.name = r.name \
     WHERE (rules.id IS NULL OR rules.child_rule_id IS NOT NULL OR rules.expires_at IS NULL OR rules.expires_at > $2) \
     AND NOT EXISTS (SELECT 1 FROM transfer_hops h WHERE h.next_hop_request_id = r.id)";

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
    /// The ids of the next requests of this part of the queue in order of age, a window's worth, and where to go on; `None` at the end of the queue.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn oldest(&self, part: &Part, cursor: &Cursor) -> Result<Option<Window>, DatabaseError> {
        let mut oldest =
            Statement::new(OLDEST).with(self.vo.as_str()).with(&cursor.created_at).with(&cursor.id);
        self.narrow(&mut oldest, part);
        oldest.push(" ORDER BY r.created_at, r.id LIMIT ").bind(WINDOW);
        let (mut keys, mut last) = (Vec::new(), None);
        let each = self.database.each(oldest, |row| {
            keys.push(RequestKey::of(&row.id(0)?));
            last = Some(row);
            Ok(())
        });
        each.await.during(WHAT)?;
        let Some(last) = last else { return Ok(None) };
        let next = Cursor { created_at: last.time(1).during(WHAT)?, id: RequestId(last.id(0).during(WHAT)?) };
        Ok(Some(Window { keys, next }))
    }

    /// The activities that have requests in this VO's queue.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn activities(&self) -> Result<Vec<String>, DatabaseError> {
        let statement = Statement::new(ACTIVITIES).with(self.vo.as_str());
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        let names: Result<Vec<Option<String>>, _> = rows.iter().map(|row| row.get(0)).collect();
        Ok(names.during(WHAT)?.into_iter().flatten().collect())
    }

    /// The ids of requests of this part that came to the queue after `since`, at most a window's worth.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn arrived(&self, part: &Part, since: UnixSeconds) -> Result<Vec<RequestKey>, DatabaseError> {
        let mut arrived = Statement::new(ARRIVED).with(self.vo.as_str()).with(&Stamp::from(since));
        self.narrow(&mut arrived, part);
        arrived.push(" ORDER BY r.updated_at LIMIT ").bind(WINDOW);
        let mut keys = Vec::new();
        let each = self.database.each(arrived, |row| {
            keys.push(RequestKey::of(&row.id(0)?));
            Ok(())
        });
        each.await.during(WHAT)?;
        Ok(keys)
    }

    /// Those of these requests that may be submitted now, with their replicas, oldest first.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn read(
        &self,
        part: &Part,
        keys: &[RequestKey],
        now: UnixSeconds,
    ) -> Result<Vec<Request>, DatabaseError> {
        let ids: Vec<_> = keys.iter().map(RequestKey::id).collect();
        let mut read = Statement::new(READ).with(self.vo.as_str()).with(&Stamp::from(now));
        read.among(&ids);
        self.narrow(&mut read, part);
        read.push(READ_JOINS);
        if self.waits_for_python {
            // What a submitter of Rucio's own has just taken in hand it would else find gone, and drop the group that it made of it.
            read.push(" AND (r.last_processed_by IS NULL OR r.last_processed_by <> 'conveyor-submitter' OR r.last_processed_at IS NULL");
            read.push(" OR r.last_processed_at <= ").bind(&Stamp::from(UnixSeconds(now.0 - IN_HAND_S)));
            read.push(" OR r.last_processed_at > ")
                .bind(&Stamp::from(UnixSeconds(now.0 + AHEAD_S)))
                .push(")");
        }
        read.push(" ORDER BY r.created_at, r.id");
        let rows = self.database.fetch(read).await.during(WHAT)?;
        let mut requests =
            rows.iter().map(|row| request(row, now)).collect::<Result<Vec<_>, _>>().during(WHAT)?;
        drop(rows);
        let mut replicas = self.replicas(&requests).await?;
        let mut parents = self.parents(&requests).await?;
        for request in &mut requests {
            request.replicas = replicas.remove(&request.id).unwrap_or_default();
            request.parent = parents.remove(&request.id);
        }
        Ok(requests)
    }

    /// Available replicas at other RSEs, the oldest first, with the ranking that earlier tries gave them.
    pub(super) async fn replicas(
        &self,
        requests: &[Request],
    ) -> Result<HashMap<RequestId, Vec<Replica>>, DatabaseError> {
        let mut query = Statement::new(
            "SELECT r.id, rep.rse_id, rep.path, coalesce(s.ranking, 0) FROM requests r \
             JOIN replicas rep ON rep.scope = r.scope AND rep.name = r.name AND rep.state = 'A' \
             AND rep.rse_id <> r.dest_rse_id \
             JOIN rses ON rses.id = rep.rse_id AND NOT rses.deleted \
             LEFT JOIN sources s ON s.request_id = r.id AND s.rse_id = rep.rse_id WHERE r.id",
        );
        query.among(requests.iter().map(|request| &request.id)).push(" ORDER BY rep.created_at, rep.rse_id");
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

    /// A dataset of each file whose path at its destination is made of one and whose request names none.
    pub(super) async fn parents(
        &self,
        requests: &[Request],
    ) -> Result<HashMap<RequestId, String>, DatabaseError> {
        let unnamed = |request: &&Request| request.attributes.text("ds_name").is_none_or(str::is_empty);
        let unnamed: Vec<_> = requests.iter().filter(unnamed).map(|request| &request.id).collect();
        if unnamed.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = Statement::new(
            "SELECT r.id, c.name FROM requests r JOIN rses ON rses.id = r.dest_rse_id AND NOT rses.deterministic \
             JOIN contents c ON c.child_scope = r.scope AND c.child_name = r.name AND c.did_type = 'D' WHERE r.id",
        );
        query.among(unnamed).push(" ORDER BY c.scope DESC, c.name DESC");
        let rows = self.database.fetch(query).await.during("reading datasets")?;
        let parent = |row: &Row| Ok((RequestId(row.id(0)?), row.get(1)?));
        rows.iter().map(parent).collect::<Result<_, sqlx::Error>>().during(WHAT)
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
            let mark: Option<String> = row.get(21).during(WHAT)?;
            let claimed_at = row.time(22).during(WHAT)?;
            if !self.owner.may_resolve(mark.as_deref(), claimed_at < ago, alive) {
                continue;
            }
            claims.push(Claimed {
                job: row.get(18).during(WHAT)?,
                fts: row.get(19).during(WHAT)?,
                destination_url: row.get(20).during(WHAT)?,
                request: request(&row, now).during(WHAT)?,
                urls: HashMap::new(),
                claimed_at,
            });
        }
        for claims in claims.chunks_mut(SOURCES) {
            let mut at: HashMap<RequestId, &mut Claimed> =
                claims.iter_mut().map(|claimed| (claimed.request.id.clone(), claimed)).collect();
            let mut sources = Statement::new(
                "SELECT s.request_id, s.rse_id, s.url, coalesce(s.ranking, 0) FROM sources s \
                 JOIN requests r ON r.id = s.request_id AND r.dest_rse_id = s.dest_rse_id \
                 JOIN replicas rep ON rep.scope = s.scope AND rep.name = s.name AND rep.rse_id = s.rse_id \
                 WHERE s.is_using AND s.url IS NOT NULL AND s.request_id",
            );
            // Where it goes in several hops, the sources of the others stand there too, each with its own destination.
            sources.among(at.keys()).push(" ORDER BY rep.created_at, rep.rse_id");
            for source in self.database.fetch(sources).await.during(WHAT)? {
                let Some(claimed) = at.get_mut(&RequestId(source.id(0).during(WHAT)?)) else { continue };
                let rse = RseId(source.id(1).during(WHAT)?);
                claimed.urls.insert(rse.clone(), source.get(2).during(WHAT)?);
                let ranking = source.integer(3).during(WHAT)?;
                claimed.request.replicas.push(Replica { rse, path: None, ranking });
            }
        }
        Ok(claims)
    }
}

pub(super) fn request(row: &Row, now: UnixSeconds) -> Result<Request, sqlx::Error> {
    let attributes: Option<String> = row.get(9)?;
    let retried = row.optional_id(13)?.is_some();
    let requested_at = row.optional_time(14)?;
    // Rucio keeps a failed attempt's source in the new request; a first attempt's is a preparer's choice.
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
        prepared_source: prepared.map(RseId).filter(|_| young),
        retried,
        retry_count: row.optional_integer(17)?.unwrap_or_default(),
        datatype: row.get(16)?,
        parent: None,
        seen_at: now,
        made_at: row.optional_time(15)?.and_then(|at| at.seconds()).map(UnixSeconds),
        replicas: Vec::new(),
    })
}
