//! The looks in hand: a budget for all of them, and a word to a person who waits.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::finding::{Finding, listed};

/// A person who waits longer than this is told for what.
const QUIET: Duration = Duration::from_secs(2);
/// Looks at a time, where there are many alike.
const AT_A_TIME: usize = 8;

/// The looks in hand.
pub struct Desk {
    end: Instant,
    within: Duration,
    in_hand: Arc<Mutex<BTreeSet<String>>>,
    teller: Option<JoinHandle<()>>,
}

impl Desk {
    /// With so much time for all. Standard error tells what is waited for, if it is a terminal.
    pub fn new(within: Duration) -> Self {
        let in_hand: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let shown = Arc::clone(&in_hand);
        let teller = std::io::stderr().is_terminal().then(|| {
            tokio::spawn(async move {
                loop {
                    sleep(QUIET).await;
                    tell(&shown.lock().unwrap_or_else(PoisonError::into_inner));
                }
            })
        });
        Self { end: Instant::now() + within, within, in_hand, teller }
    }

    /// One look; none when the time is up.
    pub async fn look<T>(&self, of: &str, work: impl Future<Output = T>) -> Option<T> {
        let hand = || self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        hand().insert(of.to_owned());
        let done = timeout_at(self.end, work).await.ok();
        hand().remove(of);
        done
    }

    /// Many looks alike, some at a time, in the order of `all`.
    pub async fn each<T, R, F: Future<Output = R>>(
        &self,
        all: impl IntoIterator<Item = T>,
        work: impl FnMut(T) -> F,
    ) -> Vec<R> {
        stream::iter(all).map(work).buffered(AT_A_TIME).collect().await
    }

    /// What stands for a look for which the time was up.
    pub fn late(&self, of: &str, check: &'static str) -> Finding {
        let found = format!("the {} s of --within were up before an answer", self.within.as_secs());
        Finding::passing(of, check, found, "look again, or give it more time")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(teller) = &self.teller {
            teller.abort();
        }
    }
}

#[expect(clippy::print_stderr, reason = "a person waits; logs are for the daemon")]
fn tell(in_hand: &BTreeSet<String>) {
    if !in_hand.is_empty() {
        let all: Vec<&String> = in_hand.iter().collect();
        eprintln!("looking at {}", listed(&all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_left() {
        let desk = Desk::new(Duration::from_millis(50));
        assert_eq!(desk.look("quick", async { 1 }).await, Some(1));
        assert_eq!(desk.look("slow", std::future::pending::<u8>()).await, None);
        let all = desk.each([3, 1, 2], async |n| n * 2).await;
        assert_eq!(all, [6, 2, 4]);
        assert!(desk.late("slow", "x").may_pass);
    }
}
