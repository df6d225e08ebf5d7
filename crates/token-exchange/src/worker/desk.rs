//! What is in hand: jobs of ours whose files wait for tokens, and files that wait to be handed over. Pure.
//!
//! A file of a plain job goes when its own two tokens are there; the rows of a job with several sources or hops go together. So
//! a token that is slow to come holds up those that need it and nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use token_core::UnixSeconds;

use crate::decide::{Fate, Kind, Token, Waiting, decide};
use crate::fts::hand_over::{EndpointToken, Handed, Parcel, Rest};
use crate::fts::lease::Lease;

/// Which token: from which subject, for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The subject's `t_token.token_id`.
    pub(super) subject: String,
    /// For whom.
    pub(super) audience: String,
    /// For what.
    pub(super) scope: String,
}

/// What is known of one side of a file.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// All.
    Known(Token<Handed>),
    /// Its token is being got, from this issuer.
    Open(Key, String),
}

/// A file in hand.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// `t_file.file_id`.
    pub(super) id: i64,
    /// `t_file.file_state_initial`.
    pub(super) planned: String,
    /// Source and destination.
    pub(super) sides: [Side; 2],
}

/// A job that is ours now.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// That it is ours.
    pub(super) lease: Lease,
    /// What its rows have to do with each other.
    pub(super) kind: Kind,
    /// When its files have waited too long.
    pub(super) queue_ends: Option<UnixSeconds>,
    /// Its waiting files.
    pub(super) files: Vec<File>,
}

/// A job in hand.
struct Held {
    lease: Lease,
    kind: Kind,
    queue_ends: Option<UnixSeconds>,
    /// Files that go together, until they are settled.
    units: Vec<Unit>,
    /// How many units are not settled.
    open: usize,
    /// How many of the job's files are in hand.
    files: usize,
    fates: Vec<(i64, Fate<Handed>)>,
    /// Why some of its files have to wait.
    waits: BTreeSet<String>,
    ready: bool,
}

struct Unit {
    files: Vec<File>,
    /// How many tokens are missing.
    missing: usize,
}

/// A token that is being got.
struct Pending {
    issuer: String,
    /// Jobs and units that need it.
    units: Vec<(u64, usize)>,
}

/// What is in hand.
#[derive(Default)]
pub(super) struct Desk {
    jobs: HashMap<u64, Held>,
    /// By the job's id.
    numbers: HashMap<String, u64>,
    next: u64,
    pending: HashMap<Key, Pending>,
    /// How many units wait for each issuer.
    load: HashMap<String, usize>,
    ready: VecDeque<u64>,
    ready_files: usize,
    files: usize,
    /// How many files were put off since they were last counted, by reason.
    put_off: BTreeMap<String, usize>,
}

impl Desk {
    /// Takes a job in hand; tells which tokens have to be got that are not being got already. One that is in hand already,
    /// under a lease that has ended, is forgotten for this one.
    pub(super) fn take(&mut self, job: Taken) -> Vec<Key> {
        self.forget(&job.lease.job);
        self.next += 1;
        let number = self.next;
        let files = job.files.len();
        let units: Vec<Vec<File>> = match job.kind {
            _ if job.files.is_empty() => Vec::new(),
            Kind::Plain => job.files.into_iter().map(|file| vec![file]).collect(),
            Kind::Replicas | Kind::Hops => vec![job.files],
        };
        let mut held = Held {
            lease: job.lease,
            kind: job.kind,
            queue_ends: job.queue_ends,
            open: units.len(),
            units: Vec::with_capacity(units.len()),
            files,
            fates: Vec::new(),
            waits: BTreeSet::new(),
            ready: false,
        };
        let mut new = Vec::new();
        for (at, files) in units.into_iter().enumerate() {
            let mut needed: Vec<(Key, String)> = Vec::new();
            for file in &files {
                for side in &file.sides {
                    if let Side::Open(key, issuer) = side
                        && !needed.iter().any(|(other, _)| other == key)
                    {
                        needed.push((key.clone(), issuer.clone()));
                    }
                }
            }
            held.units.push(Unit { files, missing: needed.len() });
            for (key, issuer) in needed {
                *self.load.entry(issuer.clone()).or_default() += 1;
                let pending = self.pending.entry(key.clone()).or_insert_with(|| {
                    new.push(key);
                    Pending { issuer, units: Vec::new() }
                });
                pending.units.push((number, at));
            }
        }
        self.files += files;
        self.numbers.insert(held.lease.job.clone(), number);
        let settled: Vec<usize> = (0..held.units.len()).filter(|at| held.units[*at].missing == 0).collect();
        let empty = held.units.is_empty();
        self.jobs.insert(number, held);
        for at in settled {
            self.settle(number, at);
        }
        if empty {
            self.list(number);
        }
        new
    }

    /// A token has come, or will not.
    pub(super) fn settled(&mut self, key: &Key, token: Token<EndpointToken>) {
        let Some(pending) = self.pending.remove(key) else { return };
        if let Some(load) = self.load.get_mut(&pending.issuer) {
            *load = load.saturating_sub(pending.units.len());
        }
        let token = match token {
            Token::Got(token) => Token::Got(Handed::Made(Arc::new(token))),
            Token::Wait(why) => Token::Wait(why),
            Token::Refused(why) => Token::Refused(why),
        };
        for (number, at) in pending.units {
            let Some(unit) = self.jobs.get_mut(&number).and_then(|held| held.units.get_mut(at)) else {
                continue;
            };
            for side in unit.files.iter_mut().flat_map(|file| &mut file.sides) {
                if matches!(side, Side::Open(other, _) if other == key) {
                    *side = Side::Known(token.clone());
                }
            }
            unit.missing -= 1;
            if unit.missing == 0 {
                self.settle(number, at);
            }
        }
    }

    /// All tokens of a unit are known.
    fn settle(&mut self, number: u64, at: usize) {
        let Some(held) = self.jobs.get_mut(&number) else { return };
        let known = |side: Side| match side {
            Side::Known(token) => token,
            Side::Open(..) => Token::Wait("its token is not there yet".into()),
        };
        let files = std::mem::take(&mut held.units[at].files);
        let waiting = files.into_iter().map(|File { id, planned, sides: [source, destination] }| Waiting {
            file: id,
            planned,
            source: known(source),
            destination: known(destination),
        });
        held.open -= 1;
        let before = held.fates.len();
        for (file, fate) in decide(held.kind, waiting.collect()) {
            match fate {
                Fate::Wait(why) => {
                    *self.put_off.entry(why.clone()).or_default() += 1;
                    held.waits.insert(why);
                }
                fate => held.fates.push((file, fate)),
            }
        }
        let more = held.fates.len() - before;
        if more > 0 || held.open == 0 {
            self.ready_files += more;
            self.list(number);
        }
    }

    fn list(&mut self, number: u64) {
        if let Some(held) = self.jobs.get_mut(&number)
            && !std::mem::replace(&mut held.ready, true)
        {
            self.ready.push_back(number);
        }
    }

    /// Takes what is ready to be handed over, of so many files or a few more. A job that has to wait is put off to when `retry_at`
    /// says, by how often it was before.
    pub(super) fn parcels(&mut self, most: usize, retry_at: impl Fn(i64) -> UnixSeconds) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        let mut files = 0;
        while files < most && parcels.len() < most {
            let Some(number) = self.ready.pop_front() else { break };
            let Some(held) = self.jobs.get_mut(&number) else { continue };
            held.ready = false;
            let fates = std::mem::take(&mut held.fates);
            files += fates.len();
            held.files -= fates.len();
            self.ready_files -= fates.len();
            self.files -= fates.len();
            let (lease, kind) = (held.lease.clone(), held.kind);
            let rest = match held.open {
                0 => self.leave(number, &retry_at),
                _ => Rest::Hold,
            };
            parcels.push(Parcel { lease, kind, fates, rest });
        }
        parcels
    }

    /// Nothing of a job is open any more.
    fn leave(&mut self, number: u64, retry_at: impl Fn(i64) -> UnixSeconds) -> Rest {
        let Some(held) = self.jobs.remove(&number) else { return Rest::End };
        self.numbers.remove(&held.lease.job);
        self.files -= held.files;
        if held.waits.is_empty() {
            return Rest::End;
        }
        let retry_at = retry_at(held.lease.attempts);
        // It is looked at again when its time in the queue ends, too.
        let retry_at = held.queue_ends.map_or(retry_at, |end| retry_at.min(end));
        Rest::PutOff { retry_at, why: held.waits.into_iter().collect::<Vec<_>>().join("; ") }
    }

    /// A job is not ours any more.
    pub(super) fn forget(&mut self, job: &str) {
        let Some(held) = self.numbers.remove(job).and_then(|number| self.jobs.remove(&number)) else {
            return;
        };
        self.files -= held.files;
        self.ready_files -= held.fates.len();
    }

    /// How many files were put off since this was last asked, by reason.
    pub(super) fn take_put_off(&mut self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.put_off)
    }

    /// All leases in hand.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.jobs.values().map(|held| held.lease.clone()).collect()
    }

    /// The owners of the leases in hand.
    pub(super) fn owners(&self) -> Vec<String> {
        let owners: BTreeSet<&String> = self.jobs.values().map(|held| &held.lease.owner).collect();
        owners.into_iter().cloned().collect()
    }

    /// Issuers that so many files wait for.
    pub(super) fn busy(&self, most: usize) -> Vec<String> {
        self.load.iter().filter(|(_, load)| **load >= most).map(|(issuer, _)| issuer.clone()).collect()
    }

    /// How many units wait for this token.
    pub(super) fn waiting_for(&self, key: &Key) -> usize {
        self.pending.get(key).map_or(0, |pending| pending.units.len())
    }

    /// How many jobs are in hand.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// How many files are in hand.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// How many files are ready to be handed over.
    pub(super) fn ready_files(&self) -> usize {
        self.ready_files
    }

    /// Whether anything is to be handed over.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no token is being waited for.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether nothing is in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests;
