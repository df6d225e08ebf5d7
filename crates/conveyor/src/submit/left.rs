//! What was looked at and left in the queue: remembered, so that the next pass does not read it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use token_core::UnixSeconds;

use crate::request::RequestKey;

/// How long a request that we do not handle is not looked at again, in seconds: as long as Rucio's own submitter leaves it. A request
/// that changes what decides (a new replica, say) is seen after this, a changed RSE as soon as the topology is read.
const DECIDED_S: i64 = 600;
/// The same for one that is not eligible now (its rule has ended, it waits for an earlier hop) or was taken by another meanwhile.
const INELIGIBLE_S: i64 = 60;
/// Most requests that are remembered; those beyond are looked at again each time.
const MOST: usize = 1_000_000;

/// Why a request waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// Decided by what it is and the topology, in words.
    Decided(Arc<str>),
    /// Not eligible; not counted.
    Ineligible,
    /// Its FTS is away.
    Away(Arc<str>),
    /// FTS says that a storage is banned.
    Banned,
}

impl Why {
    fn words(&self) -> Option<String> {
        match self {
            Self::Decided(reason) => Some(reason.to_string()),
            Self::Ineligible => None,
            Self::Away(fts) => Some(format!("FTS {fts} cannot be used now")),
            Self::Banned => Some("FTS says that a storage is banned".into()),
        }
    }
}

/// When a request was made, where that is known.
pub(super) type Made = Option<UnixSeconds>;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Left {
    requests: HashMap<RequestKey, Entry>,
    whys: Vec<Why>,
}

/// Small, since there may be a million.
#[derive(Clone, Copy, Debug)]
struct Entry {
    why: u32,
    /// Seconds since the epoch, which reach to 2106.
    until: u32,
    /// The same of when the request was made; the latest where that is not known.
    made: u32,
}

impl Left {
    /// Remembers a request.
    pub(super) fn leave(&mut self, request: RequestKey, made: Made, why: Why, now: UnixSeconds) {
        let keep = match &why {
            // Spread out, so that they do not all come due at once.
            Why::Decided(_) | Why::Away(_) => DECIDED_S * 3 / 4 + request.spread(DECIDED_S / 2),
            Why::Ineligible | Why::Banned => INELIGIBLE_S,
        };
        if self.requests.len() >= MOST && !self.requests.contains_key(&request) {
            return;
        }
        let at = self.whys.iter().position(|known| *known == why).unwrap_or_else(|| {
            self.whys.push(why);
            self.whys.len() - 1
        });
        let until = u32::try_from(now.0.saturating_add(keep)).unwrap_or(u32::MAX);
        let made = made.and_then(|at| u32::try_from(at.0).ok()).unwrap_or(u32::MAX);
        self.requests.insert(request, Entry { why: u32::try_from(at).unwrap_or_default(), until, made });
    }

    /// When the oldest was made of those that wait for something to end, and not for a change of themselves or of the topology.
    pub(super) fn waiting_since(&self, now: UnixSeconds) -> Made {
        let waits = |why: &Why| matches!(why, Why::Away(_) | Why::Banned);
        if !self.whys.iter().any(waits) {
            return None;
        }
        let now = u32::try_from(now.0).unwrap_or_default();
        let waiting =
            self.requests.values().filter(|entry| entry.until > now && waits(&self.whys[entry.why as usize]));
        waiting
            .map(|entry| entry.made)
            .filter(|made| *made != u32::MAX)
            .min()
            .map(|made| UnixSeconds(made.into()))
    }

    /// Keeps of these requests those that are to be looked at, and counts the others by reason.
    pub(super) fn sift(
        &self,
        requests: &mut Vec<RequestKey>,
        now: UnixSeconds,
        left: &mut BTreeMap<String, usize>,
    ) {
        if self.requests.is_empty() {
            return;
        }
        let now = u32::try_from(now.0).unwrap_or_default();
        let mut counts = vec![0; self.whys.len()];
        requests.retain(|request| match self.requests.get(request) {
            Some(entry) if entry.until > now => {
                counts[entry.why as usize] += 1;
                false
            }
            _ => true,
        });
        for (why, count) in self.whys.iter().zip(counts).filter(|(_, count)| *count > 0) {
            if let Some(words) = why.words() {
                *left.entry(words).or_default() += count;
            }
        }
    }

    /// An FTS can be used again: what waited for it does no longer. Returns how many.
    pub(super) fn back(&mut self, fts: &str) -> usize {
        let why = self.whys.iter().position(|why| matches!(why, Why::Away(away) if **away == *fts));
        let Some(why) = why.and_then(|at| u32::try_from(at).ok()) else { return 0 };
        let before = self.requests.len();
        self.requests.retain(|_, entry| entry.why != why);
        before - self.requests.len()
    }

    /// The topology has changed, by which was decided.
    pub(super) fn forget_decisions(&mut self) {
        let whys = &self.whys;
        self.requests.retain(|_, entry| matches!(whys[entry.why as usize], Why::Away(_)));
        self.requests.shrink_to_fit();
    }

    /// Lets go of what is due, at times.
    pub(super) fn tidy(&mut self, now: UnixSeconds) {
        let now = u32::try_from(now.0).unwrap_or_default();
        self.requests.retain(|_, entry| entry.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_passed_over_until_something_changes() {
        let (mut left, now) = (Left::default(), UnixSeconds(1_000_000));
        let keys: Vec<_> = (1..=4).map(|n| RequestKey::of(&format!("{n:032x}"))).collect();
        let made = |before: i64| Some(UnixSeconds(now.0 - before));
        assert_eq!(left.waiting_since(now), None);
        left.leave(keys[0], made(5000), Why::Decided("tape".into()), now);
        left.leave(keys[1], made(4000), Why::Ineligible, now);
        left.leave(keys[2], made(30), Why::Away("https://f".into()), now);
        left.leave(keys[3], None, Why::Banned, now);
        assert_eq!(left.waiting_since(now), made(30), "what was decided does not wait");
        left.requests.remove(&keys[3]);
        let sifted = |left: &Left, after: i64| {
            let (mut rest, mut counts) = (keys.clone(), BTreeMap::new());
            left.sift(&mut rest, UnixSeconds(now.0 + after), &mut counts);
            (rest, counts)
        };
        let (rest, counts) = sifted(&left, 0);
        assert_eq!(rest, [keys[3]]);
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("FTS https://f cannot be used now".to_owned(), 1), ("tape".to_owned(), 1)]
        );
        assert_eq!(sifted(&left, INELIGIBLE_S).0, [keys[1], keys[3]]);
        assert_eq!(sifted(&left, 2 * DECIDED_S).0, keys);
        assert_eq!((left.back("https://g"), left.back("https://f"), left.back("https://f")), (0, 1, 0));
        left.forget_decisions();
        assert_eq!(sifted(&left, 0).0, keys);
    }
}
