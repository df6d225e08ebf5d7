//! Looks at requests in any state, for a person; nothing here writes.

use std::collections::BTreeMap;

use token_core::UnixSeconds;

use super::database::{Database, Row};
use super::part::worker;
use super::queue::{REQUEST, request};
use super::stamp::Stamp;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::request::{Request, RequestId};
use crate::share::PartitionBy;
use crate::topology::RseId;

const WHAT: &str = "looking at a request";

/// A request in any state, and what decides whether it may be submitted.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The request, with its replicas.
    pub request: Request,
    /// `requests.state`, one letter.
    pub state: String,
    /// `requests.request_type`, one letter.
    pub kind: String,
    /// `requests.transfertool`.
    pub transfertool: Option<String>,
    /// `requests.err_msg`.
    pub err_msg: Option<String>,
    /// `requests.external_id`.
    pub job: Option<String>,
    /// `requests.external_host`.
    pub fts: Option<String>,
    /// `requests.dest_url`.
    pub destination_url: Option<String>,
    /// `requests.source_rse_id`.
    pub source: Option<RseId>,
    /// `requests.last_processed_by`, and seconds since `last_processed_at`.
    pub processed: Option<(String, Option<i64>)>,
    /// The destination's name, VO, whether it is deleted, and whether it may be written.
    pub destination: (String, String, bool, bool),
    /// Whether the rule has ended, and whether it has a child rule, which carries it on; `None` without a rule.
    pub rule: Option<(bool, bool)>,
    /// `requests.submitted_at`.
    pub submitted_at: Option<Stamp>,
    /// `requests.updated_at`.
    pub updated_at: Stamp,
    /// The request that goes before this one on a way of several hops.
    pub after: Option<RequestId>,
    /// The rows of `sources` in use for this request's own destination, by RSE.
    pub sources: BTreeMap<RseId, Used>,
}

/// A source in use.
#[derive(Clone, Debug)]
pub struct Used {
    /// Its URL.
    pub url: Option<String>,
    /// Whether its row was there before it was taken into use: an earlier try has written it.
    pub of_earlier_try: bool,
}

const FACTS: &str = "SELECT r.id, CAST(r.state AS text), CAST(r.request_type AS text), r.transfertool, r.err_msg, r.external_id, \
     r.external_host, r.dest_url, r.source_rse_id, r.last_processed_by, r.last_processed_at, dest.rse, dest.vo, dest.deleted, \
     dest.availability_write, rules.id, rules.expires_at, rules.child_rule_id, \
     (SELECT min(CAST(h.request_id AS text)) FROM transfer_hops h WHERE h.next_hop_request_id = r.id), \
     r.submitted_at, r.updated_at \
     FROM requests r JOIN rses dest ON dest.id = r.dest_rse_id LEFT JOIN rules ON rules.id = r.rule_id WHERE r.id";

impl Rucio {
    /// The request of this id, whatever state it is in and wherever it goes.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn look(&self, id: &RequestId, now: UnixSeconds) -> Result<Option<Sight>, DatabaseError> {
        Ok(self.look_at(std::slice::from_ref(id), now).await?.pop())
    }

    /// The requests of these ids, in no order; those that are gone are left out.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn look_at(&self, ids: &[RequestId], now: UnixSeconds) -> Result<Vec<Sight>, DatabaseError> {
        let mut query = Statement::new(REQUEST);
        query.push(" WHERE r.id").among(ids);
        let rows = self.database.fetch(query).await.during(WHAT)?;
        let requests =
            rows.iter().map(|row| request(row, now)).collect::<Result<Vec<_>, _>>().during(WHAT)?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut replicas = self.replicas(&requests).await?;
        let mut parents = self.parents(&requests).await?;
        let mut requests: BTreeMap<_, _> =
            requests.into_iter().map(|request| (request.id.clone(), request)).collect();
        for (id, request) in &mut requests {
            request.replicas = replicas.remove(id).unwrap_or_default();
            request.parent = parents.remove(id);
        }
        let mut sources: BTreeMap<RequestId, BTreeMap<RseId, Used>> = BTreeMap::new();
        // Where it goes in several hops, the sources of the others stand there too.
        let mut query = Statement::new(
            "SELECT s.request_id, s.rse_id, s.url, s.created_at, s.updated_at FROM sources s JOIN requests r ON r.id = s.request_id \
             AND r.dest_rse_id = s.dest_rse_id WHERE s.is_using AND s.request_id",
        );
        query.among(ids);
        for row in self.database.fetch(query).await.during(WHAT)? {
            let id = RequestId(row.id(0).during(WHAT)?);
            let [made, changed] =
                [row.time(3).during(WHAT)?, row.time(4).during(WHAT)?].map(|at| at.seconds());
            let used = Used {
                url: row.get(2).during(WHAT)?,
                // Of a new row the two are a few microseconds apart.
                of_earlier_try: made.zip(changed).is_some_and(|(made, changed)| changed - made > 1),
            };
            sources.entry(id).or_default().insert(RseId(row.id(1).during(WHAT)?), used);
        }
        let mut query = Statement::new(FACTS);
        query.among(ids);
        let mut sights = Vec::new();
        for row in self.database.fetch(query).await.during(WHAT)? {
            let id = RequestId(row.id(0).during(WHAT)?);
            let Some(request) = requests.remove(&id) else { continue };
            let sources = sources.remove(&id).unwrap_or_default();
            sights.push(sight(&row, request, sources, now).during(WHAT)?);
        }
        Ok(sights)
    }

    /// Which of `of` workers this request is for; `None` on SQLite, where Rucio divides nothing, and for an empty column.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn worker_for(
        &self,
        id: &RequestId,
        by: PartitionBy,
        of: u32,
    ) -> Result<Option<u32>, DatabaseError> {
        let Database::Postgres(_) = self.database else { return Ok(None) };
        let mut query = Statement::new("SELECT ");
        query.push(&worker(by.column(), of)).push(" FROM requests r WHERE r.id = ").bind(id);
        let rows = self.database.fetch(query).await.during(WHAT)?;
        let number = rows.first().map(|row| row.optional_integer(0)).transpose().during(WHAT)?.flatten();
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }
}

fn sight(
    row: &Row,
    request: Request,
    sources: BTreeMap<RseId, Used>,
    now: UnixSeconds,
) -> Result<Sight, sqlx::Error> {
    let processed_at = row.optional_time(10)?;
    let since = processed_at.and_then(|at| at.seconds()).map(|at| now.0 - at);
    let ended = row.optional_time(16)?.is_some_and(|at| at <= Stamp::from(now));
    let child = row.optional_id(17)?.is_some();
    Ok(Sight {
        request,
        state: row.get(1)?,
        kind: row.get(2)?,
        transfertool: row.get(3)?,
        err_msg: row.get(4)?,
        job: row.get(5)?,
        fts: row.get(6)?,
        destination_url: row.get(7)?,
        source: row.optional_id(8)?.map(RseId),
        processed: row.get::<Option<String>>(9)?.map(|by| (by, since)),
        destination: (row.get(11)?, row.get(12)?, row.get(13)?, row.get(14)?),
        rule: row.optional_id(15)?.map(|_| (ended, child)),
        after: row.get::<Option<String>>(18)?.as_deref().and_then(RequestId::parse),
        submitted_at: row.optional_time(19)?,
        updated_at: row.time(20)?,
        sources,
    })
}
