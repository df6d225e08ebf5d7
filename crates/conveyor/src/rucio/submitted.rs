//! What Rucio's own submitter has done lately, and what has changed since; nothing here writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use token_core::UnixSeconds;

use super::database::Row;
use super::stamp::Stamp;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::request::RequestId;
use crate::share::Part;
use crate::topology::RseId;

const WHAT: &str = "reading what was submitted";

/// One hop before another, of a file that goes in several.
#[derive(Clone, Debug)]
pub struct Link {
    /// The request of this hop.
    pub hop: RequestId,
    /// The request of the next one.
    pub next: RequestId,
    /// The request that they are for.
    pub initial: RequestId,
}

/// When a replica was written down, and when its row changed last.
#[derive(Clone, Debug)]
pub struct ReplicaTimes {
    /// `replicas.created_at`.
    pub created_at: Stamp,
    /// `replicas.updated_at`.
    pub updated_at: Stamp,
}

/// What an operator has changed: each RSE with its attributes, protocols and distances, and options of Rucio's in the database.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The last change of each.
    pub rses: BTreeMap<RseId, Stamp>,
    /// Options, as `[section] option`.
    pub options: BTreeMap<String, Stamp>,
}

/// In `G` a submitter has it in hand; `Q`, `P` and `W` are before that. Of `N`, `O` and `M` those with words are ours.
const SUBMITTED: &str = "SELECT r.id FROM requests r JOIN rses dest ON dest.id = r.dest_rse_id \
     WHERE r.request_type = 'T' AND r.state IN ('S', 'D', 'F', 'L', 'A', 'N', 'O', 'M') AND r.updated_at > $2 \
     AND (r.submitted_at IS NULL OR r.submitted_at > $2) AND (r.transfertool IS NULL OR r.transfertool = 'fts3') \
     AND NOT dest.deleted AND dest.vo = $1 AND (r.last_processed_by IS NULL OR r.last_processed_by NOT LIKE 'conveyor:%') \
     AND (r.state NOT IN ('N', 'O', 'M') OR r.err_msg IS NULL)";

const CHANGED: &str = "SELECT id, updated_at FROM rses WHERE updated_at > $1 \
     UNION ALL SELECT rse_id, updated_at FROM rse_attr_map WHERE updated_at > $1 \
     UNION ALL SELECT rse_id, updated_at FROM rse_protocols WHERE updated_at > $1 \
     UNION ALL SELECT src_rse_id, updated_at FROM distances WHERE updated_at > $1 \
     UNION ALL SELECT dest_rse_id, updated_at FROM distances WHERE updated_at > $1";

impl Rucio {
    /// The requests of this part that another submitter has worked on since, the latest first. Whether the destination is closed by now
    /// does not count.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn submitted(
        &self,
        part: &Part,
        since: UnixSeconds,
        most: u32,
    ) -> Result<Vec<RequestId>, DatabaseError> {
        let mut query = Statement::new(SUBMITTED).with(self.vo.as_str()).with(&Stamp::from(since));
        self.narrow(&mut query, &Part { ignore_availability: true, place: None, ..part.clone() });
        query.push(" ORDER BY r.updated_at DESC, r.id LIMIT ").bind(i64::from(most));
        let rows = self.database.fetch(query).await.during(WHAT)?;
        rows.iter().map(|row| row.id(0).map(RequestId)).collect::<Result<_, _>>().during(WHAT)
    }

    /// The links between hops that these requests are part of, and all links of the same files.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn links(&self, ids: &[RequestId]) -> Result<Vec<Link>, DatabaseError> {
        let mut initial = BTreeSet::new();
        for column in ["request_id", "next_hop_request_id"] {
            let mut query = Statement::new(
                "SELECT initial_request_id FROM transfer_hops WHERE initial_request_id IS NOT NULL AND ",
            );
            query.push(column).among(ids);
            for row in self.database.fetch(query).await.during(WHAT)? {
                initial.insert(RequestId(row.id(0).during(WHAT)?));
            }
        }
        if initial.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Statement::new(
            "SELECT request_id, next_hop_request_id, initial_request_id FROM transfer_hops WHERE initial_request_id",
        );
        query.among(&initial);
        let link = |row: &Row| {
            Ok(Link {
                hop: RequestId(row.id(0)?),
                next: RequestId(row.id(1)?),
                initial: RequestId(row.id(2)?),
            })
        };
        let rows = self.database.fetch(query).await.during(WHAT)?;
        rows.iter().map(link).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// When the available replicas of these requests' files were written down and changed.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn replica_times(
        &self,
        ids: &[RequestId],
    ) -> Result<HashMap<(RequestId, RseId), ReplicaTimes>, DatabaseError> {
        let mut query = Statement::new(
            "SELECT r.id, rep.rse_id, rep.created_at, rep.updated_at FROM requests r \
             JOIN replicas rep ON rep.scope = r.scope AND rep.name = r.name AND rep.state = 'A' WHERE r.id",
        );
        query.among(ids);
        let times = |row: &Row| {
            let times = ReplicaTimes { created_at: row.time(2)?, updated_at: row.time(3)? };
            Ok(((RequestId(row.id(0)?), RseId(row.id(1)?)), times))
        };
        let rows = self.database.fetch(query).await.during(WHAT)?;
        rows.iter().map(times).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// What was changed since. What was taken away leaves no trace.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn changes(&self, since: UnixSeconds) -> Result<Changes, DatabaseError> {
        const WHAT: &str = "reading what has changed";
        let since = Stamp::from(since);
        let mut changes = Changes::default();
        for row in self.database.fetch(Statement::new(CHANGED).with(&since)).await.during(WHAT)? {
            let (id, at) = (RseId(row.id(0).during(WHAT)?), row.time(1).during(WHAT)?);
            let last = changes.rses.entry(id).or_insert_with(|| at.clone());
            *last = at.max(last.clone());
        }
        let options = Statement::new(
            "SELECT section, opt, updated_at FROM configs WHERE updated_at > $1 AND section IN ('transfers', 'conveyor', 'policy')",
        );
        for row in self.database.fetch(options.with(&since)).await.during(WHAT)? {
            let [section, option]: [String; 2] = [row.get(0).during(WHAT)?, row.get(1).during(WHAT)?];
            changes.options.insert(format!("[{section}] {option}"), row.time(2).during(WHAT)?);
        }
        Ok(changes)
    }
}
