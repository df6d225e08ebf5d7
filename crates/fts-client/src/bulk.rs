//! Many jobs in few requests: ids go into the request line as far as it is long.

use std::collections::VecDeque;

use reqwest::Method;

use crate::answer::{Answer, Answered};
use crate::calls::{Priority, fields_query};
use crate::client::{Call, FtsClient, Sent};
use crate::error::FtsError;
use crate::id::JobId;
use crate::query::FileFields;
use crate::status::{Change, Lookup};

/// Longest request line that we send, in bytes. The Apache in front of FTS takes 8190 (`LimitRequestLine`) and answers 414 to
/// more; some room is left for what a proxy puts before the path.
const REQUEST_LINE: usize = 8000;
/// Most jobs of one request, however short the line: their answer is held in memory.
const MOST: usize = 220;

type Read<T> = fn(&Answer, &[JobId]) -> Result<Vec<Answered<T>>, FtsError>;

/// A call over many jobs, done one request at a time: [`Bulk::next`] sends the next. Only one answer is held in memory.
pub struct Bulk<'a, T> {
    client: &'a FtsClient,
    name: &'static str,
    method: Method,
    tail: String,
    body: Option<Vec<u8>>,
    read: Read<T>,
    waiting: VecDeque<&'a [JobId]>,
    requests: u64,
}

impl FtsClient {
    /// Looks many jobs up: some 200 in each request. Ask for an id once; a second time FTS says nothing of it.
    pub fn poll<'a>(&'a self, ids: &'a [JobId], fields: FileFields) -> Bulk<'a, Lookup> {
        Bulk::new(self, ids, ("poll", Method::GET), fields_query(fields), None, Answer::jobs)
    }

    /// Cancels many jobs.
    pub fn cancel_many<'a>(&'a self, ids: &'a [JobId]) -> Bulk<'a, Change> {
        Bulk::new(self, ids, ("cancel", Method::DELETE), String::new(), None, Answer::changes)
    }

    /// Changes the priority of many jobs.
    pub fn set_priority_many<'a>(&'a self, ids: &'a [JobId], priority: Priority) -> Bulk<'a, Change> {
        let body = Some(priority.body());
        Bulk::new(self, ids, ("priority", Method::POST), String::new(), body, Answer::changes)
    }
}

impl<'a, T> Bulk<'a, T> {
    fn new(
        client: &'a FtsClient,
        ids: &'a [JobId],
        (name, method): (&'static str, Method),
        tail: String,
        body: Option<Vec<u8>>,
        read: Read<T>,
    ) -> Self {
        let fixed =
            method.as_str().len() + client.base.len() + " /jobs/".len() + tail.len() + " HTTP/1.1\r\n".len();
        let waiting = ids.chunks(per_request(fixed)).collect();
        Self { client, name, method, tail, body, read, waiting, requests: 0 }
    }

    /// How many requests were sent.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Sends the next request: the jobs of it, in the order asked, or why none of them is known. `None` when all were asked
    /// for. A request that the server finds too long, or whose answer is, is sent in halves.
    pub async fn next(&mut self) -> Option<Result<Vec<Answered<T>>, FtsError>> {
        loop {
            let ids = self.waiting.pop_front()?;
            let sent = self.send(ids).await;
            let too_long = match &sent {
                Ok(Sent::TooLong) => true,
                Ok(Sent::Answer(answer)) => answer.status() == 414,
                Err(_) => false,
            };
            if too_long && ids.len() > 1 {
                let (first, second) = ids.split_at(ids.len() / 2);
                self.waiting.push_front(second);
                self.waiting.push_front(first);
                continue;
            }
            return Some(match sent.and_then(|sent| sent.answer(self.client, self.name)) {
                Ok(answer) => (self.read)(&answer, ids),
                Err(error) => Err(error),
            });
        }
    }

    async fn send(&mut self, ids: &[JobId]) -> Result<Sent, FtsError> {
        let mut path = String::with_capacity(REQUEST_LINE);
        for id in ids {
            path.push_str(if path.is_empty() { "/jobs/" } else { "," });
            path.push_str(id.as_str());
        }
        path.push_str(&self.tail);
        self.requests += 1;
        let call =
            Call { name: self.name, method: self.method.clone(), path: &path, body: self.body.as_deref() };
        self.client.ask(call).await
    }
}

/// How many ids fit beside so many other bytes of a request line. An id is 36 characters and a comma.
fn per_request(fixed: usize) -> usize {
    (REQUEST_LINE.saturating_sub(fixed) / 37).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_holds_two_hundred_ids() {
        let poll = "GET https://fts.example.org:8446/jobs/ HTTP/1.1\r\n".len()
            + fields_query(FileFields::Poll).len();
        assert!((200..=220).contains(&per_request(poll)), "{}", per_request(poll));
        assert_eq!(per_request(10_000), 1);
        assert_eq!(per_request(0), 216);
    }
}
