//! Writes the tokens down and lets the files go: many jobs in one transaction.

pub(super) mod writing;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use token_core::{AccessToken, UnixSeconds};

use super::lease::Lease;
use super::remembered::Origin;
use super::revive;
use super::{DatabaseError, During as _, FtsDatabase};
use crate::decide::{Fate, Kind, together};
use writing::Writing;

const WHAT: &str = "handing tokens over";

/// An endpoint token to be handed over.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointToken {
    /// The token.
    pub token: AccessToken,
    /// When it was got; not now, if it was kept.
    pub obtained_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// The issuer as `t_token_provider` writes it.
    pub issuer: String,
    /// Its scopes.
    pub scope: String,
    /// Its audience.
    pub audience: String,
    /// Where it comes from, and so the next one.
    pub origin: Origin,
}

/// The token of one side of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Handed {
    /// The one that it was submitted with, by its `token_id`: what stands in its row stays, but that nobody is to ask for another
    /// where there is none.
    Given {
        /// That.
        id: String,
        /// When it ends, if nobody renews it.
        ends: Option<UnixSeconds>,
    },
    /// One of ours.
    Made(Arc<EndpointToken>),
}

impl Handed {
    /// Its `t_token.token_id`.
    pub fn id(&self) -> String {
        match self {
            Self::Given { id, .. } => id.clone(),
            Self::Made(token) => token.token.fingerprint().to_string(),
        }
    }

    /// How long a transfer can wait and run on it at most, if nobody gives it another: one of ours is renewed while files wait, so
    /// that it is its whole life. `managed`: `fts_url_copy` asks for the next one.
    pub fn unrenewed_life(&self, managed: bool, now: UnixSeconds) -> Option<Duration> {
        match self {
            Self::Given { ends, .. } => ends.map(|ends| now.until(ends)),
            Self::Made(token) => (!managed).then(|| token.obtained_at.until(token.expires_at)),
        }
    }
}

/// What becomes of a job's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It is held: other files of the job are in hand still.
    Hold,
    /// The job is done with.
    End,
    /// The job is looked at again.
    PutOff {
        /// When.
        retry_at: UnixSeconds,
        /// Why, in words.
        why: String,
    },
}

/// What is handed over of one job.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// That the job is ours.
    pub lease: Lease,
    /// What its rows have to do with each other.
    pub kind: Kind,
    /// What becomes of the files. Those of a job whose rows belong together come together.
    pub fates: Vec<(i64, Fate<Handed>)>,
    /// What becomes of the lease.
    pub rest: Rest,
}

/// What a hand-over did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Files that left `TOKEN_PREP` with tokens.
    pub released: usize,
    /// Files that failed.
    pub failed: usize,
    /// Files of cancelled jobs, and of jobs that stayed in the queue for too long.
    pub cancelled: usize,
    /// Jobs that were found cancelled: nothing of them is in hand any more.
    pub ended: Vec<String>,
    /// Jobs whose lease was not ours any more. Nothing was written for them.
    pub lost: Vec<String>,
}

impl FtsDatabase {
    /// Carries the fates of files out, of many jobs in one transaction. Only files that still are in `TOKEN_PREP` are touched,
    /// none of a job that was cancelled meanwhile but to end it, and none of a job whose lease is not ours any more.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed. When the connection is lost during the commit and the commit was made,
    /// leases that we ended ourselves are found lost.
    pub async fn hand_over(&self, parcels: &[Parcel], now: UnixSeconds) -> Result<HandedOver, DatabaseError> {
        self.tried(|| self.hand_over_once(parcels, now)).await
    }

    async fn hand_over_once(
        &self,
        parcels: &[Parcel],
        now: UnixSeconds,
    ) -> Result<HandedOver, DatabaseError> {
        let mut writing = Writing {
            transaction: self.begin(WHAT).await?,
            now,
            older_columns: self.older_columns,
            managed: self.managed,
        };
        let mut done = HandedOver::default();
        let standing = writing.standing(parcels).await?;
        let mut live = Vec::new();
        let mut cancelled = BTreeSet::new();
        for parcel in parcels {
            let job = parcel.lease.job.as_str();
            match standing.get(job) {
                Some(standing) if standing.owner == parcel.lease.owner && standing.lease_end > now.0 => {
                    if standing.cancelled {
                        cancelled.insert(job);
                    } else {
                        live.push(parcel);
                    }
                }
                _ => done.lost.push(job.to_owned()),
            }
        }
        if !cancelled.is_empty() {
            done.cancelled += writing.cancel(&cancelled).await?;
            done.ended = cancelled.iter().map(|job| (*job).to_owned()).collect();
        }
        let fates = fitted(&mut writing, &live).await?;
        writing.insert(&tokens(&fates)).await?;
        writing.unmanage(&unrenewed(&fates)).await?;
        done.released += writing.release(&fates).await?;
        let (failed, expired) = writing.end_files(&fates).await?;
        done.failed += failed;
        done.cancelled += expired;
        let with_ends = |parcel: &&&Parcel| {
            parcel.fates.iter().any(|(_, fate)| matches!(fate, Fate::Fail(_) | Fate::Expire))
        };
        let kinds: HashMap<&str, Kind> =
            live.iter().filter(with_ends).map(|parcel| (parcel.lease.job.as_str(), parcel.kind)).collect();
        writing.end_jobs(&kinds).await?;
        writing.leases(&live, cancelled).await?;
        writing.transaction.commit().await.during(WHAT)?;
        Ok(done)
    }
}

/// The fates of all files, where rows that belong together are fitted to those that have left `TOKEN_PREP` without us.
async fn fitted(
    writing: &mut Writing,
    parcels: &[&Parcel],
) -> Result<Vec<(i64, Fate<Handed>)>, DatabaseError> {
    let several = |parcel: &&&Parcel| parcel.kind != Kind::Plain && !parcel.fates.is_empty();
    let jobs: Vec<&str> = parcels.iter().filter(several).map(|parcel| parcel.lease.job.as_str()).collect();
    let others = revive::others(&mut writing.transaction, &jobs).await?;
    let mut all = Vec::new();
    for parcel in parcels {
        let mut fates = parcel.fates.clone();
        if let Some(others) = others.get(&parcel.lease.job) {
            together(parcel.kind, others, &mut fates);
        }
        all.append(&mut fates);
    }
    Ok(all)
}

/// Given tokens that nobody renews, each once, in the order of their ids: those that their submitter sees to, and those of an issuer
/// whose tokens are used as they are.
fn unrenewed(fates: &[(i64, Fate<Handed>)]) -> BTreeSet<&str> {
    let sides = fates.iter().filter_map(|(_, fate)| match fate {
        Fate::Release { source, destination, .. } => Some([source, destination]),
        _ => None,
    });
    let given = sides.flatten().filter_map(|token| match token {
        Handed::Given { id, ends: Some(_) } => Some(id.as_str()),
        _ => None,
    });
    given.collect()
}

/// Each token of ours once, in the order of their ids, so that two workers lock rows in the same order.
fn tokens(fates: &[(i64, Fate<Handed>)]) -> Vec<(String, &EndpointToken)> {
    let made = fates.iter().filter_map(|(_, fate)| match fate {
        Fate::Release { source, destination, .. } => Some([source, destination]),
        _ => None,
    });
    let mut tokens: Vec<(String, &EndpointToken)> = made
        .flatten()
        .filter_map(|token| match token {
            Handed::Made(made) => Some((token.id(), &**made)),
            Handed::Given { .. } => None,
        })
        .collect();
    tokens.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    tokens.dedup_by(|a, b| a.0 == b.0);
    tokens
}
