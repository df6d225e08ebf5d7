//! What is answered to one request: from the database, or after a renewal.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tokio::time::Instant;

use super::message::Response;
use crate::fresh::renewer::{Outcome, Renewer};
use crate::fresh::will_do;

/// While another worker renews the token, so often it is looked whether it has done so.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What goes on after the answer.
pub(super) type Rest<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Answers within `within`, whatever happens. What is under way then is to go on: a refresh token that was used may be ended by the
/// answer that is still to come.
pub(super) async fn answer<'a>(
    renewer: &'a Renewer,
    id: String,
    within: Duration,
) -> (Response, Option<Rest<'a>>) {
    let asked = id.clone();
    let late = || {
        let why = "its renewal takes longer than a refresh request may wait, and goes on";
        Response::failure(&id, why, renewer.clock.now())
    };
    in_time(async move { tried(renewer, &asked, within).await }, within, late).await
}

/// What comes of `work` in time, or what is said `late` and the rest of it.
async fn in_time<'a, T>(
    work: impl Future<Output = T> + 'a,
    within: Duration,
    late: impl FnOnce() -> T,
) -> (T, Option<Rest<'a>>) {
    let mut work = Box::pin(work);
    match tokio::time::timeout(within, &mut work).await {
        Ok(done) => (done, None),
        Err(_) => (late(), Some(Box::pin(async move { drop(work.await) }))),
    }
}

/// Tries until there is an answer, or until the next try would be after `within`.
async fn tried(renewer: &Renewer, id: &str, within: Duration) -> Response {
    let end = Instant::now() + within;
    let mut waits = Waits::new(&RetryPolicy {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(8),
        ..RetryPolicy::default()
    });
    // How often the token had been tried when we first saw it, as long as we have not tried it ourselves.
    let mut before: Option<i64> = None;
    loop {
        let (why, rest) = match look(renewer, id, &mut before).await {
            Look::Answer(response) => return response,
            Look::Again(why) => (why, waits.pause()),
            Look::Busy => ("another worker renews it, and it takes long".to_owned(), LOOK_EVERY),
        };
        if Instant::now() + rest > end {
            return Response::failure(id, &why, renewer.clock.now());
        }
        tokio::time::sleep(rest).await;
    }
}

enum Look {
    Answer(Response),
    /// It did not succeed, for now.
    Again(String),
    /// Another has it in hand.
    Busy,
}

async fn look(renewer: &Renewer, id: &str, before: &mut Option<i64>) -> Look {
    let refused = |why: &str, now: UnixSeconds| Look::Answer(Response::failure(id, why, now));
    let now = renewer.clock.now();
    let token = match renewer.fts.renewable(&[id]).await {
        Ok(mut found) => match found.remove(id) {
            Some(token) => token,
            None => return refused("FTS's database has no such token", now),
        },
        Err(error) => return Look::Again(error.to_string()),
    };
    if will_do(token.obtained_at, token.expires_at, renewer.margin, now) {
        return Look::Answer(Response::token(id, &token.token, token.expires_at));
    }
    // Counted, not timed: a failure in the same second is one too.
    match (*before, &token.message) {
        (Some(turn), Some(why)) if turn != token.turn => return refused(why, now),
        (None, _) => *before = Some(token.turn),
        _ => (),
    }
    match renewer.renew_now(&token).await {
        Ok(Some(Outcome::Renewed(new, expires_at))) => Look::Answer(Response::token(id, &new, expires_at)),
        Ok(Some(Outcome::Refused(why))) => refused(&why, renewer.clock.now()),
        Ok(Some(Outcome::NotNow(why))) => {
            *before = None;
            Look::Again(why)
        }
        Ok(None) => Look::Busy,
        Err(error) => Look::Again(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_failure_is_answered_in_time_while_the_renewal_goes_on() {
        let (go_on, ready) = tokio::sync::oneshot::channel::<()>();
        let renewed = AtomicBool::new(false);
        let work = async {
            let _ = ready.await;
            renewed.store(true, Ordering::Relaxed);
            "renewed"
        };
        let (answer, rest) = in_time(work, Duration::from_millis(1), || "late").await;
        assert_eq!((answer, renewed.load(Ordering::Relaxed)), ("late", false));
        go_on.send(()).unwrap();
        rest.unwrap().await;
        assert!(renewed.load(Ordering::Relaxed), "not given up half way");
        let (answer, rest) = in_time(async { "renewed" }, Duration::from_secs(60), || "late").await;
        assert_eq!((answer, rest.is_none()), ("renewed", true));
    }
}
