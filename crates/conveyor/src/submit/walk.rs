//! Which requests come next: page by page, oldest first, and those that came meanwhile in between.

use std::collections::VecDeque;
use std::time::Duration;

use token_core::UnixSeconds;
use tokio::time::Instant;

use super::{Pass, Submitter};
use crate::request::RequestKey;
use crate::rucio::DatabaseError;
use crate::rucio::queue::{Cursor, Window};
use crate::share::Part;

/// A request that came this long ago, in seconds, may still be news: clocks differ, and a transaction ends after it has written. What
/// takes longer is found by the next walk.
const NEWS_S: i64 = 30;

/// How often a long walk looks at what has come meanwhile.
const NEWS_EVERY: Duration = Duration::from_secs(1);

/// A walk over the queue.
pub(super) struct Walk {
    /// Where it goes on; `None` at the end.
    cursor: Option<Cursor>,
    window: VecDeque<RequestKey>,
    /// What has come meanwhile: it does not wait until the walk, which may be long, is at the end. A page of the one, a page of the other.
    news: VecDeque<RequestKey>,
    news_at: Option<Instant>,
    news_next: bool,
}

impl Walk {
    /// Over the whole queue.
    pub(super) fn whole() -> Self {
        Self {
            cursor: Some(Cursor::default()),
            window: VecDeque::new(),
            news: VecDeque::new(),
            // What is there now is older.
            news_at: Some(Instant::now()),
            news_next: false,
        }
    }

    /// Over what has come lately.
    pub(super) fn news() -> Self {
        Self { cursor: None, news_at: None, ..Self::whole() }
    }

    /// Whether it is over the whole queue and has not begun.
    pub(super) fn is_whole(&self) -> bool {
        self.cursor == Some(Cursor::default())
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(
        &mut self,
        submitter: &Submitter,
        part: &Part,
        pass: &mut Pass,
    ) -> Result<Option<Vec<RequestKey>>, DatabaseError> {
        if submitter.shutdown.soft.is_cancelled() {
            return Ok(None);
        }
        submitter.sight.work.moves();
        let now = submitter.clock.now();
        if self.news_at.is_none_or(|at| at.elapsed() >= NEWS_EVERY) {
            let mut news = submitter.rucio.arrived(part, UnixSeconds(now.0 - NEWS_S)).await?;
            submitter.memory.left().sift(&mut news, now, &mut Default::default());
            self.news = news.into();
            self.news_at = Some(Instant::now());
        }
        while self.window.is_empty() {
            let Some(cursor) = self.cursor.take() else { break };
            if let Some(Window { keys: mut oldest, next }) = submitter.rucio.oldest(part, &cursor).await? {
                pass.queue.requests += oldest.len();
                submitter.memory.left().sift(&mut oldest, now, &mut pass.report.left);
                self.window = oldest.into();
                self.cursor = Some(next);
            }
        }
        self.news_next = !self.news_next;
        let from = match (self.news.is_empty(), self.window.is_empty()) {
            (false, _) if self.news_next => &mut self.news,
            (_, false) => &mut self.window,
            (false, true) => &mut self.news,
            (true, true) => return Ok(None),
        };
        let page = from.len().min(submitter.tempo.now().batch as usize);
        Ok(Some(from.drain(..page).collect()))
    }
}
