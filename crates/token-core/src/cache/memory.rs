//! Tokens in memory, gone with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{CacheError, CacheHealth, CacheKey, CachedToken, Tended, TokenCache};
use crate::clock::UnixSeconds;

/// How many tokens are kept when nothing else is said. A token is some 2 kB.
const DEFAULT_ENTRIES: usize = 10_000;

/// Tokens in memory, at most so many. When it is full, those go that were not asked for the longest.
#[derive(Debug)]
pub struct MemoryCache {
    most: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    map: HashMap<CacheKey, Entry>,
    /// Counts the uses, so that it tells which came later.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    token: CachedToken,
    used: u64,
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(DEFAULT_ENTRIES)
    }
}

impl MemoryCache {
    /// At most `most` tokens; at least one.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), entries: Mutex::default() }
    }

    /// All that is kept.
    pub(crate) fn all(&self) -> Vec<(CacheKey, CachedToken)> {
        self.lock().map.iter().map(|(key, entry)| (key.clone(), entry.token.clone())).collect()
    }

    /// Looks at all that is kept; it does not count as use.
    pub(crate) fn each(&self, mut look: impl FnMut(&CacheKey, &CachedToken)) {
        self.lock().map.iter().for_each(|(key, entry)| look(key, &entry.token));
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenCache for MemoryCache {
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
        let mut entries = self.lock();
        entries.uses += 1;
        let used = entries.uses;
        Ok(entries.map.get_mut(key).map(|entry| {
            entry.used = used;
            entry.token.clone()
        }))
    }

    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        let mut entries = self.lock();
        entries.uses += 1;
        let used = entries.uses;
        if entries.map.len() >= self.most && !entries.map.contains_key(key) {
            make_room(&mut entries.map, self.most);
        }
        entries.map.insert(key.clone(), Entry { token: token.clone(), used });
        Ok(())
    }

    fn tend(&self, now: UnixSeconds) -> Result<Tended, CacheError> {
        let mut entries = self.lock();
        let before = entries.map.len();
        entries.map.retain(|_, entry| entry.token.expires_at > now);
        Ok(Tended { removed: before - entries.map.len(), mended: false })
    }

    fn health(&self) -> CacheHealth {
        CacheHealth { entries: self.lock().map.len(), ..CacheHealth::default() }
    }
}

/// Forgets a sixteenth at once, so that a full cache is not sorted for every token.
fn make_room(map: &mut HashMap<CacheKey, Entry>, most: usize) {
    let keep = most - (most / 16).max(1);
    let mut used: Vec<u64> = map.values().map(|entry| entry.used).collect();
    used.sort_unstable();
    let last_to_go = used[used.len() - 1 - keep];
    map.retain(|_, entry| entry.used > last_to_go);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::ScopeSet;
    use crate::secret::AccessToken;

    fn key(n: usize) -> CacheKey {
        CacheKey {
            issuer: "https://i".into(),
            client_id: "c".into(),
            subject: "s".into(),
            audience: n.to_string(),
            scope: ScopeSet::default(),
        }
    }

    #[test]
    fn what_is_used_stays_when_room_is_needed() {
        for most in [1, 2, 40] {
            let cache = MemoryCache::new(most);
            let token = |n: usize| CachedToken {
                token: AccessToken::new(format!("t{n}")).unwrap(),
                obtained_at: UnixSeconds(0),
                expires_at: UnixSeconds(100),
            };
            for n in 0..1000 {
                cache.put(&key(n), &token(n)).unwrap();
                assert!(cache.health().entries <= most);
                assert_eq!(cache.get(&key(n)).unwrap(), Some(token(n)));
                let first = cache.get(&key(0)).unwrap();
                assert_eq!(first.is_some(), n == 0 || most > 1, "the one that is asked for each time stays");
            }
            assert!(cache.health().entries > most / 2);
            let held = cache.health().entries;
            assert_eq!(cache.tend(UnixSeconds(99)).unwrap().removed, 0);
            assert_eq!(cache.tend(UnixSeconds(100)).unwrap().removed, held);
            assert_eq!(cache.health().entries, 0);
        }
    }
}
