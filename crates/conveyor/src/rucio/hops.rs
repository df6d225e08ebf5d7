//! Files that go in several hops: the requests, replicas and links that Rucio makes for what lies on the way.
//!
//! Rucio makes them before it looks whether the request is still there; here all is one transaction with the claim.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use token_core::{UnixSeconds, random_hex};

use super::database::Transaction;
use super::stamp::Stamp;
use super::statement::{Statement, Value};
use super::{DatabaseError, During as _};
use crate::choose::Plan;
use crate::job::Job;
use crate::request::{Attributes, RequestId};
use crate::topology::RseId;

const WHAT: &str = "making requests for hops";

/// Most rows in a statement: twenty values a row, and SQLite takes 32,766.
const ROWS: usize = 500;

/// A file on its way to one RSE.
type Place = (String, String, RseId);

/// A request that waits for a hop that somebody else has asked for already.
pub(super) struct Waiting {
    /// Its hops, itself the last.
    plans: Vec<Plan>,
    /// Those of the hops whose requests are to be made.
    new: HashSet<RequestId>,
    /// Those that jobs of the same claim make.
    with: HashSet<RequestId>,
}

/// Gives the hops of jobs an id each, and takes out of `jobs` the files that have to wait, since somebody else has asked for one of
/// their hops.
pub(super) async fn sort_out(
    transaction: &mut Transaction,
    jobs: &mut Vec<Job>,
) -> Result<Vec<Waiting>, DatabaseError> {
    let hops = jobs.iter().filter(|job| job.is_path()).flat_map(|job| on_the_way(&job.plans));
    let places: Vec<Place> = hops.map(place).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = asked_for(transaction, &places).await?;
    let mut ours = HashSet::new();
    let (mut waiting, mut kept) = (Vec::new(), Vec::with_capacity(jobs.len()));
    for mut job in jobs.drain(..) {
        if !job.is_path() {
            kept.push(job);
            continue;
        }
        let (mut new, mut with, mut found) = (HashSet::new(), HashSet::new(), false);
        let hops = job.plans.len() - 1;
        for hop in job.plans.iter_mut().take(hops) {
            let place = place(hop);
            hop.request.id = match asked.get(&place) {
                Some(id) => {
                    found = true;
                    with.extend(ours.get(id).cloned());
                    id.clone()
                }
                None => {
                    let id = RequestId(random_hex());
                    asked.insert(place, id.clone());
                    ours.insert(id.clone());
                    new.insert(id.clone());
                    id
                }
            };
        }
        if found {
            waiting.push(Waiting { plans: job.plans, new, with });
        } else {
            kept.push(job);
        }
    }
    *jobs = kept;
    Ok(waiting)
}

/// Makes what lies on the way of claimed jobs, whose hops are claimed with them.
pub(super) async fn make(
    transaction: &mut Transaction,
    jobs: &[Job],
    fts: &str,
    mark: &str,
    services: &[String],
    now: UnixSeconds,
) -> Result<(), DatabaseError> {
    let paths: Vec<&Job> = jobs.iter().filter(|job| job.is_path()).collect();
    let claimed = |job: &&Job| {
        let id = job.id.as_str().to_owned();
        on_the_way(&job.plans).map(|hop| (hop.clone(), Some(id.clone()))).collect::<Vec<_>>()
    };
    let hops: Vec<_> = paths.iter().flat_map(claimed).collect();
    let links = paths.iter().flat_map(|job| links(&job.plans)).collect();
    write(transaction, &hops, links, (fts, mark), services, now).await
}

/// Links the files that wait to the hops they wait for, and makes requests for their other hops, in `Q`. Their own requests stay in
/// `Q` too, and come again when the hops are done. Returns their plans, whose sources are to be written.
pub(super) async fn wait(
    transaction: &mut Transaction,
    mut waiting: Vec<Waiting>,
    made: &HashSet<RequestId>,
    lock: &str,
    services: &[String],
    now: UnixSeconds,
) -> Result<Vec<Vec<Plan>>, DatabaseError> {
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Statement::new("SELECT q.id FROM requests q WHERE q.state = 'Q' AND q.id");
    query.among(waiting.iter().filter_map(|waiting| Some(&waiting.plans.last()?.request.id))).push(lock);
    let rows = transaction.fetch(query).await.during(WHAT)?;
    let here: HashSet<_> = rows.iter().map(|row| row.id(0)).collect::<Result<_, _>>().during(WHAT)?;
    // One whose hop was to be made by a claim that was lost comes again in the next pass.
    let mut there = made.clone();
    waiting.retain(|one| {
        let stays = one.plans.last().is_some_and(|plan| here.contains(&plan.request.id.0))
            && one.with.iter().all(|id| there.contains(id));
        if stays {
            there.extend(one.new.iter().cloned());
        }
        stays
    });
    let new = |one: &Waiting| {
        let new = on_the_way(&one.plans).filter(|hop| one.new.contains(&hop.request.id));
        new.map(|hop| (hop.clone(), None)).collect::<Vec<_>>()
    };
    let hops: Vec<_> = waiting.iter().flat_map(new).collect();
    let links = waiting.iter().flat_map(|one| links(&one.plans)).collect();
    write(transaction, &hops, links, ("", ""), services, now).await?;
    Ok(waiting.into_iter().map(|one| one.plans).collect())
}

/// Takes back the requests for the hops of a job that was given back, so that its way is chosen anew: they, and what others waited for.
pub(super) async fn unmake(transaction: &mut Transaction, job: &Job) -> Result<(), DatabaseError> {
    const WHAT: &str = "taking back requests for hops";
    if !job.is_path() {
        return Ok(());
    }
    let ids: Vec<_> = on_the_way(&job.plans).map(|hop| &hop.request.id).collect();
    let still = "SELECT id FROM requests WHERE state = 'Q' AND id";
    for (before, after) in [
        ("DELETE FROM transfer_hops WHERE request_id IN (", ")"),
        ("DELETE FROM transfer_hops WHERE next_hop_request_id IN (", ")"),
        ("DELETE FROM sources WHERE request_id IN (", ")"),
        ("DELETE FROM requests WHERE id IN (", ")"),
    ] {
        let mut query = Statement::new(before);
        query.push(still).among(ids.iter().copied()).push(after);
        transaction.execute(query).await.during(WHAT)?;
    }
    Ok(())
}

fn on_the_way(plans: &[Plan]) -> impl Iterator<Item = &Plan> {
    plans.iter().take(plans.len().saturating_sub(1))
}

fn place(hop: &Plan) -> Place {
    (hop.request.scope.clone(), hop.request.name.clone(), hop.request.destination.clone())
}

/// The hop, the next one, and the request that all are for.
fn links(plans: &[Plan]) -> Vec<[RequestId; 3]> {
    let Some(last) = plans.last() else { return Vec::new() };
    let ids = |pair: &[Plan]| match pair {
        [one, next] => Some([one, next, last].map(|plan| plan.request.id.clone())),
        _ => None,
    };
    plans.windows(2).filter_map(ids).collect()
}

/// The requests that there are for these files to these RSEs.
async fn asked_for(
    transaction: &mut Transaction,
    places: &[Place],
) -> Result<HashMap<Place, RequestId>, DatabaseError> {
    let mut asked = HashMap::new();
    for places in places.chunks(ROWS) {
        let mut query = Statement::new(
            "SELECT id, scope, name, dest_rse_id FROM requests WHERE request_type = 'T' AND (",
        );
        any_of(&mut query, places, "dest_rse_id");
        query.push(")");
        for row in transaction.fetch(query).await.during(WHAT)? {
            let place = (row.get(1).during(WHAT)?, row.get(2).during(WHAT)?, RseId(row.id(3).during(WHAT)?));
            asked.insert(place, RequestId(row.id(0).during(WHAT)?));
        }
    }
    Ok(asked)
}

fn any_of(query: &mut Statement, places: &[Place], rse_column: &str) {
    for (at, (scope, name, rse)) in places.iter().enumerate() {
        query.push(if at == 0 { "(scope = " } else { " OR (scope = " }).bind(scope.as_str());
        query.push(" AND name = ").bind(name.as_str()).push(" AND ").push(rse_column).push(" = ");
        query.bind(Value::Id(Some(rse.0.clone()))).push(")");
    }
}

/// Writes all rows: requests, replicas, links, counters and messages.
async fn write(
    transaction: &mut Transaction,
    hops: &[(Plan, Option<String>)],
    links: Vec<[RequestId; 3]>,
    (fts, mark): (&str, &str),
    services: &[String],
    now: UnixSeconds,
) -> Result<(), DatabaseError> {
    let at = Stamp::from(now);
    replicas(transaction, hops.iter().map(|(hop, _)| hop), now).await?;
    let rows = hops.iter().map(|(hop, job)| request(hop, job.as_deref(), fts, mark, &at));
    insert(transaction, REQUESTS, rows.collect()).await?;
    let rows = links.into_iter().map(|ids| {
        let mut row: Vec<Value> = ids.iter().map(Value::from).collect();
        row.extend([Value::from(&at), Value::from(&at)]);
        row
    });
    insert(transaction, "INSERT INTO transfer_hops (request_id, next_hop_request_id, initial_request_id, created_at, updated_at)", rows.collect()).await?;
    let rows = hops.iter().flat_map(|(hop, _)| {
        let (message, at) = (queued(hop, &at), &at);
        services.iter().map(move |service| {
            vec![
                Value::Id(Some(random_hex())),
                "transfer-queued".into(),
                message.as_str().into(),
                service.as_str().into(),
                at.into(),
                at.into(),
            ]
        })
    });
    insert(
        transaction,
        "INSERT INTO messages (id, event_type, payload, services, created_at, updated_at)",
        rows.collect(),
    )
    .await
}

const REQUESTS: &str = "INSERT INTO requests (id, request_type, scope, name, did_type, dest_rse_id, source_rse_id, attributes, state, rule_id, \
    activity, bytes, md5, adler32, account, requested_at, retry_count, transfertool, external_id, external_host, dest_url, submitted_at, \
    last_processed_by, last_processed_at, created_at, updated_at)";

/// The row of a hop's request: claimed with its job, or queued.
fn request(hop: &Plan, job: Option<&str>, fts: &str, mark: &str, at: &Stamp) -> Vec<Value> {
    let text = |text: Option<&str>| Value::Text(text.map(str::to_owned));
    let claimed = |value: Value| if job.is_some() { value } else { Value::Literal("NULL") };
    let request = &hop.request;
    let attributes = match &request.attributes {
        Attributes::Object(map) => serde_json::to_string(map).unwrap_or_default(),
        _ => "{}".to_owned(),
    };
    vec![
        (&request.id).into(),
        Value::Literal("'T'"),
        request.scope.as_str().into(),
        request.name.as_str().into(),
        Value::Literal("'F'"),
        Value::Id(Some(request.destination.0.clone())),
        Value::Id(hop.sources.first().map(|source| source.rse.0.clone())),
        attributes.as_str().into(),
        Value::Literal(if job.is_some() { "'G'" } else { "'Q'" }),
        Value::Id(request.rule_id.clone()),
        text(request.activity.as_deref()),
        Value::Integer(request.bytes),
        text(request.md5.as_deref()),
        text(request.adler32.as_deref()),
        text(request.account.as_deref()),
        at.into(),
        Value::Literal("0"),
        Value::Literal("'fts3'"),
        claimed(text(job)),
        claimed(fts.into()),
        claimed(hop.destination_url.as_str().into()),
        claimed(at.into()),
        claimed(mark.into()),
        claimed(at.into()),
        at.into(),
        at.into(),
    ]
}

/// The payload of Rucio's `transfer-queued`, key by key.
fn queued(hop: &Plan, at: &Stamp) -> String {
    let request = &hop.request;
    json!({
        "request-id": request.id.0,
        "request-type": "transfer",
        "scope": request.external_scope(),
        "name": request.name,
        "dst-rse-id": request.destination.0,
        "dst-rse": hop.on_the_way.as_ref().map(|hop| &hop.rse),
        "state": "queued",
        "retry-count": 0,
        "rule-id": request.rule_id,
        "activity": request.activity,
        "file-size": request.bytes,
        "bytes": request.bytes,
        "checksum-md5": request.md5,
        "checksum-adler": request.adler32,
        "queued_at": at.as_str(),
    })
    .to_string()
}

/// A replica at the end of each hop, being copied; each is counted, as Rucio counts it.
async fn replicas(
    transaction: &mut Transaction,
    hops: impl Iterator<Item = &Plan>,
    now: UnixSeconds,
) -> Result<(), DatabaseError> {
    let at = Stamp::from(now);
    let hops: Vec<&Plan> = hops.collect();
    let places: Vec<Place> = hops.iter().map(|hop| place(hop)).collect();
    let mut there = HashSet::new();
    for places in places.chunks(ROWS) {
        // One that failed before, perhaps.
        let mut query = Statement::new("UPDATE replicas SET state = 'C', updated_at = ");
        query.bind(&at).push(" WHERE ");
        any_of(&mut query, places, "rse_id");
        query.push(" RETURNING scope, name, rse_id");
        for row in transaction.fetch(query).await.during(WHAT)? {
            there.insert((
                row.get(0).during(WHAT)?,
                row.get(1).during(WHAT)?,
                RseId(row.id(2).during(WHAT)?),
            ));
        }
    }
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for (hop, place) in hops.into_iter().zip(places) {
        let new = there.insert(place);
        let request = &hop.request;
        let rse = Value::Id(Some(request.destination.0.clone()));
        counts.push(vec![
            Value::Id(Some(random_hex())),
            rse.clone(),
            i64::from(new).into(),
            if new { request.bytes.unwrap_or_default() } else { 0 }.into(),
            (&at).into(),
            (&at).into(),
        ]);
        if new {
            let tombstone = hop.on_the_way.as_ref().and_then(|hop| hop.tombstone_after_s);
            let tombstone = tombstone.map(|s| if s < 0 { UnixSeconds(0) } else { UnixSeconds(now.0 + s) });
            rows.push(vec![
                rse,
                request.scope.as_str().into(),
                request.name.as_str().into(),
                Value::Integer(request.bytes),
                Value::Text(request.md5.clone()),
                Value::Text(request.adler32.clone()),
                Value::Literal("'C'"),
                Value::Literal("0"),
                tombstone.map_or(Value::Literal("NULL"), |at| (&Stamp::from(at)).into()),
                (&at).into(),
                (&at).into(),
            ]);
        }
    }
    insert(transaction, "INSERT INTO replicas (rse_id, scope, name, bytes, md5, adler32, state, lock_cnt, tombstone, created_at, updated_at)", rows).await?;
    insert(
        transaction,
        "INSERT INTO updated_rse_counters (id, rse_id, files, bytes, created_at, updated_at)",
        counts,
    )
    .await
}

async fn insert(
    transaction: &mut Transaction,
    into: &str,
    rows: Vec<Vec<Value>>,
) -> Result<(), DatabaseError> {
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new(into);
        for (row, values) in rows.iter().enumerate() {
            query.push(if row == 0 { " VALUES (" } else { ", (" });
            for (at, value) in values.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).bind(value.clone());
            }
            query.push(")");
        }
        transaction.execute(query).await.during(WHAT)?;
    }
    Ok(())
}
