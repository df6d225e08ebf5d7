//! The cache behind memory. Its calls may block, so they are made where blocking does no harm: one after the other, by one thread at a
//! time, and tokens that come together are kept together, which costs a store little more than keeping one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::cache::{CacheError, CacheKey, CachedToken, TokenCache};

/// Most tokens kept together: who waits for the first waits for all.
const TOGETHER: usize = 256;

type Answer<T> = oneshot::Sender<Result<T, CacheError>>;

enum Wanted {
    Get(CacheKey, Answer<Option<CachedToken>>),
    Put((CacheKey, CachedToken), Answer<()>),
}

/// A cache, and what is wanted of it.
pub(super) struct Behind {
    pub(super) cache: Arc<dyn TokenCache>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    /// Whether a thread is at it.
    worked_on: bool,
}

impl Behind {
    pub(super) fn new(cache: Arc<dyn TokenCache>) -> Self {
        Self { cache, queue: Arc::default() }
    }

    /// What is kept under `key`; `None` when the call was not made to its end.
    pub(super) async fn get(&self, key: CacheKey) -> Option<Result<Option<CachedToken>, CacheError>> {
        let (answer, answered) = oneshot::channel();
        self.want(Wanted::Get(key, answer));
        answered.await.ok()
    }

    /// Keeps a token; `None` when the call was not made to its end.
    pub(super) async fn put(&self, key: CacheKey, token: CachedToken) -> Option<Result<(), CacheError>> {
        let (answer, answered) = oneshot::channel();
        self.want(Wanted::Put((key, token), answer));
        answered.await.ok()
    }

    /// Makes any call, beside those.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn TokenCache) -> T + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(&self.cache);
        tokio::task::spawn_blocking(move || call(cache.as_ref())).await.ok()
    }

    fn want(&self, wanted: Wanted) {
        let mut queue = lock(&self.queue);
        queue.wanted.push_back(wanted);
        if !std::mem::replace(&mut queue.worked_on, true) {
            let (cache, queue) = (Arc::clone(&self.cache), Arc::clone(&self.queue));
            tokio::task::spawn_blocking(move || work(cache.as_ref(), &queue));
        }
    }
}

fn work(cache: &dyn TokenCache, queue: &Mutex<Queue>) {
    while let Some(next) = next(queue) {
        // sled is known to panic on damage: who asked is told by its answer going away, and the others are served.
        let _ = catch_unwind(AssertUnwindSafe(|| serve(cache, next)));
    }
}

/// What is wanted next: one look, or tokens that came together. `None`: nothing, and the next wish begins anew.
fn next(queue: &Mutex<Queue>) -> Option<Vec<Wanted>> {
    let mut queue = lock(queue);
    if queue.wanted.is_empty() {
        queue.worked_on = false;
        return None;
    }
    let put = |wanted: &&Wanted| matches!(wanted, Wanted::Put(..));
    let together = queue.wanted.iter().take(TOGETHER).take_while(put).count();
    Some(queue.wanted.drain(..together.max(1)).collect())
}

fn serve(cache: &dyn TokenCache, wanted: Vec<Wanted>) {
    let (mut tokens, mut answers) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match wanted {
            // Who asked may have gone.
            Wanted::Get(key, answer) => _ = answer.send(cache.get(&key)),
            Wanted::Put(token, answer) => {
                tokens.push(token);
                answers.push(answer);
            }
        }
    }
    if tokens.is_empty() {
        return;
    }
    let together = cache.put_all(&tokens);
    for ((key, token), answer) in tokens.iter().zip(answers) {
        // What failed together is tried alone: each hears of its own trouble.
        let put = if together.is_ok() { Ok(()) } else { cache.put(key, token) };
        _ = answer.send(put);
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::cache::{CacheHealth, MemoryCache, Tended};
    use crate::clock::UnixSeconds;
    use crate::scope::ScopeSet;
    use crate::secret::AccessToken;

    /// Counts, takes its time, and breaks when told to.
    #[derive(Default)]
    struct Slow {
        kept: MemoryCache,
        put_alls: AtomicUsize,
        fails: AtomicBool,
        panics: AtomicBool,
    }

    impl TokenCache for Slow {
        fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
            assert!(!self.panics.swap(false, Ordering::SeqCst), "told to");
            self.kept.get(key)
        }

        fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
            self.kept.put(key, token)
        }

        fn put_all(&self, tokens: &[(CacheKey, CachedToken)]) -> Result<(), CacheError> {
            self.put_alls.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            if self.fails.load(Ordering::SeqCst) {
                return Err(CacheError::Away("told to".into()));
            }
            tokens.iter().try_for_each(|(key, token)| self.put(key, token))
        }

        fn tend(&self, now: UnixSeconds) -> Result<Tended, CacheError> {
            self.kept.tend(now)
        }

        fn health(&self) -> CacheHealth {
            self.kept.health()
        }
    }

    fn key(n: usize) -> CacheKey {
        let empty = String::new;
        CacheKey {
            issuer: empty(),
            client_id: empty(),
            subject: empty(),
            audience: n.to_string(),
            scope: ScopeSet::default(),
        }
    }

    fn token() -> CachedToken {
        let token = AccessToken::new("t").unwrap();
        CachedToken { token, obtained_at: UnixSeconds(0), expires_at: UnixSeconds(9) }
    }

    async fn put_many(behind: &Arc<Behind>) {
        let puts: Vec<_> = (0..200)
            .map(|n| {
                tokio::spawn({
                    let behind = Arc::clone(behind);
                    async move { behind.put(key(n), token()).await }
                })
            })
            .collect();
        for put in puts {
            assert!(put.await.unwrap().unwrap().is_ok());
        }
        for n in 0..200 {
            assert_eq!(behind.get(key(n)).await.unwrap().unwrap(), Some(token()), "{n}");
        }
    }

    #[tokio::test]
    async fn tokens_that_come_together_are_kept_together_and_a_failure_is_each_ones_own() {
        for fails in [false, true] {
            let slow = Arc::new(Slow::default());
            slow.fails.store(fails, Ordering::SeqCst);
            let behind = Arc::new(Behind::new(slow.clone()));
            put_many(&behind).await;
            let together = slow.put_alls.load(Ordering::SeqCst);
            assert!((1..=20).contains(&together), "{together} times");
        }
    }

    #[tokio::test]
    async fn a_cache_that_panics_keeps_nobody_waiting() {
        let slow = Arc::new(Slow::default());
        slow.panics.store(true, Ordering::SeqCst);
        let behind = Arc::new(Behind::new(slow));
        assert!(behind.get(key(1)).await.is_none());
        put_many(&behind).await;
    }
}
